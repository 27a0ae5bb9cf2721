"""Models' prices as a gateway replica knows them: by their cards in the routing table, else by the price list.

What an answer did cost is said by the provider's replica (`providers.tariff`); this is for what it is likely to cost.
Where a call may lead to several models (a model's bare name, an alias, `auto`, a list of the caller's own), that is the
price of the dearest which he may ask. The list takes a second to read, in a thread, and is only read where a key has a
budget; to find one model in it takes a quarter of a millisecond, so what is found is kept.

Above it: `gateway`. Below it: `actors.money.price_list`, `choosing`, `guard`, `pipelines.pricing`.
Outside it: what was used.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence

from actors.money.price_list import PriceList
from deployments.choosing import fallbacks
from deployments.guard import may_ask
from deployments.providers.tariff import LISTED_KINDS, price_list
from pipelines.calls import Call, Caller
from pipelines.pricing import Rates, configured
from pipelines.routing.choose import AUTO
from pipelines.routing.table import Table, Target

MOST_NAMES = 1_000
"""Names whose price is kept at hand."""

KEPT = 3600.0
"""Seconds for which what the list says of a model is not looked up again: an estimate may be so old."""

Meanings = Mapping[str, Sequence[str]]
"""What aliases stand for."""


class ListedRates:
    """The rates of what calls name. Nothing is known of the list before it has been read."""

    def __init__(self) -> None:
        self._list: PriceList | None = None
        self._reading: asyncio.Task[None] | None = None
        self._listed: dict[tuple[str, str], Rates | None] = {}
        self._until = 0.0
        self._dearest: dict[tuple[tuple[str, ...], tuple[str, ...] | None], Rates | None] = {}
        self._of: tuple[Table, Meanings] | None = None

    def of(self, table: Table, call: Call, meanings: Meanings) -> Rates | None:
        """What is known now of the prices of what the call may lead to; None where nobody knows any.

        Reckoned once for a table and meanings, which are told apart as objects. Raises BadRequest as `fallbacks` does.
        """
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read())
        if self._of is None or self._of[0] is not table or self._of[1] is not meanings:
            self._of = (table, meanings)
            self._dearest.clear()
        caller, names = call.caller, (call.request.model, *fallbacks(call.body))
        key = (names, caller.models)
        if key not in self._dearest:
            if len(self._dearest) >= MOST_NAMES:
                self._dearest.clear()
            targets = (target for name in names for target in _led_to(table, caller, meanings, name))
            known = [rates for target in targets if (rates := self._rates(target))]
            self._dearest[key] = max(known, key=_price, default=None)
        return self._dearest[key]

    def _rates(self, target: Target) -> Rates | None:
        """One model's."""
        card, provider = target.card, target.entry.name
        if card is not None and None not in (card.input_price, card.output_price):
            return configured(card, None)
        listed = self._found(provider, target.model) if provider in LISTED_KINDS else None
        return configured(card, listed) if card is not None else listed

    def _found(self, provider: str, model: str) -> Rates | None:
        """What the list says, now or within the last hour."""
        if self._list is None:
            return None
        now = time.time()
        if now > self._until or len(self._listed) >= MOST_NAMES:
            self._listed.clear()
            self._until = now + KEPT
        if (provider, model) not in self._listed:
            self._listed[provider, model] = self._list.rates(provider, "", model, "", now)
        return self._listed[provider, model]

    async def _read(self) -> None:
        self._list = await asyncio.to_thread(price_list)
        self._dearest.clear()


def _led_to(
    table: Table,
    caller: Caller,
    meanings: Meanings,
    name: str,
    above: frozenset[str] = frozenset(),
    permitted: bool = False,
) -> Iterator[Target]:
    """The models that `choose` may come to by this name, as far as the caller may ask them."""
    permitted = permitted or (name in (caller.models or ()) and (name in meanings or name == AUTO))
    if name in meanings and name not in above:
        for meant in meanings[name]:
            yield from _led_to(table, caller, meanings, meant, above | {name}, permitted)
        return
    for target in _named(table, name):
        if permitted or may_ask(caller, target.entry.name, target.model):
            yield target


def _named(table: Table, name: str) -> Sequence[Target]:
    """What a name that is no alias means."""
    if name == AUTO:
        return table.market.targets
    provider, slash, model = name.partition("/")
    entry = table.provider(provider) if slash else None
    if entry is not None:
        return [Target(entry, model, entry.card(model), name)]
    return [target for entry in table.providers for target in entry.targets if target.model == name]


def _price(rates: Rates) -> int:
    """Of a token of each kind, to tell which is dearer."""
    return sum(rate.price for rate in (rates.input, rates.output) if rate is not None)
