"""A figure that a notebook shows by itself."""

from __future__ import annotations

import io

import matplotlib as mpl
from matplotlib.figure import Figure


class Picture(Figure):
    """A figure of matplotlib's, shown by a notebook as a picture without pyplot."""

    def _repr_png_(self) -> bytes:
        page = io.BytesIO()
        with mpl.rc_context():
            mpl.rcdefaults()  # whatever the user's own settings are
            self.savefig(page, format="png")
        return page.getvalue()
