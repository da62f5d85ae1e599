"""A file that changes after its digest was taken: never is other data trained under the old one."""

import os

import numpy as np
import pytest

import tiltcli
from helpers import tilt, write_grid
from tiltcli.data import loading
from tiltcli.errors import RunError, UserError
from tiltcli.execution.runner import run_sweep
from tiltcli.execution.train_job import Task, train_job
from tiltcli.grid import load_sweep

TRAIN = '[loss]\nkind = "static"\n[train]\nepochs = 4\nseeds = 2\n'
FILE = '[data]\nkind = "file"\npath = "data.npz"\n[model]\nwidth = 3\n' + TRAIN
WEIGHTS = FILE.replace("width = 3", 'width = 3\ninit_file = "w.npz"')
MADE = '[data]\nkind = "python"\nfactory = "made.py:make"\n[model]\nwidth = 3\n' + TRAIN
OWN = FILE.replace("width = 3", 'kind = "python"\nfactory = "nets.py:make"')

CODE = {
    "made.py": "import scale\ndef make(seed):\n    return dict(X=[[scale.S], [2.0]], y=[0, 1])\n",
    "scale.py": "S = 1.0\n",
    "nets.py": "import torch\ndef make(sample_shape, classes):\n    import scale\n"
    "    return torch.nn.Linear(sample_shape[0], classes, *())\n",
}


def fill(folder, seed=0):
    rng = np.random.default_rng(seed)
    np.savez(folder / "data.npz", X=rng.normal(size=(12, 2)), y=np.arange(12) % 2)
    weights = {"W1": (2, 3), "b1": 3, "W2": (3, 2), "b2": 2}
    np.savez(folder / "w.npz", **{name: rng.normal(size=shape) for name, shape in weights.items()})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Files of all kinds; what earlier tests have read is forgotten."""
    monkeypatch.setattr(loading, "_kept", type(loading._kept)())
    fill(tmp_path)
    for name, text in CODE.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def swap(folder, name):
    """Other content of the same size, and the old time."""
    path = folder / name
    before = path.stat()
    if name.endswith(".npz"):
        fill(folder, seed=1)
    else:
        was, now = {"made.py": ("2.0", "4.0"), "scale.py": ("1.0", "3.0")}.get(name, ("()", "( )"))
        path.write_text(CODE[name].replace(was, now))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


SWAPPED = [(FILE, "data.npz"), (WEIGHTS, "w.npz"), (MADE, "made.py"), (MADE, "scale.py")]


@pytest.mark.parametrize(("text", "name"), [*SWAPPED, (OWN, "nets.py"), (OWN, "scale.py")])
def test_swapped_before_it_is_loaded(folder, text, name):
    sweep = load_sweep(write_grid(folder, text))
    swap(folder, name)
    other = load_sweep(folder / "grid.toml")
    assert not {job.id for job in sweep.jobs} & {job.id for job in other.jobs}
    with pytest.raises(UserError) as error:
        run_sweep(sweep, folder / "results")
    place = next(path for path, digest in sweep.files.items() if other.files[path] != digest)
    said = str(error.value)
    assert all(digest in said for digest in (sweep.files[place], other.files[place]))
    assert place.partition(":")[0] in said and not (folder / "results").exists()


@pytest.mark.parametrize("text", [FILE, WEIGHTS])
def test_a_worker_that_meets_other_content_stores_no_row(folder, text):
    """Workers load for themselves: it is the run that ends, and no job that failed."""
    job = load_sweep(write_grid(folder, text)).jobs[0]
    swap(folder, "data.npz")
    assert isinstance(train_job(Task(job, "fused", folder)), RunError)


def test_swapped_while_it_is_read(folder, monkeypatch):
    sweep = load_sweep(write_grid(folder, FILE))
    reading = np.lib.format.read_magic

    def slow(file):
        fill(folder, seed=1)
        return reading(file)

    monkeypatch.setattr(np.lib.format, "read_magic", slow)
    with pytest.raises(UserError, match="has changed since the grid was read"):
        run_sweep(sweep, folder / "results")


@pytest.mark.parametrize(("text", "name"), SWAPPED)
@pytest.mark.parametrize("more", [["--shard", "2/2"], ["--extend", "--set", "train.lr=[1, 2]"]])
def test_edited_between_two_calls_of_a_run(folder, text, name, more):
    write_grid(folder, text)
    first = tilt("sweep", "grid.toml", "--shard", "1/2", cwd=folder)
    assert first.returncode == 0, first.stderr
    swap(folder, name)
    before = sorted(folder.rglob("*.parquet"))
    for words in (more, [], ["--dry-run"]):
        again = tilt("sweep", "grid.toml", *words, cwd=folder)
        assert again.returncode == 2, again.stderr
        assert "has changed since this run was begun" in again.stderr
    assert sorted(folder.rglob("*.parquet")) == before
    own = tilt("sweep", "grid.toml", "--set", "name=own", cwd=folder)
    assert own.returncode == 0, own.stderr
    jobs = [set(tiltcli.read(run, folder / "results").jobs["job"]) for run in ("grid", "own")]
    assert jobs[0] and jobs[1] and not jobs[0] & jobs[1]
