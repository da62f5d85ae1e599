"""Tiny jobs travel in batches, and come back alone when a batch is lost."""

from collections import Counter

import executor_tasks
from tiltcli.execution.executors import run_processes
from tiltcli.execution.local import BATCH_SECONDS, Batches


def test_sized_to_about_a_second():
    batches = Batches(range(100_000), 100_000, workers=2)
    assert len(next(batches)) == 1
    for _ in range(8):
        batches.took(1, 0.01)
    assert len(next(batches)) == int(BATCH_SECONDS / 0.01)
    batches.took(1, 1000.0)
    assert len(next(batches)) == 1


def test_every_task_once_and_small_batches_at_the_end():
    batches = Batches(iter(range(5000)), 5000, workers=2)
    seen, sizes = [], []
    for batch in batches:
        seen += batch
        sizes.append(len(batch))
        batches.took(len(batch), len(batch) * 0.002)
    assert seen == list(range(5000))
    assert max(sizes) == 500
    assert sizes[-1] == 1


def test_endless_tasks_are_taken_as_needed():
    taken = Counter()

    def endless():
        while True:
            taken["n"] += 1
            yield taken["n"]

    batches = Batches(endless(), 10**9, workers=2)
    batches.took(1, 1e-6)
    assert len(next(batches)) == taken["n"] == 1000


def test_a_lost_batch_comes_back_one_by_one(light_workers):
    """The task that kills its worker fails; those that were with it do not."""
    batches = Batches(range(40), 40, workers=1)
    batches.took(1, 1e-3)
    results, lost = {}, []
    for one in run_processes(
        executor_tasks.batch_dying_on_three, batches, 2, lambda: False, lambda *_: None, retries=1
    ):
        if one.error is None:
            results.update(one.result)
        elif len(one.task) > 1:
            batches.again(one.task)
        else:
            lost += one.task
    assert lost == [3]
    assert results == {n: n * n for n in range(40) if n != 3}
