"""What is done with runs: `tiltcli.runs`, `compare`, `confirm`, `report` and `load`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiltcli.errors import UserError, each

if TYPE_CHECKING:
    import pandas as pd

    from tiltcli.evaluation.comparison import Comparison
    from tiltcli.networks.classifier import Classifier


def runs(results: str | Path = "results", *, sort: str = "name") -> pd.DataFrame:
    """List the runs.

    Args:
        results: folder that runs are kept under.
        sort: column to order by; names rise, all else falls.

    Returns:
        one row per run: name, folder, jobs (of its grid), done, missing, completed, diverged,
        failed, seconds (of training, over all cores), changed (UTC).

    Propagates `UserError` if a run cannot be read, or there is no such column.

    """
    import pandas as pd

    from tiltcli.store.run_folders import all_facts

    columns = ["name", "folder", "jobs", "done", "missing", "completed", "diverged", "failed"]
    return pd.DataFrame(all_facts(Path(results), sort), columns=[*columns, "seconds", "changed"])


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


def confirm(
    run: str | Path,
    *,
    output: str | Path | None = None,
    results: str | Path = "results",
    metric: str | None = None,
    tune: bool = False,
    methods: Sequence[str] | None = None,
    by: Sequence[str] | None = None,
    seeds: int = 20,
) -> dict[str, Any]:
    """Return the grid that confirms a run: its best cells against static, on fresh seeds.

    `tiltcli.sweep(tiltcli.confirm("spiral-phase"))` trains it.

    Args:
        run: a run, by name or path.
        output: grid file to write as well.
        results: folder that runs are kept under.
        metric: column whose mean over the seeds chooses; None: validation accuracy.
        tune: tune every method, static too; fresh draws of the data as well.
        methods: with `tune`, settings that tell methods apart.
        by: with `tune`, settings that tell rows apart; None: the network and the data.
        seeds: number of fresh seeds.

    Returns:
        the grid.

    Propagates `UserError` if there is nothing to choose, or the file cannot be written.

    """
    import tomllib
    from functools import partial

    from tiltcli.evaluation.next_grids import confirmation_grid
    from tiltcli.store.files import write_output

    grid = partial(confirmation_grid, run, results=results, metric=metric, tuned=tune)
    grid = partial(grid, methods=methods, by=by, seeds=seeds)
    if output is not None:
        written = grid(folder=Path(output).parent)
        write_output(Path(output), lambda to: to.write_text(written, encoding="utf-8"))
    return tomllib.loads(grid(folder=Path()))


def report(
    *runs: str | Path, output: str | Path | None = None, results: str | Path = "results"
) -> Path:
    """Write a report of runs: verdicts on the claims, figures to explore, tables, provenance.

    Args:
        runs: names under `results`, or paths.
        output: file to write, .html or .md; None: report.html under `results`.
        results: folder that runs are kept under.

    Returns:
        the file.

    Raises:
        UserError: if no run is named, one is unknown or empty, or the file cannot be written.

    """
    from tiltcli.reports import write_report

    if not runs:
        raise UserError("report: name at least one run")
    path = Path(output) if output is not None else Path(results) / "report.html"
    write_report(runs, path, Path(results))
    return path


def load(
    run: str | Path,
    job: str | None = None,
    *,
    results: str | Path = "results",
    where: Sequence[str] = (),
    best: str | None = None,
) -> Classifier:
    """Return a trained network of a run, a `torch.nn.Module` in evaluation mode.

    It takes inputs as they are in the user's data: standardisation, one-hot columns and medians are
    inside. `predict` gives the classes of a pandas table's rows, or of an array's.

    Args:
        run: a name under `results`, or a path.
        job: id of the job, or its beginning; needed where the run has several.
        results: folder that runs are kept under.
        where: conditions that it must meet, such as `model.width == 30`.
        best: a metric; the job that is best by it.

    Returns:
        the network; where the run kept no weights (`train.keep`) it is trained again, and checked
        against the metrics that the run stored.

    Raises:
        UserError: if there is no such job, or its weights cannot be had.

    """  # noqa: DOC502 - by what it calls
    from tiltcli.execution.trained import load_trained

    found = load_trained(run, job, results=Path(results), where=tuple(where), best=best)
    return found.classifier
