"""Logarithmic axes with plain numbers at their ticks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def log_scale(panel: Axes, name: Literal["x", "y"] = "y") -> None:
    """Make an axis logarithmic; ticks between powers of ten are named where it is short."""
    from matplotlib.ticker import FuncFormatter

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
