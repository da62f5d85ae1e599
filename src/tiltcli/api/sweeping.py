"""`tiltcli.sweep`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    progress: bool | None = None,
) -> Summary:
    """Run a sweep; what is already done is not done again.

    Args:
        spec: path of a grid file, or its content as a mapping (with a `name`). In a mapping,
            NumPy's numbers and arrays, tuples and pandas' columns stand for numbers and lists,
            and `data.path` may be the data itself: a DataFrame (with `data.target`), or a mapping
            of arrays (X, y and optionally X_val, y_val, X_test, y_test); it is kept as a file
            under `results`.
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
        progress: show how far it is; None: on a terminal and in a notebook.

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

    """  # noqa: DOC502 - by what it calls
    from tiltcli.api.meter import metered
    from tiltcli.data import fetch_for
    from tiltcli.execution.progress import Progress
    from tiltcli.execution.run_options import RunOptions
    from tiltcli.execution.runner import run_sweep
    from tiltcli.grid import load_sweep, parse_sweep
    from tiltcli.grid.shards import Shard

    if isinstance(spec, Mapping):
        from tiltcli.api.mappings import document_of

        with document_of(spec, Path(results)) as content:
            grid = parse_sweep(content, name="sweep", folder=Path(), overrides=overrides)
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
        fetch_for(grid.jobs)  # before the meter, which its own bar would disturb
        far = Progress()
        with metered(far, grid.name, progress if workers != 0 else bool(progress)):
            return run_sweep(
                grid,
                Path(results),
                options,
                trainer=trainer,
                command=("tiltcli.sweep",),
                progress=far,
            )
