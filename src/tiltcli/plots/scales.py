"""Logarithmic axes with plain numbers at their ticks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def log_scale(panel: Axes) -> None:
    """Make the y axis logarithmic; ticks between powers of ten are named where it is short."""
    from matplotlib.ticker import FuncFormatter

    def between(value: float, _: int | None) -> str:
        low, high = sorted(panel.get_ylim())
        digit = f"{value:e}"[0]
        decades = high / low
        named = (
            decades < 2
            or (decades < 4 and digit in "2357")
            or (decades < 20 and digit in "25")
            or (decades < 40 and digit == "3")
        )
        return f"{value:g}" if named else ""

    panel.set_yscale("log")
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_formatter(FuncFormatter(between))
