import json
import os
from pathlib import Path

import pytest

from actors.money.price_list import FILE, PriceList
from bench.prices import TOLERANCE, lines
from pipelines.conversation import Usage
from pipelines.pricing import Rate, cost_of

NOW = 1_795_000_000.0
"""A moment in November 2026, in seconds since 1970."""


@pytest.fixture(scope="module")
def prices() -> PriceList:
    return PriceList()


def test_every_recorded_cost_is_what_we_compute_where_the_price_is_known() -> None:
    compared = list(lines())
    if not compared:
        pytest.skip("the shared recordings are absent")
    known = [line for line in compared if line.deviation is not None and line.deviation <= TOLERANCE]
    off = {line.name: line.verdict for line in compared if line.deviation is not None and line not in known}
    assert len(known) >= 15
    assert len(off) <= 1
    assert all(verdict.startswith("another host's price: OpenInference charged") for verdict in off.values())
    assert all(line.computed.nano is None for line in compared if line.deviation is None)


def test_a_provider_is_known_by_its_address_or_its_name(prices: PriceList) -> None:
    by_name = prices.rates("openai", "http://127.0.0.1:9/v1", "gpt-4.1", "", NOW)
    assert by_name is not None
    assert (by_name.input, by_name.output, by_name.cached_read) == (Rate(2_000_000), Rate(8_000_000), Rate(500_000))
    assert by_name.source.startswith("genai-prices ")
    assert prices.rates("", "https://api.openai.com/v1", "gpt-4.1-2025-04-14", "", NOW) == by_name
    assert prices.rates("", "http://127.0.0.1:8080/v1", "gpt-4.1", "", NOW) is None
    assert prices.rates("openai", "", "a-model-of-nobody", "", NOW) is None


def test_batches_and_tiers_have_their_own_rates(prices: PriceList) -> None:
    def output(tier: str) -> int:
        rates = prices.rates("openai", "", "o3", tier, NOW)
        assert rates is not None
        assert rates.output is not None
        return rates.output.price

    assert output("flex") < output("") == output("default") == output("unheard-of")
    assert output("batch") < output("") < output("priority")


def test_a_long_input_may_cost_more_for_every_token(prices: PriceList) -> None:
    rates = prices.rates("anthropic", "", "claude-sonnet-4-5", "", NOW)
    assert rates is not None
    short, long = (cost_of(Usage(input=tokens), rates).nano for tokens in (200_000, 200_001))
    assert short is not None
    assert long is not None
    assert long > 1.9 * short


def _list(price: float) -> str:
    model = {"id": "m", "match": {"equals": "m"}, "prices": {"input_mtok": price, "output_mtok": price}}
    return json.dumps([{"id": "ours", "name": "Ours", "api_pattern": "http://ours", "models": [model]}])


def test_a_new_list_counts_without_a_restart_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / FILE
    file.write_text(_list(1))
    prices = PriceList(tmp_path)

    def now() -> int | None:
        rates = prices.rates("", "http://ours/v1", "m", "", NOW)
        return rates.input.price if rates is not None and rates.input is not None else None

    source = prices.source
    assert now() == 1_000_000
    file.write_text(_list(2.5))
    os.utime(file, ns=(1, 1))
    prices.refresh()
    assert now() == 2_500_000
    assert prices.source not in (source, FILE)
    file.write_text("[{]")
    prices.refresh()
    assert now() == 2_500_000
    file.unlink()
    prices.refresh()
    assert now() == 2_500_000
