"""Who is asked next, and what the caller hears when nobody is left."""

from collections.abc import Iterator

import pytest

from pipelines.errors import BadRequest, Overloaded, PenstockError, Reason, UpstreamError
from pipelines.routing.ask import Ask, Candidate, Decision
from pipelines.routing.choose import choose
from pipelines.routing.table import ModelCard, Performance, Table
from pipelines.routing.walk import MOST_FAILURES, MOST_UNNAMED, Walk
from tests.pipelines.routing_tables import provider, table

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


MANY = tuple(ModelCard(f"m{number}", quality=0.9) for number in range(350))
OPEN = Performance(breaker="open", open_until=1e9)


AUTHENTICATION: tuple[Reason, ...] = ("authentication",)
REASONS: tuple[Reason, ...] = ("rate_limited", "overloaded", "server_error", "broken", "timeout", "protocol")


def asked(among: Table, error: PenstockError, *wanted: str) -> Iterator[str]:
    """Who is asked in turn where everybody fails so."""
    way = Walk(choose(among, Ask(wanted), 0.0, lambda: 0.5), lambda _: 0, reasons=AUTHENTICATION)
    while (one := way.next()) is not None:
        yield one.name
        assert way.failed(one, error)


@pytest.mark.parametrize(
    "error",
    [
        *[failure(reason) for reason in (*REASONS, *AUTHENTICATION)],
        Overloaded("full"),
    ],
)
def test_a_provider_of_many_models_that_fails_does_not_hide_the_others(error: PenstockError) -> None:
    among = table(provider("large", *MANY), provider("small", ModelCard("m", quality=0.1)))
    names = list(asked(among, error, "auto"))
    assert names.index("small/m") == MOST_FAILURES
    assert len(names) == MOST_UNNAMED


def test_those_that_were_named_are_all_asked() -> None:
    among = table(provider("large", *MANY), provider("small", ModelCard("m", quality=0.1)))
    named = [f"large/m{number}" for number in range(9)]
    names = list(asked(among, failure("server_error"), *named, "small/m"))
    assert names == [*named[:MOST_FAILURES], "small/m", *named[MOST_FAILURES:]]
    assert len(list(asked(among, failure("server_error"), *named, "auto"))) == len(named) + MOST_UNNAMED


def test_where_every_breaker_is_open_one_is_asked_all_the_same() -> None:
    performance = {card.name: OPEN for card in MANY}
    closed = provider("small", ModelCard("m", quality=0.1))
    broken = provider("large", *MANY, performance=performance)
    assert len(list(asked(table(broken), failure("server_error"), "auto"))) == 1
    first, second = asked(table(broken, closed), failure("server_error"), "auto")
    assert (first, second.split("/")[0]) == ("small/m", "large")
    assert list(asked(table(broken), failure("server_error"), "large/m0", "large/m1")) == ["large/m0", "large/m1"]


def test_a_stream_that_broke_may_be_gone_on_with_by_its_own_candidate_last() -> None:
    way = Walk(choose(table(provider("large", *MANY)), Ask(("auto",)), 0.0, lambda: 0.5), lambda _: 0)
    names = [one.name for one in iter(way.next, None) if one is not None]
    assert len(names) == MOST_UNNAMED
    last = Candidate("large", names[-1].removeprefix("large/"), 0.5, {}, unnamed=True)
    way.broken(last, failure("broken"))
    assert way.next() == last
