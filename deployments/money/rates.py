"""A model's prices as a gateway replica knows them: by its card in the routing table, else by the price list.

What an answer did cost is said by the provider's replica (`providers.tariff`); this is for what it is likely to cost.
The list takes a second to read, in a thread, and is only read where a key has a budget.

Above it: `gateway`. Below it: `actors.money.price_list`, `pipelines.pricing`. Outside it: what was used.
"""

import asyncio
import time

from actors.money.price_list import PriceList
from deployments.providers.tariff import LISTED_KINDS, price_list
from pipelines.pricing import Rates, configured
from pipelines.routing.table import Table


class ListedRates:
    """The rates of models by `provider/model`. Nothing is known of the list before it has been read."""

    def __init__(self) -> None:
        self._list: PriceList | None = None
        self._reading: asyncio.Task[None] | None = None

    def of(self, table: Table, name: str) -> Rates | None:
        """What is known now of a name's prices; None for an alias, `auto`, and what nobody knows the price of."""
        provider, slash, model = name.partition("/")
        entry = table.provider(provider) if slash else None
        if entry is None:
            return None
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read())
        listed = None
        if self._list is not None and provider in LISTED_KINDS:
            listed = self._list.rates(provider, "", model, "", time.time())
        card = entry.card(model)
        return configured(card, listed) if card is not None else listed

    async def _read(self) -> None:
        self._list = await asyncio.to_thread(price_list)
