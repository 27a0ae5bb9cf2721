"""Who is asked next, and what the caller hears when nobody is left."""

import pytest

from pipelines.errors import BadRequest, Overloaded, PenstockError, Reason, UpstreamError
from pipelines.routing.ask import Candidate, Decision
from pipelines.routing.walk import Walk

CONTEXT = {"small": 8_000, "same": 8_000, "large": 200_000, "unknown": 0}


def candidate(name: str) -> Candidate:
    return Candidate(name, "m", 0.5, {})


def walk(*names: str, fall_back: bool = True, reasons: tuple[Reason, ...] = ()) -> Walk:
    decision = Decision(tuple(map(candidate, names)))
    return Walk(decision, lambda one: CONTEXT.get(one.provider, 0), fall_back=fall_back, reasons=reasons)


def failure(reason: Reason) -> UpstreamError:
    return UpstreamError(reason, reason=reason)


def test_candidates_come_in_order_and_once() -> None:
    way = walk("a", "b")
    assert [way.next(), way.next(), way.next()] == [candidate("a"), candidate("b"), None]


@pytest.mark.parametrize("reason", ["rate_limited", "overloaded", "server_error", "broken", "timeout", "protocol"])
def test_a_failing_provider_is_followed(reason: Reason) -> None:
    assert walk("a", "b").failed(candidate("a"), failure(reason))


@pytest.mark.parametrize("reason", ["content_policy", "authentication", "permission", "not_found"])
def test_a_refusal_is_followed_only_where_that_is_configured(reason: Reason) -> None:
    assert not walk("a", "b").failed(candidate("a"), failure(reason))
    assert walk("a", "b", reasons=(reason,)).failed(candidate("a"), failure(reason))


def test_what_the_caller_did_wrong_is_never_followed() -> None:
    assert not walk("a", "b").failed(candidate("a"), failure("invalid_request"))
    assert not walk("a", "b").failed(candidate("a"), BadRequest("no"))


def test_nobody_is_asked_after_the_first_where_that_is_switched_off() -> None:
    assert not walk("a", "b", fall_back=False).failed(candidate("a"), failure("server_error"))


def test_a_context_that_is_too_long_goes_only_to_a_larger_one() -> None:
    way = walk("small", "same", "unknown", "large")
    first = way.next()
    assert first is not None
    assert way.failed(first, failure("context_too_long"))
    assert way.next() == candidate("large")


def test_the_largest_context_that_was_too_short_counts() -> None:
    way = walk("large", "small", "same")
    assert way.failed(candidate("large"), failure("context_too_long"))
    assert way.failed(candidate("small"), failure("context_too_long"))
    assert way.next() is None


def test_the_first_meaningful_error_is_heard() -> None:
    first, second = failure("rate_limited"), failure("authentication")
    way = walk("a", "b", "c")
    full: PenstockError = Overloaded("full")
    assert way.nobody().status == 503
    for name, error in (("a", full), ("b", first), ("c", second)):
        way.failed(candidate(name), error)
    assert way.nobody() is first
