"""What all figures share: colours, sizes, and how they are written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiltcli.records import UserError, listing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
"""Okabe and Ito's palette, told apart with any colour vision; the strongest first."""

GREY = "#777777"
SUFFIXES = (".png", ".svg", ".pdf")

_SETTINGS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.2,
    "legend.frameon": False,
    "figure.dpi": 100.0,
    "savefig.dpi": 160.0,
    "svg.fonttype": "path",
    # Fixed, so that the same run gives the same bytes.
    "svg.hashsalt": "tiltcli",
}


@contextmanager
def style() -> Iterator[None]:
    """Draw with the settings above, whatever the user's own are."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        yield


def new_figure(width: float, height: float) -> Figure:
    """Empty figure, size in inches, laid out so that nothing overlaps."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def check_path(path: Path) -> None:
    """Check before the drawing that the figure can be written.

    Raises:
        UserError: for a suffix that is no picture's, or a folder that is not there.

    """
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: a figure's name ends in one of {listing(SUFFIXES)}")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}")


def save(figure: Figure, path: Path) -> None:
    """Write a figure whole; the same figure gives the same bytes.

    Raises:
        UserError: if it cannot be written.

    """
    from tiltcli.store.parts import write_whole

    check_path(path)
    kind = path.suffix.lower()[1:]
    # Dates and program versions would make equal figures different files.
    metadata: dict[str, Any] = {
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    }[kind]
    with style():
        write_whole(path, lambda to: figure.savefig(to, format=kind, metadata=metadata))


def thin(values: Any, limit: int = 1500) -> Any:
    """Indices that draw a long series as it looks: each stretch's lowest and highest points.

    Every k-th point would hide the swings between them.

    Args:
        values: shape (n,), float.
        limit: stretches; at most twice as many indices are returned.

    Returns:
        sorted indices, int64.

    """
    import numpy as np

    series = np.asarray(values, dtype=float)
    n = len(series)
    if n <= 2 * limit:
        return np.arange(n)
    edges = np.linspace(0, n, limit + 1).astype(np.int64)
    filled = np.where(np.isnan(series), 0.0, series)
    chosen = {0, n - 1}
    for begin, end in pairwise(edges):
        part = filled[begin:end]
        chosen.update((begin + int(part.argmin()), begin + int(part.argmax())))
    return np.array(sorted(chosen), dtype=np.int64)
