"""Memory: how much there is, what probes are reckoned to take, and what is kept between jobs."""

import gc
import weakref

import numpy as np
import pytest

from tiltcli.curvature import memory
from tiltcli.curvature.points import kernel_count, kernel_points
from tiltcli.data import limits, loading
from tiltcli.engines import Context, load_engine
from tiltcli.grid import ProbeSettings, parse_sweep

GRID = """
[data]
kind = "spiral"
points_per_class = 200
seed = { range = [0, 4] }
[model]
width = 3
[loss]
kind = "static"
[train]
epochs = 1
"""


def jobs(*overrides):
    return parse_sweep(GRID, name="grid", folder=".", overrides=overrides).jobs


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {"memory.max": "1000000"}, 1_000_000),
        ("0::/\n", {"memory.max": "max"}, None),
        ("0::/a/b\n", {"a/b/memory.max": "3000000", "a/memory.max": "2000000"}, 2_000_000),
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "max"}, None),
        # As in a container that sees the host's path, and its own group mounted as the root.
        ("0::/docker/x\n", {"memory.max": "5000000"}, 5_000_000),
        (
            "5:cpu,cpuacct:/a\n4:memory:/slurm/job_7\n",
            {"memory/slurm/job_7/memory.limit_in_bytes": "4000000"},
            4_000_000,
        ),
        (
            "4:memory:/slurm/job_7/step_0\n",
            {
                "memory/slurm/job_7/step_0/memory.limit_in_bytes": "9223372036854771712",
                "memory/slurm/job_7/memory.limit_in_bytes": "4000000",
            },
            4_000_000,
        ),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712"}, None),
        ("", {"memory/memory.limit_in_bytes": "6000000"}, 6_000_000),
        ("nonsense\n", {}, None),
    ],
)
def test_a_control_group_limits_memory(tmp_path, monkeypatch, own, files, expected):
    monkeypatch.setattr(limits, "_CONTROL_GROUPS", tmp_path / "none")
    monkeypatch.setattr(limits, "_OWN_GROUPS", tmp_path / "own")
    whole = limits.machine_memory()  # no group at all
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(text + "\n")
    monkeypatch.setattr(limits, "_CONTROL_GROUPS", tmp_path / "groups")
    assert limits.machine_memory() == (expected or whole)
    assert limits.most_bytes() == (expected or whole) // 2


@pytest.mark.parametrize("samples", [30, 500, 501, 999, 1000, 1001, 5000])
@pytest.mark.parametrize("asked", [None, 7])
def test_as_many_points_are_reckoned_as_are_taken(monkeypatch, samples, asked):
    taken = len(kernel_points(np.arange(samples) % 3, asked))
    assert kernel_count(samples, asked) == taken
    (job, *_) = jobs()
    reckoned = []
    monkeypatch.setattr(
        memory, "kernel_bytes", lambda job, points, *_: reckoned.append(points) or 0
    )
    memory.memory_faults(job, samples, 3, [(2, 3)], ProbeSettings(("ntk",), 1, asked))
    assert reckoned == [taken]


@pytest.mark.parametrize("engine", ["fused", "torch"])
def test_data_that_are_not_kept_are_freed(monkeypatch, engine):
    """Nor does an engine keep them, or what it made of them."""
    loading._kept.clear()
    monkeypatch.setattr(loading, "MOST_BYTES", 0)
    seen = []
    for job in jobs():
        data = loading.dataset_of(job)
        list(load_engine(engine)(job, data, Context(device="cpu")))
        seen.append((weakref.ref(data), weakref.ref(data.train), weakref.ref(data.train.X)))
        del data
    gc.collect()
    assert [[ref() is not None for ref in refs] for refs in seen] == [[False] * 3] * 3 + [
        [True] * 3
    ]


def test_what_engines_make_of_data_is_within_the_bound(monkeypatch):
    loading._kept.clear()
    first, second, third, _ = jobs()
    bare = loading.dataset_of(first).nbytes
    monkeypatch.setattr(loading, "MOST_BYTES", 3 * bare)
    for job in (first, second, third):
        loading.dataset_of(job)
    assert len(loading._kept) == 3
    list(load_engine("fused")(third, loading.dataset_of(third), Context()))
    assert loading.dataset_of(third).nbytes > bare
    assert len(loading._kept) < 3
    again = loading.dataset_of(third)
    list(load_engine("fused")(third, again, Context()))
    assert loading.dataset_of(third) is again
