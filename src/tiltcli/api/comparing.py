"""`tiltcli.compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tiltcli.errors import each

if TYPE_CHECKING:
    from tiltcli.evaluation.comparison import Comparison


def compare(
    a: str | Path,
    b: str | Path,
    *,
    results: str | Path = "results",
    where: Sequence[str] = (),
    metrics: Sequence[str] = ("train_accuracy", "val_accuracy", "test_accuracy"),
    threshold: float = 0.99,
    best: str | None = None,
    tune: str | None = None,
    methods: Sequence[str] = ("loss.kind",),
    by: Sequence[str] | None = None,
) -> Comparison:
    """Compare two runs, or two selections of runs, pair by pair.

    Args:
        a: a run, with an optional selection: `spiral-phase@loss.kind=static`.
        b: likewise; differences are b − a.
        results: folder that runs are kept under.
        where: conditions both must meet, such as `model.width == 30`; one on a setting that only
            one side has (static jobs have no amplitude) narrows that side.
        metrics: columns of the jobs table to compare.
        threshold: mean final training accuracy of the static jobs from which a width counts as
            overparameterised.
        best: a metric; keep per width the cell with the highest mean of it.
        tune: a metric; each side is represented, in each row, by the one cell of its own that is
            best by it.
        methods: with `tune`, settings that tell methods apart.
        by: with `tune`, settings that tell rows apart; None: the network and the data.

    Returns:
        the comparison; its `rows` are a pandas frame.

    Raises:
        UserError: for unknown runs, columns or metrics, and for runs with nothing to pair.

    """  # noqa: DOC502
    import pandas as pd

    from tiltcli.evaluation import comparison
    from tiltcli.evaluation.selection import lacks, parse_selection, select
    from tiltcli.store.read import find_run, read_jobs

    conditions = [condition for text in where for condition in parse_selection(text)]

    def side(run: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        name, _, selection = run.partition("@")
        jobs = read_jobs(find_run(name, Path(results)))
        own = parse_selection(selection) if selection else []
        return jobs, select(jobs, own, run)

    names = (str(a), str(b))
    whole, picked = zip(*each(side, names), strict=True)
    idle = [[one for one in conditions if lacks(jobs, one)] for jobs in picked]
    alone = [[one for one in idle[i] if one not in idle[1 - i]] for i in (0, 1)]
    sides = each(
        lambda i: select(picked[i], [one for one in conditions if one not in alone[i]], names[i]),
        (0, 1),
    )
    notes = [
        f"{one.key} does not apply to the jobs of {names[i]}: "
        f"{one.text!r} narrows {names[1 - i]} alone"
        for i in (0, 1)
        for one in alone[i]
    ]
    return comparison.compare(
        *sides,
        name_a=str(a),
        name_b=str(b),
        metrics=tuple(metrics),
        threshold=threshold,
        best=best,
        tune=tune,
        methods=methods,
        by=by,
        notes=notes,
        baseline=pd.concat(whole, ignore_index=True).drop_duplicates("job"),
    )
