"""What all figures share: colours, sizes, and how they are written."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.style import context
from matplotlib.ticker import FuncFormatter

from tiltcli.errors import UserError, listing
from tiltcli.store.files import check_output, write_output

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
"""Okabe and Ito's palette, told apart with any colour vision; the strongest first."""

# The same hues, lighter, so that each stands out from a dark page.
_ON_DARK = ("#56B4E9", "#F0803C", "#2FC79A", "#E39BC6", "#F0C040", "#9AD0F5", "#FFFFFF", "#C9A86A")

GREY = "#777777"
SUFFIXES = (".png", ".svg", ".pdf")

SHARES = ("accuracy", "recall")
"""Ends of the names of metrics from 0 to 1."""

SIZES = {"one": 3.4, "two": 7.0}
"""Widths of one and of two columns of a paper, inches."""


@dataclass(frozen=True)
class _Theme:
    """Fonts in points, resolution of PNG files in dots per inch, colours."""

    text: float
    small: float
    dpi: float
    page: str
    ink: str
    grey: str
    colours: tuple[str, ...]


STYLES = {
    "paper": _Theme(8.0, 7.0, 300.0, "#FFFFFF", "#000000", GREY, COLOURS),
    "screen": _Theme(9.5, 8.0, 160.0, "#FFFFFF", "#000000", GREY, COLOURS),
    "dark": _Theme(9.5, 8.0, 160.0, "#16191D", "#E8E8E8", "#9A9A9A", _ON_DARK),
}


class Picture(Figure):
    """A figure of matplotlib's, shown by a notebook as a picture without pyplot."""

    def _repr_png_(self) -> bytes:
        page = io.BytesIO()
        with mpl.rc_context():
            mpl.rcdefaults()  # whatever the user's own settings are
            self.savefig(page, format="png")
        return page.getvalue()


@dataclass(frozen=True)
class Look:
    """How a figure looks; every drawing function takes one."""

    style: str = "paper"  # paper (small type, 300 dpi), screen or dark
    width: float = SIZES["two"]  # of the whole figure, inches

    @property
    def theme(self) -> _Theme:
        """Fonts and colours of the style."""
        return STYLES[self.style]

    @property
    def colours(self) -> tuple[str, ...]:
        """Colours of lines, told apart with any colour vision; the strongest first."""
        return self.theme.colours

    @property
    def grey(self) -> str:
        """Colour of what stays behind: zero lines, references."""
        return self.theme.grey

    @property
    def ink(self) -> str:
        """Colour of text, axes, and of the static loss."""
        return self.theme.ink

    @property
    def small(self) -> float:
        """Size of the smallest text, points; nothing is set smaller."""
        return self.theme.small

    @property
    def narrow(self) -> bool:
        """Whether the figure is about one column wide."""
        return self.width < 5.0

    def lines(self, title: str) -> str:
        """Title, in two lines where the figure is narrow."""
        return title.replace(": ", ":\n", 1) if self.narrow else title

    def applied(self) -> AbstractContextManager[None]:
        """Draw with the look's settings, whatever the user's own are."""
        theme = self.theme
        inked = ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor")
        own = {
            "font.size": theme.text,
            **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), theme.small),
            "axes.prop_cycle": cycler(color=list(theme.colours)),
            "figure.dpi": theme.dpi,
            **dict.fromkeys(("figure.facecolor", "axes.facecolor"), theme.page),
            **dict.fromkeys((*inked, "xtick.color", "ytick.color"), theme.ink),
        }
        return context(["default", Path(__file__).with_name("tiltcli.mplstyle"), own])

    def figure(self, height: float) -> Picture:
        """Empty figure as wide as the look says, height in inches, laid out without overlaps."""
        layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03)
        return Picture(figsize=(self.width, height), layout=layout)

    def columns(self, count: int, inches: float = 2.4) -> int:
        """Columns of so many panels: two where narrow, else three or as many as there is room."""
        return min(count, 2 if self.narrow else max(3, int(self.width / inches)))

    def packed(self, parts: Sequence[str]) -> str:
        """Remarks below a figure, in as few lines as its width allows."""
        whole = "; ".join(part.replace(" ", "\xa0") for part in parts)
        fitting = int(72 * self.width / (0.56 * self.small))
        return "\n".join(textwrap.wrap(whole, fitting)).replace("\xa0", " ")

    def remark(self, figure: Figure, parts: Sequence[str]) -> None:
        """Write remarks below a figure."""
        figure.supxlabel(self.packed(parts), fontsize=self.small, color=self.grey)


PAPER = Look()


def wrapped(name: str, characters: int) -> str:
    """Name of a facet in lines, none of its settings parted from their values."""
    whole = ", ".join(part.replace(" ", "\xa0") for part in name.split(", "))
    lines = (line for text in whole.split("\n") for line in textwrap.wrap(text, characters))
    return "\n".join(lines).replace("\xa0", " ")


def within(metric: str, values: Any) -> Any:
    """Values, none above what the metric can reach: no bar of an accuracy ends above 1."""
    return np.minimum(values, 1.0) if metric.endswith(SHARES) else values


def grid_of(figure: Figure, count: int, columns: int, **share: Any) -> list[Axes]:
    """Empty panels row by row, so many of them."""
    axes = figure.subplots(-(-count // columns), columns, squeeze=False, **share).ravel()
    for panel in axes[count:]:
        panel.remove()
    return list(axes[:count])


def name_edges(axes: Sequence[Axes], columns: int, x: str, y: str = "") -> None:
    """Name the axes at the left and at the bottom of a grid of panels."""
    for number, panel in enumerate(axes):
        if number % columns == 0:
            panel.set_ylabel(y)
        if number + columns >= len(axes):
            panel.set_xlabel(x)
            panel.tick_params(labelbottom=True)


def legend_below(
    figure: Figure,
    panels: Iterable[Axes],
    columns: int,
    names: Mapping[str, str] = MappingProxyType({}),
    head: str | None = None,
    **more: Any,
) -> None:
    """One legend for all panels, below them; what several have stands in it once.

    Some labels have longer `names` there.
    """
    both = [zip(*panel.get_legend_handles_labels(), strict=True) for panel in panels]
    shown = {names.get(label, label): handle for pairs in both for handle, label in pairs}
    columns = min(columns, max(len(shown), 1))
    handles = list(shown.values())
    more |= {"loc": "outside lower center", "ncols": columns, "title": head}
    figure.legend(handles, list(shown), **more)


def span(numbers: Iterable[float]) -> str:
    """Whole numbers in words: `3`, or `3 to 5`."""
    counts = sorted(set(numbers)) or [0]
    return f"{counts[0]:.0f} to {counts[-1]:.0f}" if len(counts) > 1 else f"{counts[0]:.0f}"


def log_scale(panel: Axes, name: Literal["x", "y"] = "y") -> None:
    """Make an axis logarithmic; ticks between powers of ten are named where it is short."""
    axis = panel.xaxis if name == "x" else panel.yaxis

    def between(value: float, _: int | None) -> str:
        low, high = sorted(axis.get_view_interval())
        digit = f"{value:e}"[0]
        decades = high / low
        named = (
            decades < 2
            or (decades < 4 and digit in "2357")
            or (decades < 20 and digit in "25")
            or (decades < 40 and digit == "3")
        )
        return f"{value:g}" if named else ""

    panel.set(**{f"{name}scale": "log"})
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(FuncFormatter(between))


_SAID = {"train": "training", "val": "validation", "test": "test"}


def said(metric: str) -> str:
    """Name of a column in an axis label; losses with their unit."""
    part, _, what = metric.partition("_")
    text = f"{_SAID.get(part, part)} {what.replace('_', ' ')}".strip()
    return f"{text} (nat)" if text.endswith("loss") else text


def check_path(path: Path) -> None:
    """Check before the drawing that the figure can be written."""
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: a figure's name ends in one of {listing(SUFFIXES)}")
    check_output(path)


def save(figure: Figure, path: Path) -> None:
    """Write a figure whole; the same figure gives the same bytes."""
    check_path(path)
    kind = path.suffix.lower()[1:]
    # Dates and program versions would make equal figures different files.
    metadata: dict[str, Any] = {
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    }[kind]
    with PAPER.applied():
        write_output(path, lambda to: figure.savefig(to, format=kind, metadata=metadata))


def as_png(figure: Figure) -> bytes:
    """Return a figure as the picture that a page holds."""
    picture = io.BytesIO()
    with PAPER.applied():
        figure.savefig(picture, format="png", dpi=150, metadata={"Software": None})
    return picture.getvalue()
