"""Archives and folders in the exact format of CIFAR-10's binary version, of noise."""

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np

from tiltcli.data.fetch import Published
from tiltcli.grid.paths import CIFAR10_BATCHES, CIFAR10_FOLDER, CIFAR10_LABELS

NAMES = b"ant\nbee\ncow\ndog\nelk\nfox\ngnu\nhen\nibis\njay\n"


def batches(records, seed=0):
    """Name → content; labels 0 … 9 in turn, so that every class is in every batch."""
    rng = np.random.default_rng(seed)
    made = {}
    for name in CIFAR10_BATCHES:
        rows = np.zeros((records, 3073), dtype=np.uint8)
        rows[:, 0] = np.arange(records) % 10
        # Little noise and long runs, so that full-sized batches pack well and quickly.
        rows[:, 1::64] = rng.integers(0, 256, size=(records, 48), dtype=np.uint8)
        made[name] = rows.tobytes()
    return {**made, CIFAR10_LABELS: NAMES}


def write_folder(folder, contents):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def write_archive(path, contents, folder=CIFAR10_FOLDER):
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def published(path, url="http://127.0.0.1:9/never"):
    """What a publisher of this very archive would say of it."""
    content = Path(path).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return Published("CIFAR-10", "cifar-10-binary.tar.gz", url, len(content), digest)
