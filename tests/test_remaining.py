"""Time left: of made-up machines whose jobs take known times, on a clock of the test's own."""

import heapq

import pytest

from tiltcli.execution.progress import Remaining


def play(jobs, workers, cost, guess, *, slow_from=None, block=0.5):
    """Train (kind, units) jobs in order; yield (now, time left as said, time left in truth).

    Each job says what it made every `block` seconds, and its time at its end. From `slow_from` on
    the machine is three times slower.
    """
    remaining = Remaining(workers)
    for i, (kind, units) in enumerate(jobs):
        remaining.expect(str(i), kind, units, guess[kind])
    events, said, nexts = [], [], iter(enumerate(jobs))

    def begin(now):
        i, (_, units) = next(nexts, (None, (None, None)))
        if i is not None:
            heapq.heappush(events, (now, i, now, units))

    for _ in range(workers):
        begin(0.0)
    while events:
        now, i, since, left = heapq.heappop(events)
        kind = jobs[i][0]
        pace = cost[kind] * (3 if slow_from is not None and now >= slow_from else 1)
        if left <= 0:
            remaining.ended(str(i), now - since, now)
            begin(now)
        else:
            step = min(left, max(1, block / pace))
            after = now + step * pace
            heapq.heappush(events, (after, i, since, left - step))
            remaining.made(str(i), step, after)
        said.append((now, remaining.seconds_left()))
    end = now
    return [(t, left, end - t) for t, left in said if left is not None]


KINDS = {"narrow": 1e-5, "wide": 1e-3, "torch": 1e-2}


def within(found, factor, *, before):
    for now, said, true in found:
        if true > before:
            assert true / factor < said < factor * true, (now, said, true)


def test_one_kind_is_right_from_its_first_job_on():
    found = play([("wide", 3000)] * 40, 2, KINDS, {"wide": 1})
    within(found, 1.3, before=4)


def test_a_wrong_guess_is_mended_by_the_first_job_of_each_kind():
    """Torch is a thousand times slower than its guess; it comes last."""
    jobs = [("wide", 4000)] * 10 + [("narrow", 100_000)] * 10 + [("torch", 1000)] * 20
    found = play(jobs, 2, KINDS, dict.fromkeys(KINDS, 1.0))
    first = 10 * 4 / 2 + 10 / 2 + 10  # seconds until a job of each kind has ended
    late = [one for one in found if one[0] > first + 1]
    assert len(late) > 50
    within(late, 2.0, before=12)


def test_good_guesses_are_right_before_all_kinds_have_run():
    jobs = [("wide", 4000)] * 10 + [("narrow", 100_000)] * 10 + [("torch", 1000)] * 20
    found = play(jobs, 2, KINDS, {name: 50 * cost for name, cost in KINDS.items()})
    within(found[20:], 2.0, before=12)


def test_it_follows_a_machine_that_gets_busy():
    jobs = [("wide", 3000)] * 100
    found = play(jobs, 2, KINDS, {"wide": 1}, slow_from=60)
    before = [one for one in found if 10 < one[0] < 59]
    # What is to come is not known before.
    assert all(said == pytest.approx((300 / 2 - now), rel=0.3) for now, said, _ in before)
    within([one for one in found if one[0] > 60 + 45], 1.5, before=15)


def test_nothing_is_said_before_anything_is_known():
    remaining = Remaining(2)
    assert remaining.seconds_left() is None
    remaining.expect("a", "k", 100, 1.0)
    remaining.expect("b", "k", 100, 1.0)
    assert remaining.seconds_left() is None
    remaining.made("a", 10, 5.0)
    assert remaining.seconds_left() is None
    remaining.made("a", 10, 6.0)
    assert remaining.seconds_left() == pytest.approx(max((80 + 100) / 10 / 2, 8))
    remaining.made("of another run", 10, 6.0)
    remaining.ended("a", 9.0, 14.0)
    remaining.ended("b", 10.0, 24.0)
    assert remaining.seconds_left() == 0
