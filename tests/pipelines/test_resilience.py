"""When to ask again: full jitter within bounds, the provider's wait honoured, a budget that holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import BadRequest, Overloaded, RateLimited, TimedOut, UpstreamError
from pipelines.resilience import RULES, RetryBudget, RetryPolicy

POLICY = RetryPolicy(attempts=3, base=0.25, cap=4.0, patience=10.0)


@given(st.integers(1, 2), st.floats(0, 0.999))
def test_a_limiter_is_never_asked_at_once(attempt: int, random: float) -> None:
    wait = POLICY.wait(RateLimited("x"), attempt, random)
    assert wait is not None
    assert 0.125 <= wait <= 0.5


@given(st.floats(0, 10), st.floats(0, 0.999))
def test_the_providers_own_wait_is_the_least(asked: float, random: float) -> None:
    wait = POLICY.wait(RateLimited("x", retry_after=asked), 1, random)
    assert wait is not None
    assert asked <= wait <= asked + 0.25


def test_an_absurd_wait_means_go_elsewhere() -> None:
    assert POLICY.wait(RateLimited("x", retry_after=3600), 1, 0.5) is None


def test_what_is_not_asked_again() -> None:
    assert POLICY.wait(RateLimited("x"), 3, 0.5) is None
    assert POLICY.wait(TimedOut("x", phase="first_event"), 1, 0.5) is None
    assert POLICY.wait(BadRequest("x"), 1, 0.5) is None
    assert POLICY.wait(Overloaded("x"), 1, 0.5) is not None
    for reason, rule in RULES.items():
        assert (POLICY.wait(UpstreamError("x", reason=reason), 1, 0.5) is not None) == rule.retry


@pytest.mark.parametrize(("requests", "seconds"), [(0, 100.0), (1000, 10.0), (10_000, 100.0)])
def test_the_budget_allows_a_share_of_requests_and_a_floor(requests: int, seconds: float) -> None:
    budget, retries = RetryBudget(0.0, share=0.1, floor=3.0, window=10.0), 0
    steps = 1000
    for step in range(steps):
        now = seconds * step / steps
        for _ in range(requests // steps):
            budget.deposit(now)
        while budget.withdraw(now):
            retries += 1
    assert retries <= 30 + 3 * seconds + 0.1 * requests + 1
    assert retries >= 0.9 * (3 * seconds + 0.1 * requests)


def test_time_that_runs_backwards_gives_nothing() -> None:
    budget = RetryBudget(100.0, floor=0.1, window=10.0)
    assert budget.withdraw(100.0)
    assert not budget.withdraw(50.0)
