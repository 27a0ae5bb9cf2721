"""Prices from the package `genai-prices`: its own data, or a newer list in a file.

    prices.json   in the state directory: a price list in the package's format (version 2), read again when it changes

Whoever wants newer prices without a restart puts the list there that the package's authors publish
(https://raw.githubusercontent.com/pydantic/genai-prices/refs/heads/main/prices/new_data/v2/data.json). A file that
cannot be read changes nothing, and is logged.

Not in it: rates for pictures and video counted by themselves, for hours of sound and pages of documents, which no
usage object of ours has.

Above it: the providers. Below it: `pipelines.pricing`, genai_prices. Outside it: what an operator configured.
"""

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import genai_prices
import pydantic
from genai_prices import data_snapshot, types

from pipelines.pricing import PICO_PER_DOLLAR, Rate, Rates

FILE = "prices.json"

MOST_KEPT = 4096
"""Models whose rates are kept at hand."""

_TIERS: Mapping[str, Mapping[str, str]] = {"batch": {"processing": "batch"}, "fast": {"speed": "fast"}}
"""Tiers that the list knows under another name than `service_tier`."""

_KEYS = {
    "input": ("input_mtok", 1_000_000),
    "cached_read": ("cache_read_mtok", 1_000_000),
    "cache_write": ("cache_write_mtok", 1_000_000),
    "cache_write_long": ("cache_write_1h_mtok", 1_000_000),
    "input_audio": ("input_audio_mtok", 1_000_000),
    "output": ("output_mtok", 1_000_000),
    "reasoning": ("output_reasoning_mtok", 1_000_000),
    "output_audio": ("output_audio_mtok", 1_000_000),
    "request": ("requests_kcount", 1_000),
    "search": ("web_searches_kcount", 1_000),
}
"""Our kinds: the list's name, and for how many units its price is."""

_log = logging.getLogger("penstock.prices")


class _Kept(NamedTuple):
    rates: Rates | None
    until: float


class PriceList:
    """The rates of a list. directory: where `prices.json` may be; None: the package's own list only."""

    def __init__(self, directory: Path | None = None) -> None:
        self._file = directory / FILE if directory is not None else None
        self._stamp: tuple[int, int] | None = None
        self._kept: dict[tuple[str, str, str, str], _Kept] = {}
        self._list = data_snapshot.DataSnapshot(data_snapshot.get_snapshot().providers, from_auto_update=False)
        self.source = f"genai-prices {genai_prices.__version__}"
        self.refresh()

    def refresh(self) -> None:
        """Read the file if it has changed. Blocks, for a new list about a second: call it in a thread."""
        try:
            status = self._file.stat() if self._file is not None else None
        except OSError:
            return
        if self._file is None or status is None or (status.st_mtime_ns, status.st_size) == self._stamp:
            return
        self._stamp = (status.st_mtime_ns, status.st_size)
        try:
            content = self._file.read_bytes()
            providers = providers_of(content)
        except (OSError, ValueError) as error:
            _log.error("%s cannot be read, the prices stay as they are: %s", self._file, str(error)[:200])
            return
        self._list = data_snapshot.DataSnapshot(providers, from_auto_update=False)
        self.source = f"{FILE} {sha256(content).hexdigest()[:12]}"
        self._kept = {}

    def rates(self, provider: str, address: str, model: str, tier: str, now: float) -> Rates | None:
        """The model's rates now, in seconds since 1970; None where the list has none.

        The provider is found by the address of its API, else by name ("" where the name says nothing). Constraints
        of time hold from one full minute to the next.
        """
        key = (provider, address, model, tier)
        kept = self._kept.get(key)
        if kept is None or kept.until <= now:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            kept = self._kept[key] = _Kept(self._found(provider, address, model, tier, now), now // 60 * 60 + 60)
        return kept.rates

    def context(self, provider: str, address: str, model: str) -> int:
        """The model's context length in tokens; 0 where the list does not know it. Found as its rates are."""
        try:
            _, entry = self._entry(provider, address, model)
        except LookupError:
            return 0
        return entry.context_window or 0

    def _entry(self, provider: str, address: str, model: str) -> tuple[types.Provider, types.ModelInfo]:
        """Who sells the model, and what is listed of it. Raises LookupError."""
        try:
            return self._list.find_provider_model(model, None, None, address)
        except LookupError:
            if not provider:
                raise
            return self._list.find_provider_model(model, None, provider, None)

    def _found(self, provider: str, address: str, model: str, tier: str, now: float) -> Rates | None:
        try:
            seller, entry = self._entry(provider, address, model)
            # Rates of a tier are a provider's own; a model that it sells for another one has them at that one.
            own = any(entry is listed for listed in seller.models)
            context = _TIERS.get(tier, {"service_tier": tier}) if tier and own else None
            context = {**context, "service_tier": tier} if context else None
            prices = entry.get_prices(datetime.fromtimestamp(now, UTC), context)
        except (LookupError, ValueError):
            return None
        given = {kind: _rate(getattr(prices, name, None), units) for kind, (name, units) in _KEYS.items()}
        return Rates(source=self.source, **given)


def providers_of(content: bytes) -> list[types.Provider]:
    """A published list, read. Raises ValueError where it is none. Takes about a second."""
    try:
        # The package's own way from its published file to a list; it has no public name.
        providers = types._providers_from_raw(json.loads(content))
    except (TypeError, KeyError, pydantic.ValidationError) as error:
        raise ValueError(f"this is no price list: {error}") from None
    if not providers:
        raise ValueError("this price list is empty")
    return providers


def _rate(price: Decimal | types.TieredPrices | None, units: int) -> Rate | None:
    if price is None:
        return None
    if isinstance(price, types.TieredPrices):
        return Rate(_pico(price.base, units), tuple((tier.start, _pico(tier.price, units)) for tier in price.tiers))
    return Rate(_pico(price, units))


def _pico(price: Decimal, units: int) -> int:
    return round(price * PICO_PER_DOLLAR / units)
