"""The pace that is learnt from refusals, played through against servers that are made of a clock and a rule."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque

import pytest

from opportune.models.pacing import FIRST, MOST, Pace


class Window:
    """At most so many calls in any second."""

    def __init__(self, limit):
        self.limit, self.taken = limit, deque()

    def __call__(self, now):
        while self.taken and self.taken[0] <= now - 1:
            self.taken.popleft()
        if len(self.taken) >= self.limit:
            return False
        self.taken.append(now)
        return True


class Bucket:
    """So many calls a second on average, saved up to one second's worth."""

    def __init__(self, limit):
        self.limit, self.level, self.at = limit, limit, 0.0

    def __call__(self, now):
        self.level = min(self.limit, self.level + (now - self.at) * self.limit)
        self.at = now
        if self.level < 1:
            return False
        self.level -= 1
        return True


def play(admits, calls, latency, *, retry_after=None, seed=0):
    """Make all calls; the seconds it took, the number of refusals, the pace at the end. No real time passes."""
    pace, now, running, done, refused = Pace(random.Random(seed).random), 0.0, 0, 0, 0
    ends = []
    while done < calls:
        wait = pace.wait(now, running) if done + running < calls else math.inf
        if wait <= 0:
            pace.started(now)
            running += 1
            good = admits(now)
            heapq.heappush(ends, (now + (latency if good else 0.005), now, good))
        elif ends and now + wait >= ends[0][0]:
            now, start, good = heapq.heappop(ends)
            if good:
                pace.answered(now, start, running)
                done += 1
            else:
                pace.refused(now, start, retry_after)
                refused += 1
            running -= 1
        else:
            now += wait + 1e-9
    return now, refused, pace


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rule", [Window, Bucket])
@pytest.mark.parametrize("retry_after", [None, 0.5])
def test_a_rate_limit_is_found_and_kept_to_without_a_storm(rule, retry_after, seed):
    took, refused, _ = play(rule(40), 500, 0.05, retry_after=retry_after, seed=seed)
    assert took <= 1.1 * 500 / 40
    assert refused <= 0.1 * 500


@pytest.mark.parametrize("latency", [0.5, 3.0])
def test_slow_answers_are_no_reason_to_be_slow(latency):
    took, refused, _ = play(Window(20), 1000, latency)
    assert took <= 1.25 * 1000 / 20 + 8 * latency
    assert refused <= 100


def test_without_refusals_there_is_no_pace_and_the_width_grows_to_its_end():
    took, _, pace = play(lambda now: True, 2000, 0.1)
    assert pace.rate(took) is None
    assert pace.width == MOST
    assert took < 5


def test_a_limit_that_is_lifted_is_noticed():
    strict = Window(10)
    took, _, pace = play(lambda now: now > 20 or strict(now), 2000, 0.05)
    assert took < 90
    assert pace.rate(took) > 20


def test_the_width_halves_once_for_calls_that_were_under_way_together():
    pace = Pace(lambda: 0.0)
    pace.started(0.0)
    pace.started(0.0)
    pace.refused(1.0, 0.0, None)
    pace.refused(1.1, 0.0, None)
    assert pace.width == FIRST / 2
    pace.started(3.0)
    pace.refused(3.1, 3.0, None)
    assert pace.width == FIRST / 2  # the hold was too short, that is all
    pace.started(5.0)
    pace.answered(5.1, 5.0, 1)
    pace.started(6.0)
    pace.refused(6.1, 6.0, None)
    assert pace.width == FIRST / 4


def test_one_refusal_holds_all():
    pace = Pace(lambda: 0.0)
    pace.started(0.0)
    pace.refused(0.1, 0.0, 7.0)
    assert pace.wait(0.1, 0) == pytest.approx(7.0)
    assert pace.hold(5.1) == pytest.approx(2.0)
    assert pace.wait(7.2, 0) == 0


def test_refusals_in_a_row_are_waited_for_longer_and_longer():
    pace, now, waits = Pace(lambda: 1.0), 0.0, []
    for _ in range(12):
        pace.started(now)
        pace.refused(now, now, None)
        waits.append(pace.hold(now))
        now += waits[-1] + 0.01
    assert waits[1:] == sorted(waits[1:])
    assert max(waits) == pytest.approx(30.0)


def test_chance_refusals_do_not_slow_down_for_ever():
    chance = random.Random(1)
    took, _, pace = play(lambda now: chance.random() > 0.02, 500, 0.05)
    assert pace.rate(took) > 5
    assert took < 60
