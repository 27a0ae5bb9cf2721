"""What tokens cost: counts and rates in, whole nano-dollars out.

Money is an integer count of nano-dollars (1e-9 US dollars). Databases add integers exactly and fast, which SQLite
does with no decimal and nobody does with floats; and a nano-dollar is a tenth of what the cheapest token costs, so that
rounding once an answer changes no sum that anybody pays. Rates are whole pico-dollars (1e-12) a token: a price list's
dollars a million tokens, times a million.

A kind of token without a rate of its own is charged as the kind that it is part of. Where that has none either, or the
provider counted nothing at all, the cost is unknown: None, never 0. A search without a price is left out: its tokens
have theirs, and an answer of unknown cost would count in no budget at all.

Above it: `actors.money.price_list`, the providers, the ledger. Below it: `conversation`, `routing.table`.
Outside it: where rates come from, and when they hold.
"""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from pipelines.conversation import Usage
from pipelines.routing.table import Basis, ModelCard

NANO = 1_000_000_000
"""Nano-dollars of a US dollar."""

PICO_PER_NANO = 1_000
PICO_PER_DOLLAR = NANO * PICO_PER_NANO

CURRENCY = "USD"
"""Every price list and every provider that says a cost says it in US dollars."""

MOST_DOLLARS = 1_000_000
"""A single answer that is said to cost more says nonsense, and sums of it would not fit 64 bits."""

CONFIGURED = "configuration"


class Rate(msgspec.Struct, frozen=True):
    """Pico-dollars for one unit. tiers: (more than so many tokens of input, then so much for every unit), ascending.

    Crossing a tier sets the price of all tokens, not of those above it alone (genai-prices, `TieredPrices`: the rule
    of Anthropic, Google and OpenAI).
    """

    price: int
    tiers: tuple[tuple[int, int], ...] = ()

    def at(self, prompt: int) -> int:
        """The price where the whole input has `prompt` tokens."""
        return next((price for start, price in reversed(self.tiers) if prompt > start), self.price)


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """One model's rates. source: which list and version says so; request, search: for each one, not for a token.

    cache_write_long is for input that stays cached for an hour.
    """

    source: str
    input: Rate | None = None
    cached_read: Rate | None = None
    cache_write: Rate | None = None
    cache_write_long: Rate | None = None
    input_audio: Rate | None = None
    output: Rate | None = None
    reasoning: Rate | None = None
    output_audio: Rate | None = None
    request: Rate | None = None
    search: Rate | None = None


class Cost(NamedTuple):
    """nano: nano-dollars, None: unknown; prices: the list and version that it was computed by."""

    nano: int | None
    basis: Basis
    prices: str = ""


UNKNOWN = Cost(None, "unknown")


def cost_of(usage: Usage, rates: Rates | None) -> Cost:
    """What `usage` costs. What the provider says itself wins; without that, and without rates, nobody knows."""
    if usage.cost is not None and 0.0 <= usage.cost <= MOST_DOLLARS:
        return Cost(round(usage.cost * NANO), "reported")
    if rates is None or not (usage.input or usage.output or (usage.searches and rates.search)):
        return UNKNOWN
    total = rates.request.at(usage.input) if rates.request is not None else 0
    for count, rate in _charged(usage, rates):
        if count > 0:
            if rate is None:
                return UNKNOWN
            total += count * rate.at(usage.input)
    nano = (total + PICO_PER_NANO // 2) // PICO_PER_NANO
    return Cost(nano, "computed", rates.source) if nano <= MOST_DOLLARS * NANO else UNKNOWN


def likely_cost(rates: Rates | None, question: int, answer: int) -> int | None:
    """Nano-dollars, rounded up, of so many plain tokens; None where nobody knows."""
    if rates is None or rates.input is None or (rates.output is None and answer):
        return None
    pico = question * rates.input.at(question) + (rates.request.at(question) if rates.request is not None else 0)
    if rates.output is not None:
        pico += answer * rates.output.at(question)
    return -(-pico // PICO_PER_NANO)


def _charged(usage: Usage, rates: Rates) -> Iterator[tuple[int, Rate | None]]:
    """Every unit once, with its rate. Parts that a provider counts as more than their whole leave nothing of it."""
    special = usage.cached_read + usage.cache_write + usage.input_audio
    yield usage.input - special, rates.input
    yield usage.cached_read, rates.cached_read or rates.input
    yield usage.cache_write - usage.cache_write_long, rates.cache_write or rates.input
    yield usage.cache_write_long, rates.cache_write_long or rates.cache_write or rates.input
    yield usage.input_audio, rates.input_audio or rates.input
    yield usage.output - usage.reasoning - usage.output_audio, rates.output
    yield usage.reasoning, rates.reasoning or rates.output
    yield usage.output_audio, rates.output_audio or rates.output
    yield usage.searches if rates.search is not None else 0, rates.search


def configured(card: ModelCard, listed: Rates | None) -> Rates | None:
    """A list's rates under what an operator wrote of the model, kind by kind; None where neither says anything."""
    given = {
        "input": card.input_price,
        "output": card.output_price,
        "cached_read": card.cached_price,
        "cache_write": card.cache_write_price,
    }
    own = {kind: Rate(per_token(price)) for kind, price in given.items() if price is not None}
    if not own:
        return listed
    if listed is None:
        return Rates(source=CONFIGURED, **own)
    return msgspec.structs.replace(listed, source=f"{CONFIGURED}, {listed.source}", **own)


def per_token(dollars_per_million: float) -> int:
    """US dollars for a million tokens as pico-dollars for one."""
    return round(dollars_per_million * (PICO_PER_DOLLAR // 1_000_000))


def dollars(nano: int) -> float:
    """Nano-dollars as US dollars, for people and for JSON."""
    return nano / NANO


def in_dollars(nano: int) -> str:
    """Nano-dollars as US dollars in decimal, exactly: `1.5`."""
    whole, part = divmod(abs(nano), NANO)
    text = f"{whole}.{part:09}".rstrip("0").rstrip(".")
    return f"-{text}" if nano < 0 else text
