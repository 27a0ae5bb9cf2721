from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.conversation import Usage
from pipelines.pricing import UNKNOWN, Cost, Rate, Rates, configured, cost_of, in_dollars, likely_cost, per_token
from pipelines.routing.table import ModelCard

SONNET = Rates(
    source="list 1",
    input=Rate(3_000_000, ((200_000, 6_000_000),)),
    cached_read=Rate(300_000),
    cache_write=Rate(3_750_000),
    cache_write_long=Rate(6_000_000),
    output=Rate(15_000_000, ((200_000, 22_500_000),)),
    search=Rate(10_000_000_000),
)

COUNTED: list[tuple[Usage, int]] = [
    (Usage(input=1000, output=100), 3_000_000 + 1_500_000),
    (Usage(input=1000, cached_read=900, output=0), 300_000 + 270_000),
    (Usage(input=1000, cache_write=600, cache_write_long=400), 1_200_000 + 750_000 + 2_400_000),
    (Usage(input=200_000), 600_000_000),
    (Usage(input=200_001, output=2), 1_200_006_000 + 45_000),
    (Usage(input=10, output=10, reasoning=10), 30_000 + 150_000),
    (Usage(searches=2, output=1), 20_000_000 + 15_000),
    # A provider that counts more cached tokens than tokens: what is cached is charged, and nothing is given back.
    (Usage(input=5, cached_read=10), 3_000),
]


@pytest.mark.parametrize(("usage", "nano"), COUNTED)
def test_every_kind_of_token_has_its_price(usage: Usage, nano: int) -> None:
    assert cost_of(usage, SONNET) == Cost(nano, "computed", "list 1")


def test_a_cost_that_the_provider_says_wins() -> None:
    assert cost_of(Usage(input=1, cost=0.25), SONNET) == Cost(250_000_000, "reported")
    assert cost_of(Usage(cost=0.0), None) == Cost(0, "reported")


@pytest.mark.parametrize("nonsense", [-1.0, float("nan"), float("inf"), 1e12])
def test_a_cost_that_is_none_is_not_believed(nonsense: float) -> None:
    assert cost_of(Usage(input=1000, output=100, cost=nonsense), SONNET).nano == 4_500_000


@pytest.mark.parametrize(
    ("usage", "rates"),
    [
        (Usage(input=1, output=1), None),
        (Usage(input=1, output=1), Rates(source="s", input=Rate(1))),
        (Usage(), SONNET),
        (Usage(searches=1), Rates(source="s", output=Rate(1))),
    ],
)
def test_what_nobody_knows_is_unknown_and_not_nothing(usage: Usage, rates: Rates | None) -> None:
    assert cost_of(usage, rates) == UNKNOWN
    assert cost_of(usage, rates).nano is None


def test_a_kind_without_a_rate_costs_what_its_whole_costs() -> None:
    plain = Rates(source="s", input=Rate(1_000), output=Rate(2_000))
    usage = Usage(input=10, cached_read=2, cache_write=3, cache_write_long=1, input_audio=1, output=5, reasoning=4)
    assert cost_of(usage, plain) == Cost(20, "computed", "s")


def test_a_search_without_a_rate_leaves_the_cost_of_the_tokens() -> None:
    assert cost_of(Usage(output=3, searches=2), Rates(source="s", output=Rate(1_000))) == Cost(3, "computed", "s")


def test_a_rate_by_the_request() -> None:
    assert cost_of(Usage(output=1), Rates(source="s", output=Rate(0), request=Rate(5_000_000_000))).nano == 5_000_000


def test_what_is_configured_stands_before_the_list_kind_by_kind() -> None:
    card = ModelCard("m", input_price=1.0, cache_write_price=2.0)
    rates = configured(card, SONNET)
    assert rates is not None
    assert (rates.input, rates.cache_write, rates.output) == (Rate(1_000_000), Rate(2_000_000), SONNET.output)
    assert rates.source == "configuration, list 1"
    assert configured(ModelCard("m"), SONNET) is SONNET
    assert configured(ModelCard("m"), None) is None
    alone = configured(ModelCard("m", input_price=0.0, output_price=0.0), None)
    assert alone is not None
    assert cost_of(Usage(input=7, output=1), alone) == Cost(0, "computed", "configuration")


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9), st.integers(1, 10**9))
def test_more_tokens_never_cost_less_and_the_parts_never_more_than_the_whole(a: int, b: int, c: int, d: int) -> None:
    flat = Rates(source="s", input=Rate(3), cached_read=Rate(1), output=Rate(7))
    cost = cost_of(Usage(input=a + b, cached_read=b, output=c + d, reasoning=d), flat).nano
    assert cost is not None
    assert 0 <= cost <= (3 * (a + b) + 7 * (c + d) + 500) // 1000


def test_a_price_list_s_dollars_become_whole_pico_dollars() -> None:
    figures: dict[float, Any] = {0.0375: 37_500, 1.25: 1_250_000, 0.0: 0, 75.0: 75_000_000}
    assert {price: per_token(price) for price in figures} == figures


@given(st.integers(1, 10**6), st.integers(0, 10**6))
def test_what_is_likely_to_be_paid_is_what_is_paid(question: int, answer: int) -> None:
    nano = cost_of(Usage(input=question, output=answer), SONNET).nano
    likely = likely_cost(SONNET, question, answer)
    assert nano is not None
    assert likely is not None
    assert nano <= likely <= nano + 1
    assert likely_cost(None, question, answer) is None
    assert likely_cost(Rates(source="x", output=Rate(1)), question, answer) is None
    assert likely_cost(Rates(source="x", input=Rate(1_000), request=Rate(5_000)), question, 0) == question + 5


@given(st.integers(-(10**19), 10**19))
def test_dollars_are_exact(nano: int) -> None:
    text = in_dollars(nano)
    assert Decimal(text) * 10**9 == nano
    assert "E" not in text
    assert not text.endswith(".")
