"""What a provider's answers cost: by the provider itself, the configuration, a price list, or its own list of models.

In this order the first that knows a price wins, kind by kind where the configuration says only some. A compatible
service is found in the price list by its address; a server of one's own is in none, and costs what is configured.

Above it: `base`. Below it: `actors.money.price_list`, `pipelines.pricing`. Outside it: what was used.
"""

import time
from collections.abc import Iterable
from functools import cache

from actors.money.price_list import PriceList
from deployments.config import state_directory
from pipelines.conversation import Usage
from pipelines.pricing import Cost, Rates, configured, cost_of
from pipelines.routing.table import ModelCard

LISTED_KINDS = frozenset({"openai", "anthropic", "openrouter"})
"""Kinds whose prices hold wherever they are reached: a proxy before OpenAI changes none."""


@cache
def price_list() -> PriceList:
    """The list that all adapters of this process share. The first call reads it, which takes about a second."""
    return PriceList(state_directory())


class Tariff:
    """One provider's prices. kind, base_url: of the adapter; cards: what was configured of its models.

    listed: what the provider's own list says of them, by name.
    """

    def __init__(self, kind: str, base_url: str, cards: Iterable[ModelCard]) -> None:
        self._seller = kind if kind in LISTED_KINDS else ""
        self._base_url = base_url
        self._cards = {card.name: card for card in cards}
        self.listed: dict[str, ModelCard] = {}

    def cost(self, asked: str, answered: str, usage: Usage) -> Cost:
        """What `usage` of a model costs, by the name that was asked for and the provider's own in the answer."""
        return cost_of(usage, None if usage.cost is not None else self.rates(asked, answered, usage.tier))

    def rates(self, asked: str, answered: str = "", tier: str = "") -> Rates | None:
        """A model's prices; None where nobody knows them."""
        prices, now = price_list(), time.time()
        rates: Rates | None = None
        for name in (answered, asked):
            if rates is None and name:
                rates = prices.rates(self._seller, self._base_url, name, tier, now)
        own = self._cards.get(asked) or self._cards.get(answered)
        if own is not None:
            rates = configured(own, rates)
        if rates is None and (card := self.listed.get(asked)) is not None:
            rates = configured(card, None)
        return rates
