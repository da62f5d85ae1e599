"""Numbers and texts on their way into a page: small, exact enough to draw, harmless."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import numpy.typing as npt

MISSING = 0xFFFF
"""Code of a missing share."""

SHARE_BYTES, FLOAT_BYTES = 8 / 3, 16 / 3
"""Bytes a number takes in the page."""


def floats(values: npt.ArrayLike) -> dict[str, str]:
    """Any numbers as little-endian float32 in base64; NaN stays NaN."""
    return {"f": _base64(np.asarray(values, dtype="<f4"))}


def shares(values: npt.ArrayLike) -> dict[str, str]:
    """Return numbers from 0 to 1 in steps of 1/65534 (0.00002), in base64; NaN has its own code.

    What lies outside is cut: an interval of a mean accuracy may reach beyond 1.
    """
    v = np.asarray(values, dtype=np.float64)
    codes = np.rint(np.clip(np.nan_to_num(v, nan=0.0), 0, 1) * (MISSING - 1))
    return {"s": _base64(np.where(np.isnan(v), MISSING, codes).astype("<u2"))}


def _base64(values: npt.NDArray[Any]) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")


def json_text(page: Any) -> str:
    """JSON that may stand inside a <script> element: no character of it can end the element."""
    text = json.dumps(page, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
