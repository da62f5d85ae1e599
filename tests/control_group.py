"""A limit of memory that the kernel enforces, as clusters and containers have it. Needs root."""

import contextlib
import os
import time
from pathlib import Path

import pytest


@contextlib.contextmanager
def control_group(mebibytes):
    """A group with a limit, of either version; what is begun by the words it gives is in it."""
    old = Path("/sys/fs/cgroup/memory")
    group = (old if old.is_dir() else old.parent) / f"tiltcli{os.getpid()}"
    try:
        group.mkdir()
        limit = "memory.limit_in_bytes" if old.is_dir() else "memory.max"
        (group / limit).write_text(str(mebibytes << 20))
    except OSError as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        pytest.skip(f"NOT TESTED: no control group can be made here ({error})")
    try:
        yield ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh"]
    finally:
        while (group / "cgroup.procs").read_text():
            time.sleep(0.05)
        group.rmdir()
