"""Sweeps on a real Dask cluster: the same rows as in-process, whatever is killed on the way."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open
from safetensors.torch import save_file

import tiltcli
from dask_cluster import DaskCluster, one_process
from helpers import GRID, command, same_tables, tilt, tilt_process, unlucky, write_grid
from tiltcli.engines.torch.checkpoint import _digest
from tiltcli.errors import UserError
from tiltcli.execution.branching import branch_run
from tiltcli.execution.checks import RunOptions
from tiltcli.execution.dask import ClusterTrainer, client, scheduler
from tiltcli.execution.dask.connection import Connection, check_address
from tiltcli.execution.runner import run_sweep
from tiltcli.grid import load_sweep
from tiltcli.store import branch_rows, parts
from tiltcli.store.weights import checkpoint_path

PROBE = '[probe]\nevery = 10000\nquantities = ["hessian"]\n'
MANY = (
    GRID.replace("seeds = 3", "seeds = 20")
    .replace("epochs = 200", "epochs = 20000")
    .replace("log_every = 50", "log_every = 2000\nrecall = true")
    + PROBE
)
JOBS = 2 * 3 * 20
CRASHING = 666
"""Jobs of this seed kill their worker."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster")
    go = folder / "go"
    go.touch()  # nothing waits unless a test removes it
    given = unlucky(CRASH_SEED=CRASHING, HOLD=go, HOLD_AT=1)
    with DaskCluster(folder, threads=2, extra_env=given) as one:
        yield one


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The same grid trained in-process."""
    folder = tmp_path_factory.mktemp("whole")
    tiltcli.sweep(write_grid(folder, MANY), results=folder / "results")
    return tiltcli.read("grid", folder / "results")


def read(folder):
    return tiltcli.read("grid", folder / "results")


def same(folder, whole):
    """All tables, row for row."""
    ours = read(folder)
    same_tables(ours, whole)
    pd.testing.assert_frame_equal(ours.recall, whole.recall)
    assert len(ours.probes) == 3 * JOBS
    pd.testing.assert_frame_equal(ours.probes, whole.probes)


def wait_for_jobs(folder, before=0):
    """Wait until a run has more jobs than before."""
    deadline = time.monotonic() + 60
    run = folder / "results" / "grid"
    while not parts.live(run) or len(read(folder).jobs) <= before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def begin(folder, *words, tool=("-m", "tiltcli")):
    words = [sys.executable, *tool, *words]
    return subprocess.Popen(
        words, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_the_same_rows_as_in_process(tmp_path, cluster, whole):
    write_grid(tmp_path, MANY)
    words = ["sweep", "grid.toml", "--cluster", cluster.address]
    ended = tilt_process(*words, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert f"{JOBS} completed" in ended.stderr
    same(tmp_path, whole)
    steps = float(ended.stderr.rpartition(" steps/s")[0].rpartition(" ")[2].replace(",", ""))
    seconds = float(ended.stderr.rpartition(" s, ")[0].rpartition(" ")[2])
    assert steps * seconds == pytest.approx(JOBS * 20000, rel=0.1)  # every worker's steps count
    assert not list((tmp_path / "results").rglob(".*.tmp"))
    assert len(list((tmp_path / "results").rglob("*.parquet"))) < 30
    again = tilt(*words, cwd=tmp_path)
    assert f"nothing to do; {JOBS} were done before" in again.stderr


def test_probes_of_a_finished_run(tmp_path, cluster):
    """The same as here, of jobs that lack different epochs and of one that diverged."""
    text = GRID.replace("[train]", "[train]\nlr = [0.5, 1e30]").replace("seeds = 3", "seeds = 2")
    words = ["--quantities", "hessian,density,lyapunov"]
    for name in ("here", "there"):
        tiltcli.sweep(write_grid(tmp_path, text, name), results=tmp_path / "results")
        away = ["--cluster", cluster.address] if name == "there" else []
        some = ["--where", "model.width=4", "--where", "train.lr=0.5", "--epochs", "100"]
        for which in (some, ["--every", "50"]):
            done = tilt("probe", name, *words, *which, *away, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
    here, there = (tiltcli.read(name, tmp_path / "results").probes for name in ("here", "there"))
    assert len(here) > 5 * 10 and here["lyapunov"].notna().any()
    pd.testing.assert_frame_equal(here, there)
    both = tilt("probe", "there", *away, "--workers", "1", "--every", "9", cwd=tmp_path)
    assert both.returncode == 2 and "--workers" in both.stderr


EAGER = """
from tiltcli.cli import main
from tiltcli.execution import branching

branching.COMMIT_SECONDS = 0.0
main()
"""
"""The tool, whose branches are written as they come."""


def test_a_branch(tmp_path, cluster):
    """To the last bit as here, whatever is interrupted, lost or killed on the way."""
    results = tmp_path / "results"
    text = GRID.replace("[4, 8]", "4").replace('["static", "dynamical"]', '"dynamical"')
    text = text.replace("[3, 10]", "3").replace("seeds = 3", "lr = 2.0\nseeds = 1")
    for name in ("here", "there"):
        tiltcli.sweep(write_grid(tmp_path, text, name), results=results)
    branch_run("here", 60, results=results, rates=(0.5, 4.0), points=80, steps=8000, keep=7)
    files = results / "there" / "branches"
    words = ["--epoch", "60", "--lr", "0.5..4", "--points", "80", "--steps", "8000", "--keep", "7"]
    words = ["branch", "there", *words, "--cluster", cluster.address]
    refused = tilt(*words, "--workers", "1", cwd=tmp_path)
    assert "--workers: of no use with --cluster" in refused.stderr and refused.returncode == 2

    def begun():
        """Begin a branch, and wait until it has written two files more."""
        before = set(files.glob("*.parquet"))
        process = begin(tmp_path, *words, tool=("-W", "ignore", "-c", EAGER))
        while len(set(files.glob("*.parquet")) - before) < 2:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        return process

    with begun() as process:
        process.send_signal(signal.SIGINT)
        message = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "the same command again to resume" in message
    (some,) = branch_rows.read_branches(results / "there").values()
    assert 0 < some["lr"].nunique() < 80
    next(files.iterdir()).unlink()
    with begun() as process:
        os.kill(cluster.worker_pids()[0], signal.SIGKILL)
        message = process.communicate(timeout=60)[1]
    assert process.returncode == 0 and "were there before" in message, message
    assert "was lost; its jobs run again" in message
    here, there = (
        list(branch_rows.read_branches(results / name).values()) for name in ("here", "there")
    )
    assert len(here) == 1 and here[0]["lr"].nunique() == 80
    assert here[0]["lyapunov"].notna().any()
    pd.testing.assert_frame_equal(there[0], here[0], check_exact=True)


def set_seconds(path, seconds):
    """Make a checkpoint say that its training took so long; what it said before."""
    with safe_open(path, framework="pt") as file:
        facts = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    before = float(facts["seconds"])
    del facts["digest"]
    facts["seconds"] = repr(seconds)
    save_file(tensors, path, {**facts, "digest": _digest(tensors, facts)})
    return before


def test_a_long_job_goes_on_where_it_was_stopped(tmp_path, cluster):
    """Its checkpoint lies in the run's folder: any worker can take it up, and this machine too."""
    one = ["model.width=4", "train.seeds=1", "loss.kind=static", "train.epochs=6000"]
    grid = load_sweep(write_grid(tmp_path), one)
    stop, options = threading.Event(), RunOptions(engine="torch", checkpoint_seconds=0.0)
    (checkpoint,) = (checkpoint_path(tmp_path / "results" / "grid", job.id) for job in grid.jobs)
    with ClusterTrainer(cluster.address) as trainer, ThreadPoolExecutor(1) as pool:
        ended = pool.submit(
            run_sweep, grid, tmp_path / "results", options, trainer=trainer, stop=stop
        )
        while not checkpoint.exists():
            assert not ended.done(), ended.result()
            time.sleep(0.01)
        stop.set()
        assert ended.result(60).interrupted
    assert set_seconds(checkpoint, 1e6) < 1e6
    with ClusterTrainer(cluster.address) as trainer:
        run_sweep(grid, tmp_path / "results", RunOptions(engine="torch"), trainer=trainer)
    assert read(tmp_path).jobs["seconds"].item() > 1e6  # it was gone on from
    assert not checkpoint.parent.exists()
    run_sweep(grid, tmp_path / "here", RunOptions(engine="torch", workers=1))
    same_tables(read(tmp_path), tiltcli.read("grid", tmp_path / "here"))


@pytest.mark.parametrize("way", [[], ["--send-tables"]])
def test_a_worker_killed_costs_nothing(tmp_path, cluster, whole, way):
    write_grid(tmp_path, MANY)
    go, victim = cluster.folder / "go", cluster.worker_pids()[0]
    for mark in cluster.folder.glob("go*"):
        mark.unlink()
    with begin(tmp_path, "sweep", "grid.toml", "--cluster", cluster.address, *way) as process:
        deadline = time.monotonic() + 60
        while not go.with_suffix(f".{victim}").exists():  # in the middle of a job
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(victim, signal.SIGKILL)
        go.touch()
        message = process.communicate(timeout=120)[1]
    assert process.returncode == 0, message
    assert "was lost; its jobs run again" in message
    same(tmp_path, whole)


def test_the_client_is_ended_and_started_again(tmp_path, cluster, whole):
    """Ctrl-C takes back its own jobs only; killed, its jobs end as well."""
    other = (
        "import sys, time; from distributed import Client\n"
        "with Client(sys.argv[1]) as c:\n"
        "    f = c.submit(lambda: time.sleep(4) or 42)\n"
        "    print('begun', flush=True); print(f.result())"
    )
    write_grid(tmp_path, MANY)
    words = ["sweep", "grid.toml", "--cluster", cluster.address]
    with subprocess.Popen(
        [*command()[:1], "-W", "ignore", "-c", other, cluster.address],
        stdout=subprocess.PIPE,
        text=True,
    ) as friend:
        assert friend.stdout.readline().strip() == "begun"
        with begin(tmp_path, *words) as process:
            wait_for_jobs(tmp_path)
            process.send_signal(signal.SIGINT)
            message = process.communicate(timeout=60)[1]
        assert process.returncode == 130
        assert "the same command resumes" in message
        assert 0 < len(read(tmp_path).jobs) < JOBS
        assert friend.stdout.read().strip() == "42"
    stored = len(read(tmp_path).jobs)
    with begin(tmp_path, *words) as process:
        wait_for_jobs(tmp_path, stored)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    again = tilt_process(*words, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "were done before" in again.stderr
    same(tmp_path, whole)


def test_two_sweeps_on_one_cluster(tmp_path, cluster, monkeypatch):
    """A run has one writer; two runs share the workers, and to stop one ends no other."""
    monkeypatch.setattr(scheduler, "GRACE_SECONDS", 1.0)  # what waits behind the other's jobs
    text = MANY.replace(PROBE, "").replace("seeds = 20", "seeds = 3")
    go, sweep = cluster.folder / "go", load_sweep(write_grid(tmp_path, text))
    for mark in cluster.folder.glob("go*"):
        mark.unlink()
    stops = [threading.Event(), threading.Event()]
    with ThreadPoolExecutor(2) as pool, ExitStack() as stack:
        stack.callback(go.touch)
        trainers = [stack.enter_context(ClusterTrainer(cluster.address)) for _ in range(3)]
        under_way = [
            pool.submit(run_sweep, sweep, tmp_path / place, trainer=trainer, stop=stop)
            for place, trainer, stop in zip(("results", "other"), trainers, stops, strict=False)
        ]
        deadline = time.monotonic() + 60
        # Four trainings wait in the workers' threads, and both runs are begun.
        while len(list(cluster.folder.glob("go.*"))) < 2 or not (tmp_path / "other/grid").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(UserError, match="in use by another tiltcli process"):
            run_sweep(sweep, tmp_path / "results", trainer=trainers[2])
        stops[0].set()
        assert under_way[0].result(60).interrupted
        go.touch()
        assert under_way[1].result(60).ended == {"completed": 18}
        run_sweep(sweep, tmp_path / "results", trainer=trainers[2])
    same_tables(read(tmp_path), tiltcli.read("grid", tmp_path / "other"))


def test_a_file_swapped_after_the_handshake(tmp_path, cluster, monkeypatch):
    """The worker that loads it finds out: the run ends, and no row is of other data."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "points.npz", X=rng.normal(size=(30, 2)), y=np.arange(30) % 3)
    spiral = 'kind = "spiral"\npoints_per_class = 20'
    text = GRID.replace(spiral, 'kind = "file"\npath = "points.npz"')
    submit = scheduler.ClusterRun._submit_all

    def swap(run):
        np.savez(tmp_path / "points.npz", X=rng.normal(size=(30, 2)), y=np.arange(30) % 3)
        monkeypatch.setattr(scheduler.ClusterRun, "_submit_all", submit)
        submit(run)

    monkeypatch.setattr(scheduler.ClusterRun, "_submit_all", swap)
    words = {"results": tmp_path / "results", "cluster": cluster.address}
    with pytest.raises(UserError, match=r"points\.npz.*has changed since the grid was read"):
        tiltcli.sweep(write_grid(tmp_path, text), **words)
    assert not len(read(tmp_path).jobs)


def test_the_scheduler_is_killed(tmp_path, cluster, whole):
    """And workers that come only when the client is waiting for them get work."""
    write_grid(tmp_path, MANY)
    words = ["sweep", "grid.toml", "--cluster", cluster.address]
    try:
        with begin(tmp_path, *words) as process:
            wait_for_jobs(tmp_path)
            cluster.stop(cluster.scheduler, signal.SIGKILL)
            out, message = process.communicate(timeout=60)
        assert process.returncode == 2
        assert message.count("\n") <= 2, message  # the progress, and why it ends
        assert "the Dask scheduler does not answer any more; finished jobs are kept" in message
        assert "Traceback" not in message + out
        assert 0 < len(read(tmp_path).jobs) < JOBS
        cluster.stop(cluster.crew)
        cluster.start_scheduler()
        with begin(tmp_path, *words) as process:
            cluster.wait_for_client()
            cluster.start_crew()
            message = process.communicate(timeout=60)[1]
        assert process.returncode == 0, message
    except BaseException:  # a whole cluster for the tests after this one
        cluster.stop(cluster.crew)
        cluster.stop(cluster.scheduler)
        cluster.start()
        raise
    same(tmp_path, whole)


def test_a_job_that_always_kills_its_worker(tmp_path, cluster):
    """On workers of two threads, where others run beside it."""
    write_grid(tmp_path, GRID.replace("seeds = 3", f"seeds = [0, {CRASHING}, 1]"))
    words = ["sweep", "grid.toml", "--set", "model.width=4", "--set", "loss.kind=static"]
    ended = tilt(*words, "--cluster", cluster.address, cwd=tmp_path)
    assert ended.returncode == 1, ended.stderr
    assert "lost its worker 3 times" in ended.stderr
    jobs = read(tmp_path).jobs
    failed = jobs[jobs["outcome"] == "failed"]
    assert list(failed["train.seed"]) == [CRASHING]
    assert (jobs["outcome"] == "completed").sum() == 2
    (error,) = failed["error"]
    assert "tcp://127.0.0.1:" in error
    assert "was killed by signal 9" in error  # from the nanny's log


def test_workers_that_share_nothing(tmp_path):
    """They do not see the folder, so they send their tables; data they do not see is named."""
    hidden = f"mount -t tmpfs none '{tmp_path}' && exec \"$@\""
    alone = ["unshare", "-m", "sh", "-c", hidden, "sh"]
    if not shutil.which("unshare") or subprocess.run([*alone, "true"], check=False).returncode:
        pytest.skip("no right to hide a folder from a process here: NOT TESTED")
    grid = write_grid(tmp_path, GRID + 'keep = "best"\nrecall = true\n' + PROBE)
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "points.npz", X=rng.normal(size=(30, 2)), y=np.arange(30) % 3)
    results = tmp_path / "results"
    with DaskCluster(tmp_path, workers=1, threads=2, within=alone) as own:
        tiltcli.sweep(grid, results=results, cluster=own.address)
        spiral = 'kind = "spiral"\npoints_per_class = 20'
        text = GRID.replace(spiral, 'kind="file"\npath="points.npz"')
        points = write_grid(tmp_path, text, "points")
        with pytest.raises(UserError, match=r"points\.npz cannot be read there"):
            tiltcli.sweep(points, results=results, cluster=own.address)
        assert not (results / "points").exists()
    tiltcli.sweep(grid, results=tmp_path / "here")
    there, here = read(tmp_path), tiltcli.read("grid", tmp_path / "here")
    same_tables(there, here)
    pd.testing.assert_frame_equal(there.recall, here.recall)
    assert len(here.recall) == 18 * 3 * (2 * 5 + 1)
    kept = sorted((tmp_path / "here").glob("grid/weights/*"))
    assert len(kept) == 18
    assert [p.read_bytes() for p in kept] == [
        (results / "grid" / "weights" / p.name).read_bytes() for p in kept
    ]


def test_other_versions_are_refused(tmp_path, cluster, monkeypatch):
    grid = write_grid(tmp_path)
    monkeypatch.setattr(client, "versions", lambda: {"tiltcli": "9.9", "numpy": "0.1"})
    cluster.wait_for_workers()
    with pytest.raises(UserError) as caught:
        tiltcli.sweep(grid, results=tmp_path / "results", cluster=cluster.address)
    assert len(caught.value.faults) == 2  # one for each worker
    assert "and 9.9 here" in str(caught.value)
    assert "and 0.1 here" in str(caught.value)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("there", ["none", "another of the same number"])
def test_workers_with_another_tool_or_none(tmp_path, there):
    """Said at once, in one line; nothing is trained or written."""
    write_grid(tmp_path)
    path, said = tmp_path / "path", "tiltcli cannot be loaded there, or by the scheduler"
    if there == "none":
        path.mkdir()
        (path / "sitecustomize.py").write_text("import sys; sys.modules['tiltcli'] = None")
    else:
        shutil.copytree(Path(tiltcli.__file__).parent, path / "tiltcli")
        with (path / "tiltcli" / "errors.py").open("a") as file:
            file.write("# mended\n")
        said = f"tiltcli is {tiltcli.__version__} ("
    with one_process(extra_env={"PYTHONPATH": str(path)}) as address:
        before = time.monotonic()
        ended = tilt("sweep", "grid.toml", "--cluster", address, cwd=tmp_path)
        assert time.monotonic() - before < 60
    assert ended.returncode == 2 and ended.stdout == ""
    assert said in ended.stderr and ended.stderr.count("\n") == 1, ended.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("localhost:8786", "did you mean tcp://localhost:8786?"),
        ("localhost", "did you mean tcp://localhost:8786?"),
        ("tcp://localhost", "such as tcp://host:8786"),
        ("tcp://localhost:123456", "such as tcp://host:8786"),
        ("http://localhost:8787", "such as tcp://host:8786"),
        ("", "such as tcp://host:8786"),
    ],
)
def test_addresses(address, hint):
    with pytest.raises(UserError) as caught:
        check_address(address)
    assert hint in str(caught.value)


def test_nobody_answers():
    with pytest.raises(UserError, match=r"no Dask scheduler answered within 0\.5 s"):
        Connection("tcp://127.0.0.1:9", timeout=0.5).__enter__()


GREET = """
import socket, sys, threading
from tiltcli.errors import UserError
from tiltcli.execution.dask.connection import Connection

for said in (b"", b"HTTP/1.0 400 Bad Request" + 2 * bytes((13, 10)), bytes(4096), b"x" * 4096):
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = []

        def serve():
            while True:
                held.append(server.accept()[0])
                held[-1].sendall(said)

        threading.Thread(target=serve, daemon=True).start()
        for protocol in ("tcp", "tls", "ws"):
            try:
                address = f"{protocol}://127.0.0.1:{server.getsockname()[1]}"
                Connection(address, timeout=0.5).__enter__()
            except UserError as error:
                print(error)
"""


def test_another_service():
    """One that accepts and is silent, or speaks otherwise, is left, and the process ends."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", GREET],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0 and "\nerror" not in done.stderr
    said = done.stdout.splitlines()
    assert len(said) == 12
    assert all("no Dask scheduler answered within 0.5 s" in line for line in said)


def test_not_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'tiltcli\[cluster\]'"):
        Connection("tcp://localhost:8786").__enter__()
