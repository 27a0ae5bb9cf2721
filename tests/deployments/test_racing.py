"""Candidates one after the other and side by side, in virtual time."""

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

import pytest

from deployments.racing import first_answer
from pipelines.calls import Answer
from pipelines.errors import PenstockError, UpstreamError
from pipelines.routing.ask import Candidate, Decision
from pipelines.routing.table import Role
from pipelines.routing.walk import Walk
from tests.actors.virtual_time import run


class Plan(NamedTuple):
    """What a candidate does: after so many seconds it answers, or fails."""

    seconds: float
    error: PenstockError | None = None


BROKEN = UpstreamError("broken", reason="broken")
REFUSED = UpstreamError("no", reason="content_policy")


class Race:
    """A race and what was seen of it: who was asked when and in which role, who was cancelled, which answers closed."""

    def __init__(self, plans: Mapping[str, Plan], wait: float | None, *, allowed: bool = True) -> None:
        self.plans = plans
        self.wait = wait
        self.allowed = allowed
        self.asked: list[tuple[str, Role, float]] = []
        self.cancelled: list[str] = []
        self.closed: list[str] = []
        self.leave_asked = 0

    async def ask(self, candidate: Candidate, role: Role) -> Answer:
        name = candidate.provider
        self.asked.append((name, role, asyncio.get_running_loop().time()))
        try:
            await asyncio.sleep(self.plans[name].seconds)
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        error = self.plans[name].error
        if error is not None:
            raise error
        answer = Answer()
        answer.on_close(lambda: self.closed.append(name))
        return answer

    def may(self) -> bool:
        self.leave_asked += 1
        return self.allowed

    async def go(self) -> str:
        candidates = tuple(Candidate(name, "m", 0.5, {}) for name in self.plans)
        walk = Walk(Decision(candidates), lambda _: 0)
        winner, _ = await first_answer(walk, self.ask, lambda _: self.wait, self.may)
        return winner.provider


def test_without_hedging_the_next_one_is_asked_after_a_failure() -> None:
    race = Race({"a": Plan(9.0, BROKEN), "b": Plan(1.0)}, None)
    assert run(race.go()) == "b"
    assert race.asked == [("a", "first", 0.0), ("b", "fallback", 9.0)]


def test_a_candidate_in_time_is_alone() -> None:
    race = Race({"a": Plan(0.9), "b": Plan(0.0)}, 1.0)
    assert run(race.go()) == "a"
    assert race.asked == [("a", "first", 0.0)]


def test_a_slow_one_is_overtaken_and_cancelled() -> None:
    race = Race({"a": Plan(60.0), "b": Plan(0.5), "c": Plan(0.0)}, 1.0)
    assert run(race.go()) == "b"
    assert race.asked == [("a", "first", 0.0), ("b", "hedge", 1.0)]
    assert race.cancelled == ["a"]
    assert race.closed == []


def test_the_slow_one_may_still_win() -> None:
    race = Race({"a": Plan(1.2), "b": Plan(5.0)}, 1.0)
    assert run(race.go()) == "a"
    assert race.cancelled == ["b"]


def test_who_answers_at_the_same_moment_too_late_is_closed() -> None:
    race = Race({"a": Plan(1.5), "b": Plan(0.5)}, 1.0)
    assert run(race.go()) == "a"
    assert race.closed + race.cancelled == ["b"]


def test_one_that_fails_leaves_the_race_to_the_other() -> None:
    race = Race({"a": Plan(1.5, BROKEN), "b": Plan(5.0)}, 1.0)
    assert run(race.go()) == "b"
    race = Race({"a": Plan(3.0), "b": Plan(0.1, BROKEN)}, 1.0)
    assert run(race.go()) == "a"


def test_when_both_fail_the_walk_goes_on() -> None:
    race = Race({"a": Plan(1.5, BROKEN), "b": Plan(0.1, BROKEN), "c": Plan(0.1)}, 1.0)
    assert run(race.go()) == "c"
    assert [name for name, _, _ in race.asked] == ["a", "b", "c"]


def test_a_failure_before_the_hedge_is_a_fallback() -> None:
    race = Race({"a": Plan(0.5, BROKEN), "b": Plan(0.1)}, 1.0)
    assert run(race.go()) == "b"
    assert race.asked == [("a", "first", 0.0), ("b", "fallback", 0.5)]


def test_a_refusal_ends_the_race() -> None:
    race = Race({"a": Plan(1.5, REFUSED), "b": Plan(5.0)}, 1.0)
    with pytest.raises(UpstreamError) as caught:
        run(race.go())
    assert caught.value is REFUSED
    assert race.cancelled == ["b"]


def test_the_second_one_s_refusal_leaves_the_first_one_alone() -> None:
    race = Race({"a": Plan(3.0), "b": Plan(0.1, REFUSED), "c": Plan(0.1)}, 1.0)
    assert run(race.go()) == "a"
    assert race.cancelled == []
    race = Race({"a": Plan(3.0, BROKEN), "b": Plan(0.1, REFUSED), "c": Plan(0.1)}, 1.0)
    with pytest.raises(UpstreamError) as caught:
        run(race.go())
    assert caught.value is BROKEN
    assert [name for name, _, _ in race.asked] == ["a", "b"]


def test_a_hedge_that_cannot_be_costs_nothing() -> None:
    race = Race({"a": Plan(60.0)}, 1.0)
    assert run(race.go()) == "a"
    assert race.leave_asked == 0


def test_without_leave_nobody_is_hedged() -> None:
    race = Race({"a": Plan(60.0), "b": Plan(0.5)}, 1.0, allowed=False)
    assert run(race.go()) == "a"
    assert len(race.asked) == 1


def test_a_caller_who_leaves_cancels_both() -> None:
    race = Race({"a": Plan(60.0), "b": Plan(60.0)}, 1.0)

    async def leave() -> None:
        async with asyncio.timeout(2.0):
            await race.go()

    with pytest.raises(TimeoutError):
        run(leave())
    assert sorted(race.cancelled) == ["a", "b"]
