"""The adaptive limit against simulated providers, and how soon somebody who is refused should come back."""

import heapq
import random
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.concurrency import (
    BACKOFF,
    LONGEST_WAIT,
    MEMORY,
    PAUSE,
    SHORTEST_WAIT,
    WINDOW,
    AdaptiveLimit,
    Pace,
)


class Kind(NamedTuple):
    """A kind of call: seconds to the first output of an unloaded provider, and from there to the end."""

    model: str = "m"
    prompt: int = 100
    first: float = 1.0
    rest: float = 0.5


class Provider:
    """A provider whose time to the first output grows with the calls beyond its capacity.

    demand: calls that want to be in flight at once; noise: standard deviation of the logarithm of its times.
    """

    def __init__(self, limit: AdaptiveLimit, kinds: Callable[[random.Random], Kind], seed: int = 1) -> None:
        self.limit = limit
        self.capacity = 1000.0
        self.demand = 1000
        self.noise = 0.3
        self.slow: dict[str, float] = {}
        self.now = 0.0
        self.in_flight = 0
        self._kinds = kinds
        self._random = random.Random(seed)
        self._events: list[tuple[float, int, str, float, Kind]] = []
        self._number = 0

    def run(self, calls: int) -> list[int]:
        """So many first outputs; the limit after each."""
        limits: list[int] = []
        while len(limits) < calls:
            while self.in_flight < min(self.limit.limit, self.demand):
                self._begin()
            self.now, _, what, began, kind = heapq.heappop(self._events)
            if what == "end":
                self.in_flight -= 1
                continue
            self.limit.answered(kind.model, kind.prompt, self.now - began, now=self.now, in_flight=self.in_flight)
            limits.append(self.limit.limit)
            self._later(kind.rest, "end", kind)
        return limits

    def _begin(self) -> None:
        self.in_flight += 1
        kind = self._kinds(self._random)
        load = max(1.0, self.in_flight / self.capacity) * self.slow.get(kind.model, 1.0)
        self._later(kind.first * load * self._random.lognormvariate(0.0, self.noise), "first", kind)

    def _later(self, seconds: float, what: str, kind: Kind) -> None:
        self._number += 1
        heapq.heappush(self._events, (self.now + seconds, self._number, what, self.now, kind))


def always(kind: Kind) -> Callable[[random.Random], Kind]:
    return lambda _: kind


def settled(limits: list[int]) -> float:
    """The mean of the last half."""
    half = limits[len(limits) // 2 :]
    return sum(half) / len(half)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("capacity", "most"), [(20, 100), (50, 1000), (200, 1000), (6, 30)])
def test_it_settles_at_one_to_two_and_a_half_times_the_capacity_and_comes_back(
    capacity: int, most: int, seed: int
) -> None:
    limit = AdaptiveLimit(2, most)
    provider = Provider(limit, always(Kind()), seed)
    provider.run(1000)
    assert limit.limit == most
    provider.capacity = capacity
    limits = provider.run(20_000)
    assert capacity <= settled(limits) <= 2.5 * capacity
    assert min(limits[len(limits) // 2 :]) >= capacity
    provider.capacity = 1000
    back = provider.now
    while limit.limit < most:
        provider.run(100)
        assert provider.now - back < 300.0


def test_it_stays_there_however_long_the_overload_lasts() -> None:
    limit = AdaptiveLimit(2, 200)
    provider = Provider(limit, always(Kind()))
    provider.run(1000)
    provider.capacity = 20
    limits = provider.run(200_000)
    assert max(limits[-20_000:]) <= 3 * 20


def test_a_long_answer_with_a_quick_first_token_shrinks_nothing() -> None:
    limit = AdaptiveLimit(2, 100)
    provider = Provider(limit, lambda dice: Kind(first=0.4, rest=dice.choice((1.0, 120.0))))
    assert min(provider.run(10_000)) == 100


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("prompts", [(100, 100), (100, 50_000)], ids=["length unknown", "length known"])
def test_short_and_long_prompts_together_do_not_shrink_it(share: float, prompts: tuple[int, int]) -> None:
    limit = AdaptiveLimit(2, 100)
    short, long = Kind(prompt=prompts[0], first=0.5), Kind(prompt=prompts[1], first=10.0)
    provider = Provider(limit, lambda dice: long if dice.random() < share else short)
    provider.demand = 25
    provider.run(2000)
    provider.demand = 1000
    limits = provider.run(20_000)
    assert settled(limits) >= 80
    assert min(limits) >= 50


def test_a_batch_of_long_prompts_after_short_ones_does_not_shrink_it() -> None:
    kind = Kind(first=0.5)
    limit = AdaptiveLimit(2, 100)
    provider = Provider(limit, lambda _: kind)
    provider.run(2000)
    kind = Kind(prompt=50_000, first=10.0)
    assert min(provider.run(2000)) == 100


def test_a_slow_model_among_others_is_its_own_affair() -> None:
    limit = AdaptiveLimit(2, 100)
    slow, quick = Kind("slow", first=8.0), Kind("quick", first=0.4)
    provider = Provider(limit, lambda dice: dice.choice((slow, quick)))
    provider.run(2000)
    provider.slow["slow"] = 5.0
    assert min(provider.run(5000)) == 100


def test_it_grows_only_when_it_is_in_use() -> None:
    limit = AdaptiveLimit(2, 100)
    provider = Provider(limit, always(Kind()))
    provider.run(1000)
    for number in range(5):
        now = provider.now + number * PAUSE
        limit.refused(began=now, now=now)
    shrunk = limit.limit
    assert shrunk == int(100 * BACKOFF**5)
    provider = Provider(limit, always(Kind()))
    provider.now = 2000.0
    provider.demand = shrunk // 3
    assert set(provider.run(2000)) == {shrunk}
    provider.demand = 1000
    assert provider.run(2000)[-1] == 100


def test_a_provider_that_stays_slow_is_taken_as_it_is_once_the_floor_is_reached() -> None:
    limit = AdaptiveLimit(10, 200)
    provider = Provider(limit, always(Kind()))
    provider.run(1000)
    provider.slow["m"] = 4.0
    limits = provider.run(20_000)
    assert min(limits) == 10
    assert limits[-1] == 200


def test_answers_without_a_time_let_it_grow_again() -> None:
    limit = AdaptiveLimit(2, 100)
    limit.refused(began=0.0, now=1.0)
    for number in range(WINDOW * 10):
        limit.answered("m", 10, None, now=3.0 + number, in_flight=80)
    assert limit.limit == 100


def test_a_swarm_of_refusals_counts_once_and_so_do_calls_from_before() -> None:
    limit = AdaptiveLimit(1, 100)
    for _ in range(50):
        limit.refused(began=10.0, now=10.1)
    assert limit.limit == 80
    limit.refused(began=10.0, now=40.0)
    assert limit.limit == 80
    limit.refused(began=39.0, now=40.0)
    assert limit.limit == 64


def test_calls_from_before_a_change_do_not_shrink_it_twice() -> None:
    limit = AdaptiveLimit(2, 100)
    for number in range(MEMORY):
        limit.answered("m", 10, 1.0, now=number + 1.0, in_flight=10)
    for _ in range(WINDOW * 10):
        limit.answered("m", 10, 10.0, now=310.0, in_flight=100)
    assert limit.limit == 50


def test_milliseconds_are_no_overload() -> None:
    limit = AdaptiveLimit(2, 100)
    for number in range(1000):
        seconds = 0.001 if number < 500 else 0.1
        limit.answered("m", 10, seconds, now=number + seconds, in_flight=100)
        assert limit.limit == 100


_calls = st.lists(
    st.tuples(
        st.sampled_from(("answer", "whole", "refusal")),
        st.sampled_from(("a", "b")),
        st.integers(0, 10**6),
        st.floats(0.0, 1e4),
        st.floats(0.0, 10.0),
        st.integers(0, 500),
    ),
    max_size=300,
)


@given(st.integers(1, 300), st.integers(1, 300), _calls)
def test_it_never_leaves_its_bounds(
    least: int, most: int, calls: list[tuple[str, str, int, float, float, int]]
) -> None:
    limit = AdaptiveLimit(least, most)
    now = 0.0
    for what, model, prompt, seconds, pause, in_flight in calls:
        now += pause
        if what == "refusal":
            limit.refused(began=now - seconds, now=now)
        else:
            first = seconds if what == "answer" else None
            limit.answered(model, prompt, first, now=now, in_flight=in_flight)
        assert min(least, most) <= limit.limit <= most


@pytest.mark.parametrize(
    ("freed", "ahead", "now", "seconds"),
    [
        ([], 0, 5.0, 5.0),
        ([], 3, 5.0, 20.0),
        ([0.5, 1.0, 1.5], 9, 2.0, 5.0),
        ([0.5, 1.0, 1.5], 0, 2.0, SHORTEST_WAIT),
        ([0.5, 1.0, 1.5], 500, 2.0, LONGEST_WAIT),
        ([float(second) for second in range(100)], 4, 100.0, 5 * 32 / 32),
    ],
)
def test_the_wait_follows_the_pace(freed: list[float], ahead: int, now: float, seconds: float) -> None:
    pace = Pace()
    assert pace.wait(ahead, now) == SHORTEST_WAIT
    pace.filled(0.0)
    for moment in freed:
        pace.freed(moment)
    assert pace.wait(ahead, now) == pytest.approx(seconds)
    pace.filled(now)
    assert pace.wait(ahead, now + 2.0) == pytest.approx(min(LONGEST_WAIT, 2.0 * (ahead + 1)))
