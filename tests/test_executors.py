"""Executors: every task ends once, whatever its worker does."""

import os
import subprocess
import sys
import time

import pytest

import executor_tasks
import tiltcli
from control_group import control_group
from helpers import tilt, unlucky, write_grid
from tiltcli.errors import UserError
from tiltcli.execution import executors
from tiltcli.execution.executors import (
    WorkerError,
    WorkerLost,
    run_processes,
    run_threads,
)


def never():
    return False


@pytest.fixture(autouse=True)
def _light(request):
    if "sweep" not in request.node.name:
        request.getfixturevalue("light_workers")


@pytest.mark.parametrize("run", [run_threads, run_processes])
def test_results_and_progress(run):
    heard = []
    tasks = range(7)
    done = list(
        run(executor_tasks.square, tasks, 2, never, lambda task, n: heard.append((task, n)))
    )
    assert sorted((one.task, one.result) for one in done) == [(n, n * n) for n in tasks]
    assert sorted(heard) == [(n, n) for n in tasks]


def test_no_tasks_no_processes():
    assert not list(run_processes(executor_tasks.square, [], 2, never, print))


def test_tasks_are_taken_as_needed():
    taken = []

    def tasks():
        for n in range(100):
            taken.append(n)
            yield n

    running = run_threads(executor_tasks.square, tasks(), 2, never, lambda *_: None)
    next(running)
    assert len(taken) < 10
    running.close()


def test_a_task_that_kills_its_worker_fails_alone():
    done = list(run_processes(executor_tasks.die_on_three, range(4), 2, never, print))
    errors = {one.task: one.error for one in done if one.error}
    assert sorted(one.task for one in done) == list(range(4))
    assert list(errors) == [3]
    assert isinstance(errors[3], WorkerLost)
    assert "lost its worker 3 times" in str(errors[3])
    assert "was killed by SIGKILL (out of memory" in str(errors[3])


def test_a_lost_task_is_tried_again(tmp_path):
    (done,) = run_processes(executor_tasks.exit_once, [str(tmp_path / "mark")], 1, never, print)
    assert done.result == "survived"
    (tmp_path / "mark").unlink()
    (done,) = run_processes(
        executor_tasks.exit_once, [str(tmp_path / "mark")], 1, never, print, retries=0
    )
    assert "lost its worker once; the last, process" in str(done.error)
    assert "ended with exit code 7" in str(done.error)


def test_tasks_that_lack_memory_only_together_all_end(tmp_path):
    tasks = [str(tmp_path / name) for name in "abc"]
    done = list(run_processes(executor_tasks.greedy, tasks, 2, never, print))
    assert {one.task: one.result for one in done} == dict.fromkeys(tasks, "enough")


HOLDING = """
import executor_tasks
from tiltcli.execution.executors import run_processes
if __name__ == "__main__":
    for done in run_processes(executor_tasks.hold, [1, 2, 4000, 3], 2, bool, print):
        print(done.task, done.result, done.error)
"""


def test_the_kernel_ends_what_takes_too_much(tmp_path):
    """Under a real limit: the greedy task fails with a message that says memory, no other does."""
    (tmp_path / "holding.py").write_text(HOLDING)
    with control_group(500) as within:
        ended = subprocess.run(
            [*within, sys.executable, tmp_path / "holding.py"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert ended.returncode == 0, ended.stderr
    said = sorted(ended.stdout.splitlines())
    assert said[:3] == ["1 1 None", "2 2 None", "3 3 None"]
    assert said[3].startswith("4000 None lost its worker 3 times; ") and "out of memory" in said[3]


def test_an_exception_keeps_its_traceback():
    (done,) = run_processes(executor_tasks.raising, ["x"], 1, never, print)
    assert isinstance(done.error, WorkerError)
    assert "executor_tasks.py" in str(done.error)
    assert str(done.error).strip().endswith("ValueError: bad x")


def test_work_is_asked_to_stop(monkeypatch):
    begun = []

    def run(work):
        return run_processes(work, range(9), 1, lambda: bool(begun), lambda *_: begun.append(1))

    done = list(run(executor_tasks.until_stopped))
    assert [one.result for one in done] == ["stopped"]
    monkeypatch.setattr(executors, "GRACE_SECONDS", 0.3)
    begun.clear()
    started = time.monotonic()
    assert not list(run(executor_tasks.deaf))
    assert time.monotonic() - started < 60


def test_workers_that_cannot_start_are_named(monkeypatch):
    def stillborn(context, target, args, daemon):
        return executors._Process(target=os._exit, args=(9,), daemon=True)

    monkeypatch.setattr(executors._Context, "Process", stillborn)
    with pytest.raises(
        UserError, match=r"^a worker, process \d+, .*, before it could start, 3 times"
    ):
        list(run_processes(executor_tasks.square, range(3), 1, never, print))


def test_a_sweep_survives_a_job_that_always_kills_its_worker(tmp_path):
    write_grid(tmp_path)
    words = [
        "sweep",
        "grid.toml",
        "--engine",
        "torch",
        "--set",
        "model.width=4",
        "--set",
        "loss.kind=static",
    ]
    ended = tilt(*words, cwd=tmp_path, extra_env=unlucky(CRASH_SEED=1))
    assert ended.returncode == 1, ended.stderr
    assert "lost its worker 3 times" in ended.stderr
    assert "out of memory: try fewer --workers" in ended.stderr
    jobs = tiltcli.read("grid", tmp_path / "results").jobs
    failed = jobs[jobs["outcome"] == "failed"]
    assert set(failed["train.seed"]) == {1}
    assert len(failed) == 1
    assert (jobs["outcome"] == "completed").sum() == 2
    assert failed["error"].str.contains("was killed by SIGKILL").all()
    again = tilt(*words, "--retry-failed", "--workers", "0", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert set(tiltcli.read("grid", tmp_path / "results").jobs["outcome"]) == {"completed"}
