"""`tiltcli.sweep`: of a file or of a program's own objects, and how far it is in one line."""

from __future__ import annotations

import contextvars
import hashlib
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tiltcli.data import fetch_for
from tiltcli.errors import Fault, UserError, plain
from tiltcli.execution.checks import RunOptions
from tiltcli.execution.dask import ClusterTrainer
from tiltcli.execution.progress import Pace, Progress
from tiltcli.execution.runner import Summary, run_sweep
from tiltcli.grid import load_sweep, parse_sweep
from tiltcli.grid.shards import Shard
from tiltcli.store.files import write_whole

KEPT = "in-memory"
"""Folder, beside the runs, of data that came as objects."""

TABLES = ("data.path", "data.val_path", "data.test_path")
ARRAYS = ("data.path", "model.init_file")
FRAME_SECONDS, LINE_SECONDS = 0.2, 10.0


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
    if isinstance(spec, Mapping):
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
    with nullcontext() if cluster is None else ClusterTrainer(cluster) as trainer:
        fetch_for(grid.jobs)  # before the meter, which its own bar would disturb
        far = Progress()
        with metered(far, grid.name, progress if workers != 0 else bool(progress)):
            how: dict[str, Any] = {"trainer": trainer, "command": ("tiltcli.sweep",)}
            return run_sweep(grid, Path(results), options, **how, progress=far)


@contextmanager
def document_of(spec: Mapping[str, Any], results: Path) -> Iterator[dict[str, Any]]:
    """Give the content of a grid file; data in it are kept as files, but not of a refused grid."""
    reader = _Reader(results / KEPT)
    try:
        document = reader.plain(spec, "")
        if reader.faults:
            raise UserError(*reader.faults)
        yield document
    except BaseException:
        for path in reader.written:
            path.unlink(missing_ok=True)
        raise


class _Reader:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.faults: list[Fault] = []
        self.written: list[Path] = []

    def plain(self, value: Any, key: str) -> Any:
        """Value as a grid file has it; faults are noted under its path."""
        name = key.rpartition("].")[2]
        if isinstance(value, pd.DataFrame):
            if name in TABLES:
                return self._kept(key, value)
            where = " or ".join(TABLES)
            return self._fault(key, f"got a DataFrame; one stands at {where}; here, a column of it")
        if isinstance(value, Mapping):
            if name in ARRAYS:
                return self._kept(key, value)
            return {
                str(own): self.plain(one, f"{key}.{own}" if key else str(own))
                for own, one in value.items()
            }
        if hasattr(value, "tolist"):  # of NumPy, pandas or torch
            value = value.tolist()
        if isinstance(value, list | tuple | range):
            return [self.plain(one, f"{key}[{i}]") for i, one in enumerate(value)]
        if isinstance(value, Path):
            return str(value)
        if isinstance(value, bool | int | float | str):
            return value
        if value is None:
            return self._fault(key, "got None; leave it out for its default")
        kind = type(value).__name__
        return self._fault(key, f"got a {kind}; allowed: texts, numbers, lists, arrays, mappings")

    def _fault(self, key: str, message: str) -> None:
        self.faults.append(Fault(message, key=key))

    def _kept(self, key: str, data: pd.DataFrame | Mapping[str, Any]) -> str | None:
        """Path of the file that has the data; it goes by its content, so the same data are one."""
        digest = hashlib.sha256()
        try:
            if isinstance(data, pd.DataFrame):
                suffix = ".parquet"
                digest.update(repr([*map(str, data.columns), *map(str, data.dtypes)]).encode())
                digest.update(pd.util.hash_pandas_object(data, index=False).to_numpy().tobytes())
            else:
                suffix = ".npz"
                data = {str(name): np.asarray(one) for name, one in data.items()}
                for name, one in data.items():
                    if one.dtype.hasobject:
                        raise TypeError(f"{name} is an array of objects")
                    digest.update(repr((name, one.dtype.str, one.shape)).encode())
                    digest.update(one.tobytes())
            path = self.folder / f"{digest.hexdigest()[:16]}{suffix}"
            if not path.exists():
                self.folder.mkdir(parents=True, exist_ok=True)
                write_whole(path, lambda to: _write(to, data))
                self.written.append(path)
        except (TypeError, ValueError, OSError) as error:
            self._fault(key, f"cannot be kept as a file: {error}")
            return None
        return str(path)


def _write(to: Path, data: pd.DataFrame | Mapping[str, Any]) -> None:
    if isinstance(data, pd.DataFrame):
        data.to_parquet(to, index=False)
        return
    with to.open("wb") as file:
        np.savez(file, allow_pickle=False, **data)


@contextmanager
def metered(progress: Progress, name: str, wanted: bool | None) -> Iterator[None]:
    """Show a sweep's progress while the body runs."""
    notebook, terminal = _in_notebook(), not plain(sys.stderr)
    if not (notebook or terminal or wanted) or wanted is False:
        yield
        return
    every = FRAME_SECONDS if notebook or terminal else LINE_SECONDS
    show = _cell() if notebook else _rewritten if terminal else _line
    pace, started, ended = Pace(progress), time.monotonic(), threading.Event()

    def tell() -> None:
        said = pace.line(time.monotonic() - started)
        show(f"{name}: {said}", progress.done / max(progress.total, 1))

    def run() -> None:
        while not ended.wait(every):
            tell()

    # A notebook's outputs go to the cell that the context names.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        tell()
        if terminal and not notebook:
            sys.stderr.write("\n")


def _in_notebook() -> bool:
    """Whether a Jupyter kernel runs this: IPython on a terminal has none."""
    shell = sys.modules.get("IPython")
    return shell is not None and hasattr(shell.get_ipython(), "kernel")


def _line(text: str, share: float) -> None:
    sys.stderr.write(text + "\n")


def _rewritten(text: str, share: float) -> None:
    sys.stderr.write(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}")
    sys.stderr.flush()


def _cell() -> Callable[[str, float], None]:
    """Return what writes into an output of the notebook's cell, in place of what it had."""
    from IPython import display

    show: Callable[..., Any] = display.display
    html: Callable[[str], Any] = display.HTML

    def page(text: str, share: float) -> Any:
        return html(f'<progress value="{share:.3f}" max="1"></progress> {escape(text)}')

    handle = show(page("", 0.0), display_id=True)
    return lambda text, share: handle.update(page(text, share))
