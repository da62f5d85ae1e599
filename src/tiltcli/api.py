"""The public functions for use from Python, the same as the commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiltcli.errors import UserError, each

if TYPE_CHECKING:
    from tiltcli.evaluation.comparison import Comparison
    from tiltcli.execution.runner import Summary


def sweep(
    spec: str | Path | Mapping[str, Any],
    *,
    results: str | Path = "results",
    overrides: Sequence[str] = (),
    engine: str = "auto",
    workers: int | None = None,
    retry_failed: bool = False,
    fail_fast: bool = False,
    fresh: bool = False,
    extend: bool = False,
    shard: str | None = None,
    cluster: str | None = None,
    device: str = "auto",
) -> Summary:
    """Run a sweep; what is already done is not done again.

    Args:
        spec: path of a grid file, or its content as a mapping (with a `name`).
        results: folder that runs are kept under.
        overrides: texts `key=value`, as of `--set`.
        engine: "auto", "fused" or "torch".
        workers: jobs trained at once; 0: one after the other in this process, for a debugger or a
            profiler; None for one per core.
        retry_failed: run failed jobs again too.
        fail_fast: stop at the first failed job.
        fresh: remove an earlier run of this name first.
        extend: let an earlier run of another grid grow by what is new here; what is done stays.
        shard: "I/N", every N-th job from the I-th on; None for all.
        cluster: address of a Dask scheduler whose workers train the jobs; None for this machine.
        device: where torch trains: "auto", "cpu" or "cuda".

    Returns:
        what was done.

    Raises:
        UserError: with every fault of the grid, its data and its files.

    Example:
        >>> import tempfile, tiltcli
        >>> grid = {"name": "tiny", "data": {"kind": "spiral"}, "model": {"width": 5},
        ...         "loss": {"kind": "static"}, "train": {"epochs": 10}}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     tiltcli.sweep(grid, results=folder).ended["completed"]
        1

    """
    from tiltcli.execution.run_options import RunOptions
    from tiltcli.execution.runner import run_sweep
    from tiltcli.grid import load_sweep, parse_sweep
    from tiltcli.grid.shards import Shard

    if isinstance(spec, Mapping):
        import tomli_w

        try:
            text = tomli_w.dumps(dict(spec))
        except (TypeError, ValueError) as error:
            raise UserError(f"the grid holds what TOML cannot: {error}") from None
        grid = parse_sweep(text, name="sweep", folder=Path(), overrides=overrides)
    else:
        grid = load_sweep(spec, overrides)
    options = RunOptions(
        engine=engine,
        workers=workers,
        retry_failed=retry_failed,
        fail_fast=fail_fast,
        fresh=fresh,
        extend=extend,
        shard=Shard.parse(shard) if shard is not None else None,
        device=device,
    )
    with ExitStack() as stack:
        trainer = None
        if cluster is not None:
            from tiltcli.execution.dask import ClusterTrainer

            trainer = stack.enter_context(ClusterTrainer(cluster))
        return run_sweep(
            grid,
            Path(results),
            options,
            trainer=trainer,
            command=("tiltcli.sweep",),
        )


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
