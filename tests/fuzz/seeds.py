"""Whole files that the mutations start from."""

import io
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[2]
GRIDS = [path.read_bytes() for path in sorted((ROOT / "sweeps").glob("*.toml"))]
TEMPLATES = ROOT / "src/tiltcli/grid/templates"
GRIDS += [path.read_bytes() for path in sorted(TEMPLATES.glob("*.toml"))]
assert GRIDS
SMALL = b"""name = "run"
[data]
kind = "spiral"
points_per_class = 5
[model]
width = [2, 3]
[loss]
kind = ["static", "dynamical"]
amplitude = 3
period = [2, 5]
[train]
epochs = 20
seeds = 2
log_every = 5
"""


@cache
def archives():
    """Npz files: numbers, pictures, parts, text labels; and headers that claim the impossible."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(12, 3)), np.arange(12) % 3
    x = X.astype("f4")
    pictures = rng.integers(0, 256, size=(12, 1, 4, 4), dtype=np.uint8)
    made = []
    for arrays in (
        {"X": X, "y": y},
        {"X": x, "y": y.astype(str), "X_val": x[:4], "y_val": y[:4].astype("S1")},
        {"X": np.asfortranarray(pictures), "y": y, "X_test": pictures, "y_test": y},
    ):  # fmt: skip
        for save in (np.savez, np.savez_compressed):
            buffer = io.BytesIO()
            save(buffer, **arrays)
            made.append(buffer.getvalue())
    made += [
        _claiming("(1000000, 1000000)", 8),
        _claiming("(10,)", 1 << 26),
        _claiming("(-1, 2)", 64),
    ]
    return made


def _claiming(shape, zeros):
    header = (
        f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117)
        + b"\n"
    )
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(zeros)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("X.npy", content)
        archive.writestr("y.npy", content)
    return buffer.getvalue()


def _frame():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(20, 3)).round(3), columns=["a", "b", "c"])
    frame["label"] = np.array(["oak", "elm", "ash"])[np.arange(20) % 3]
    frame["n"] = np.arange(20)
    return frame


@cache
def csvs():
    """CSV files with text and with number labels."""
    frame = _frame()
    frames = [frame, frame.assign(label=frame["n"] % 2), _mixed(frame)]
    return [one.to_csv(index=False).encode() for one in frames]


def _mixed(frame):
    """With a column of texts, and gaps in it and beside it."""
    texts = np.array(["oak", "ash", None, "007"])[np.arange(len(frame)) % 4]
    return frame.assign(wood=texts, age=np.where(np.arange(len(frame)) % 3, 1.5, np.nan))


@cache
def parquets():
    """Parquet files, plain and compressed, with and without pandas' own notes."""
    made = []
    for options in ({}, {"compression": "zstd", "index": False}, {"compression": None}):
        buffer = io.BytesIO()
        frame = _frame() if options else _mixed(_frame())
        frame.to_parquet(buffer, **options)
        made.append(buffer.getvalue())
    return made


def repacked(archive, change):
    """Damage the arrays within an archive, whose checksums then fit again."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(old.read(name)))
    return buffer.getvalue()
