"""All candidates of `auto` at once: the same figures as one by one, whatever keeps some of them out."""

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import PenstockError
from pipelines.routing.ask import Ask, Bounds, Candidate, Policy
from pipelines.routing.choose import choose
from pipelines.routing.market import Market
from pipelines.routing.table import ModelCard, Performance, Table
from pipelines.routing.worth import WEIGHTS, waiting, worth
from tests.pipelines.routing_tables import provider, table, tables

asks = st.builds(
    Ask,
    st.just(("auto",)),
    policy=st.sampled_from(sorted(WEIGHTS)),
    prompt_tokens=st.sampled_from([0, 500, 200_000]),
    max_tokens=st.none() | st.integers(1, 10_000),
)
qualities = st.fixed_dictionaries({}, optional={"alpha/small": st.floats(0, 1), "beta/large": st.floats(0, 1)})


@given(tables(), asks, qualities, qualities, st.sets(st.integers(0, 8)))
def test_at_once_is_as_one_by_one(
    among: Table, ask: Ask, expected: dict[str, float], drawn: dict[str, float], some: set[int]
) -> None:
    market = Market(among)
    probed = sorted(some & set(range(len(market.targets))))
    found = market.candidates(ask, expected, drawn, probed)
    for index, (target, candidate) in enumerate(zip(market.targets, found, strict=True)):
        assert target.card is not None
        quality = expected.get(target.name, target.card.quality)
        draw = drawn.get(target.name, quality) if drawn else None
        performance = target.entry.performance.get(target.model)
        one = worth(target.card, performance, ask, waiting(target.entry), quality, draw, probe=index in probed)
        assert candidate.name == target.name
        assert candidate.terms == pytest.approx(one.terms, abs=1e-12)
        assert sum(candidate.terms.values()) == pytest.approx(candidate.score)
        assert (candidate.score, candidate.quality) == pytest.approx((one.score, one.quality))
        assert (candidate.dollars is None) == (one.dollars is None)
        assert candidate.dollars is None or candidate.dollars == pytest.approx(one.dollars)
        assert candidate.seconds == pytest.approx(one.seconds)


def decided(among: Table, ask: Ask) -> list[Candidate]:
    try:
        return list(choose(among, ask, 100.0, random.Random(3).random).candidates)
    except PenstockError:
        return []


@given(tables(), asks)
def test_a_key_that_may_use_everything_finds_what_no_limit_finds(among: Table, ask: Ask) -> None:
    """One way adds up in columns, the other one by one: the last digit may differ, and with it the order of equals."""
    limited = {one.name: one for one in decided(among, msgspec.structs.replace(ask, allowed=("*",)))}
    free = {one.name: one for one in decided(among, ask)}
    assert {name: one.score for name, one in limited.items()} == pytest.approx(
        {name: one.score for name, one in free.items()}
    )
    assert [one.score for one in limited.values()] == pytest.approx([one.score for one in free.values()])


@pytest.mark.parametrize("policy", sorted(WEIGHTS))
def test_a_bound_moves_candidates_to_the_end_and_says_why(policy: Policy) -> None:
    dear, cheap = ModelCard("dear", input_price=900.0, output_price=900.0, quality=1.0), ModelCard("cheap", quality=0.1)
    priced = msgspec.structs.replace(cheap, input_price=0.0, output_price=0.0)
    ask = Ask(("auto",), policy=policy, prompt_tokens=1000, bounds=Bounds(max_cost=0.01))
    first, second = decided(table(provider("p", dear, priced)), ask)
    assert (first.model, first.beyond, second.model) == ("cheap", "", "dear")
    assert "more than the bound of $0.01" in second.beyond


def test_an_open_breaker_comes_last_though_its_score_is_the_best() -> None:
    cards = ModelCard("good", quality=1.0), ModelCard("bad", quality=0.0)
    performance = {"good": Performance(breaker="open", open_until=200.0)}
    found = decided(table(provider("p", *cards, performance=performance)), Ask(("auto",)))
    assert [candidate.model for candidate in found] == ["bad", "good"]
    assert found[1].score > found[0].score


def test_it_is_made_once_a_table() -> None:
    among = table(provider("p", ModelCard("m")))
    assert among.market is among.market
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(among), type=Table) == among
