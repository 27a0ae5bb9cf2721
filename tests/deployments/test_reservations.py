"""What a request reserves of its key's budget before anybody knows what it costs: never far below what it may cost."""

import asyncio
from typing import Any, cast

import pytest

from actors.money.allowance_client import AllowanceClient
from actors.routing.client import RouterClient
from deployments import front as front_module
from deployments.choosing import Chooser
from deployments.config import GatewaySettings
from deployments.money import rates as rates_module
from deployments.money.allowance import USUAL_OUTPUT, Allowances
from deployments.money.rates import ListedRates
from pipelines.allowance import Need
from pipelines.calls import Account, Call, Caller
from pipelines.conversation import Message, Request, Text
from pipelines.keys import Budget, Limits
from pipelines.lease import Lease
from pipelines.pricing import Rate, Rates
from pipelines.routing.table import Bill, ModelCard, Outcome
from tests.pipelines.routing_tables import provider, table

LIMITS = Limits(budget=Budget(day=10**12))
QUESTION = (Message("user", (Text("four" * 100_000),)),)

TABLE = table(
    provider("one", ModelCard("large", input_price=2.5, output_price=10.0), ModelCard("free")),
    provider("two", ModelCard("large", input_price=1.0, output_price=4.0)),
    provider("three", ModelCard("a/small", input_price=0.1, output_price=0.4)),
    provider("far", ModelCard("large", input_price=2.0, output_price=2.0), state="unreachable"),
    provider("openai", ModelCard("listed"), ModelCard("unlisted"), state="unreachable"),
)
LARGE, CHEAPER, SMALL, LISTED = 290_000_000, 116_000_000, 11_600_000, 520_000_000
"""Nano-dollars of 100,000 tokens and an answer of 4,000."""

ALIASES: dict[str, Any] = {
    "best": ["large"],
    "nested": ["three/a/small", "best"],
    "loop": ["loop", "three/a/small"],
    "tried": {"models": ["three/a/small"], "canary": "one/large", "percent": 1.0},
}


class Prices:
    """A price list that knows one model. looks: how often it was asked."""

    looks = 0

    def rates(self, provider: str, address: str, model: str, tier: str, now: float) -> Rates | None:
        self.looks += 1
        return Rates(source="list", input=Rate(5_000_000), output=Rate(5_000_000)) if model == "listed" else None


class Client:
    """Admits everything. needs: what was taken."""

    def __init__(self) -> None:
        self.needs: list[Need] = []

    def lease(self, key: str, limits: Limits) -> Lease:
        return Lease(key, limits, 0.0)

    async def take(self, lease: Lease, need: Need) -> bool:
        self.needs.append(need)
        return True


class Desk:
    """A gateway replica as far as money is concerned."""

    def __init__(self) -> None:
        self.table = TABLE
        self.found = ListedRates()
        chooser = Chooser(GatewaySettings.model_validate({"aliases": ALIASES}), cast(RouterClient, None))
        self.client = Client()
        self.allowances = Allowances(
            cast(AllowanceClient, self.client),
            lambda call: self.found.of(self.table, call, chooser.meanings),
            lambda: 0.0,
        )

    async def reserved(
        self,
        model: str,
        models: tuple[str, ...] | None = None,
        *,
        learned: int = 0,
        further: tuple[str, ...] = (),
        **more: Any,
    ) -> int:
        """What the call reserves. learned: tokens of its answer; further: the caller's own `models`."""
        request = Request(model, QUESTION, **{"max_tokens": 4_000, **more})
        caller = Caller("k", models=models, limits=LIMITS)
        body = {"models": list(further)}
        call = Call("1", "openai_chat", body, request, caller, "routed", account=Account("1"))
        await self.allowances.admit(call)
        self.allowances.over(call, Outcome("one", "large", 1.0, bill=Bill(output=learned, cost=1)), 1)
        return self.client.needs[-1].money


@pytest.fixture
def prices(monkeypatch: pytest.MonkeyPatch) -> Prices:
    """The price list of this process."""
    made = Prices()
    monkeypatch.setattr(rates_module, "price_list", lambda: made)
    return made


@pytest.fixture
async def desk(prices: Prices) -> Desk:
    made = Desk()
    await made.reserved("large")
    while made.found._list is None:
        await asyncio.sleep(0.01)
    return made


@pytest.mark.parametrize(
    ("model", "models", "nano"),
    [
        ("one/large", None, LARGE),
        ("large", None, LARGE),
        ("auto", None, LARGE),
        ("best", None, LARGE),
        ("nested", None, LARGE),
        ("tried", None, LARGE),
        ("loop", None, SMALL),
        ("three/a/small", None, SMALL),
        ("a/small", None, SMALL),
        # What the key may not ask is not what it pays for.
        ("large", ("two/*",), CHEAPER),
        ("auto", ("two/*", "three/*"), CHEAPER),
        ("best", ("best",), LARGE),
        # In no card, but in the price list; then in neither, and what such requests have cost is not known.
        ("openai/listed", None, LISTED),
        ("listed", None, LISTED),
        ("free", None, 1),
        ("nobody's", None, 1),
    ],
)
async def test_the_dearest_model_that_a_name_may_lead_to_is_reserved_for(
    desk: Desk, model: str, models: tuple[str, ...] | None, nano: int
) -> None:
    assert await desk.reserved(model, models) == nano


@pytest.mark.parametrize(
    ("body", "answers"),
    [
        ({"max_tokens": 4_000}, 4_000),
        ({"max_tokens": 4_000, "n": 5}, 20_000),
        ({"max_tokens": 10, "n": 2, "best_of": 5, "prompt": ["a", "b", "c"]}, 150),
        ({"max_tokens": 10, "prompt": [1, 2, 3]}, 10),
        ({"max_tokens": 10**30, "n": "x", "best_of": -1, "prompt": []}, USUAL_OUTPUT),
    ],
)
async def test_a_legacy_completion_is_reserved_for_as_what_it_wants(
    desk: Desk, body: dict[str, Any], answers: int
) -> None:
    request = front_module._bare_request({"model": "one/large", **body})
    caller = Caller("k", limits=LIMITS)
    call = Call("1", "openai_chat", body, request, caller, "routed", operation="/completions", account=Account("1"))
    await desk.allowances.admit(call)
    assert desk.client.needs[-1].money == answers * 10_000


async def test_the_callers_own_further_models_are_reserved_for(desk: Desk) -> None:
    assert await desk.reserved("a/small", further=("two/large", "one/large")) == LARGE
    assert await desk.reserved("a/small", further=("free",)) == SMALL
    assert await desk.reserved("a/small", ("three/*",), further=("one/large",)) == SMALL


async def test_each_answer_that_is_wanted_is_reserved_for(desk: Desk) -> None:
    question, answer = 250_000_000, 10_000
    assert await desk.reserved("one/large", n=10) == question + 10 * 4_000 * answer
    other = Desk()
    assert await other.reserved("one/large", n=3, max_tokens=None, learned=600) == question + 3 * USUAL_OUTPUT * answer
    # One answer of three has had 200 tokens.
    assert await other.reserved("one/large", max_tokens=None) == question + 200 * answer


async def test_the_price_list_is_not_asked_with_every_request(desk: Desk, prices: Prices) -> None:
    for version in range(3):
        desk.table = table(*TABLE.providers)
        for _ in range(10):
            await desk.reserved("listed")
            await desk.reserved("unlisted")
        assert prices.looks == 2, version


async def test_another_table_has_other_prices(desk: Desk) -> None:
    assert await desk.reserved("auto") == LARGE
    desk.table = table(*TABLE.providers[1:])
    assert await desk.reserved("auto") == CHEAPER
