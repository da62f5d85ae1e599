"""Folders in the exact format of MNIST: IDX files of noise, plain or packed."""

import gzip
import struct

import numpy as np

PIXELS = np.random.default_rng(0).integers(0, 256, size=(120, 5, 4), dtype=np.uint8)


def contents():
    """Hundred pictures of four classes to train on, and twenty."""
    made = {}
    for name, begin, end in (("train", 0, 100), ("t10k", 100, 120)):
        X = PIXELS[begin:end]
        y = bytes(i % 4 for i in range(begin, end))
        made[f"{name}-images-idx3-ubyte"] = struct.pack(">4I", 2051, len(X), 5, 4) + X.tobytes()
        made[f"{name}-labels-idx1-ubyte"] = struct.pack(">2I", 2049, len(y)) + y
    return made


def write(folder, made, packed=True):
    folder.mkdir(exist_ok=True)
    for name, content in made.items():
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
        else:
            (folder / name).write_bytes(content)
    return folder
