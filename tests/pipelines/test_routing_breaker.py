from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import Reason
from pipelines.routing.breaker import (
    FAILURES_IN_A_ROW,
    HEALTHY_SECONDS,
    LONGEST_OPEN_SECONDS,
    OPEN_SECONDS,
    TRANSITIONS,
    Breaker,
    Stimulus,
    step,
    stimulus,
)
from pipelines.routing.table import BreakerState, Outcome

STATES: tuple[BreakerState, ...] = get_args(BreakerState)
STIMULI: tuple[Stimulus, ...] = get_args(Stimulus)


def run(breaker: Breaker, *events: Stimulus, now: float = 100.0) -> Breaker:
    for event in events:
        breaker = step(breaker, event, now)
    return breaker


FIVE: list[Stimulus] = ["failure"] * FAILURES_IN_A_ROW
OPEN = run(Breaker(), *FIVE)
LATER = 100.0 + OPEN_SECONDS
HALF_OPEN = step(OPEN, "time", LATER)


@pytest.mark.parametrize(
    ("breaker", "event", "expected"),
    [
        (Breaker(), "success", "closed"),
        (Breaker(), "failure", "closed"),
        (Breaker(failures=4), "failure", "open"),
        (Breaker(), "time", "closed"),
        (OPEN, "success", "half_open"),
        (OPEN, "failure", "open"),
        (OPEN, "time", "half_open"),
        (HALF_OPEN, "success", "closed"),
        (Breaker(failures=4), "begun", "closed"),
        (OPEN, "begun", "half_open"),
        (HALF_OPEN, "begun", "closed"),
        (HALF_OPEN, "failure", "open"),
        (HALF_OPEN, "time", "half_open"),
    ],
)
def test_the_table(breaker: Breaker, event: Stimulus, expected: BreakerState) -> None:
    assert step(breaker, event, LATER).state == expected


def test_every_entry_of_the_table_is_a_state_and_a_stimulus() -> None:
    assert set(TRANSITIONS) <= {(state, event) for state in STATES for event in STIMULI}


def test_five_failures_in_a_row_open_it_and_a_success_between_does_not_count_them() -> None:
    assert run(Breaker(), "failure", "failure", "failure", "failure").state == "closed"
    assert run(Breaker(), *FIVE[:4], "success", *FIVE[:4]).state == "closed"
    assert OPEN.state == "open"


def test_a_stream_that_began_and_broke_opens_it_again_and_one_that_ended_well_does_not() -> None:
    begun = step(HALF_OPEN, "begun", LATER)
    assert step(begun, "failure", LATER).state == "open"
    assert run(begun, "success", *FIVE[:4]).state == "closed"
    outcome = Outcome("p", "m", 0.0, begun=True)
    assert stimulus(HALF_OPEN, outcome, LATER + 10.0) == "begun"


def test_half_of_recent_attempts_failing_opens_it_from_a_minimum_on() -> None:
    breaker = Breaker()
    states = []
    for _ in range(6):
        breaker = run(breaker, "success", "failure")
        states.append(breaker.state)
    assert states[:4] == ["closed"] * 4
    assert "open" in states


def test_old_failures_do_not_add_up_to_a_rate() -> None:
    breaker = Breaker()
    for minute in range(100):
        breaker = run(breaker, "success", "failure", now=60.0 * minute)
    assert breaker.state == "closed"


def test_each_opening_lasts_twice_as_long_up_to_a_maximum() -> None:
    breaker, now, spans = OPEN, 100.0, []
    for _ in range(7):
        spans.append(breaker.open_until - now)
        assert step(breaker, "time", breaker.open_until - 0.001).state == "open"
        now = breaker.open_until
        breaker = step(step(breaker, "time", now), "failure", now)
    assert spans == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0, 4.0]
    assert LONGEST_OPEN_SECONDS < 5.0


def test_a_relapse_is_no_first_opening_and_after_long_health_it_is() -> None:
    closed = step(HALF_OPEN, "success", LATER)
    soon = run(closed, *FIVE, now=LATER + 1)
    late = run(closed, *FIVE, now=LATER + HEALTHY_SECONDS + 1)
    assert soon.open_until - (LATER + 1) == 2 * OPEN_SECONDS
    assert late.open_until - (LATER + HEALTHY_SECONDS + 1) == OPEN_SECONDS


@given(st.lists(st.tuples(st.sampled_from(STIMULI), st.floats(0, 3)), max_size=60))
def test_it_is_never_shut_for_longer_than_the_maximum(events: list[tuple[Stimulus, float]]) -> None:
    breaker, now = Breaker(), 0.0
    for event, pause in events:
        now += pause
        breaker = step(breaker, event, now)
        assert breaker.open_until - now <= LONGEST_OPEN_SECONDS
        assert step(breaker, "time", now + LONGEST_OPEN_SECONDS).state != "open"


BREAKING = {"rate_limited", "overloaded", "server_error", "timeout", "broken", "protocol"}


@pytest.mark.parametrize("reason", get_args(Reason))
def test_whose_fault_a_failure_is(reason: Reason) -> None:
    expected = "failure" if reason in BREAKING else None
    assert stimulus(Breaker(), Outcome("p", "m", 1.0, reason=reason), 100.0) == expected


def test_a_callers_cancel_is_nobodys_failure() -> None:
    assert stimulus(Breaker(), Outcome("p", "m", 1.0, reason="broken", cancelled=True), 100.0) is None


def test_what_began_before_the_opening_says_nothing_of_now() -> None:
    old, probe = Outcome("p", "m", 30.0), Outcome("p", "m", 0.1)
    assert stimulus(HALF_OPEN, old, LATER + 1) is None
    assert stimulus(HALF_OPEN, probe, LATER + 1) == "success"
    assert stimulus(Breaker(), old, LATER + 1) == "success"
