"""What an entry of LiteLLM's `model_list` says of its model, in our own settings; and what a person is told of it.

Sources: https://docs.litellm.ai/docs/proxy/configs (members), https://docs.litellm.ai/docs/proxy/timeout (timeouts),
`model_prices_and_context_window.json` of LiteLLM's repository, `sample_spec` (what `model_info` means).

Above it: `litellm_import`. Below it: `actors.money.price_list`, `providers`. Outside it: groups, and who is asked.
"""

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

from actors.money.price_list import PriceList
from deployments.providers import KINDS
from deployments.providers.tariff import LISTED_KINDS

SAYING_KINDS = frozenset({"ollama", "openrouter"})
"""Kinds whose own list says what a model can do: what the file leaves open is read there."""

_ABILITIES = {
    "vision": "supports_vision",
    "audio": "supports_audio_input",
    "tools": "supports_function_calling",
    "json_schema": "supports_response_schema",
    "reasoning": "supports_reasoning",
}

_MILLION = 1_000_000


class Notes:
    """What a person should know, one sentence each, none twice."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def add(self, sentence: str) -> None:
        """One more."""
        if sentence not in self.sentences:
            self.sentences.append(sentence)

    def number(self, what: str, value: Any) -> float | None:
        """A number, None where there is none: a note says so where something else stands in its place."""
        if value is None:
            return None
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if math.isfinite(number):
            return number
        self.add(f"{what}: not carried over, for it is no number: {str(value)[:60]}")
        return None

    def timeouts(self, what: str, total: Any, stream: Any, *, silent: Any = None) -> dict[str, float]:
        """Patience, in seconds: `timeout` is for the whole answer, and for a stream's silence where nothing else is.

        silent: a `stream_timeout` that holds where the entry has none; LiteLLM takes it before the entry's `timeout`.
        """
        whole, still = self.number(f"{what}: timeout", total), self.number(f"{what}: stream_timeout", stream)
        whole, still = (value if value and value > 0 else None for value in (whole, still))
        found = {"total": whole} if whole else {}
        still = still or (None if silent else whole)
        return found | ({"first_event": still, "idle": still} if still else {})


def card_of(group: str, model: str, info: Mapping[str, Any], notes: Notes) -> dict[str, Any]:
    """What the file says of the model, as our own settings have it. info: its `model_info`."""
    card: dict[str, Any] = {"name": model}
    for ours, theirs in (("context", "max_input_tokens"), ("max_output", "max_output_tokens")):
        if (tokens := notes.number(f"{group}: {theirs}", info.get(theirs))) and tokens >= 1:
            card[ours] = int(tokens)
    if info.get("max_tokens") is not None and not card.keys() & {"context", "max_output"}:
        notes.add(
            f"{group}: max_tokens not carried over: it may be the context or the longest answer, which "
            "max_input_tokens and max_output_tokens say"
        )
    card |= {ours: info[theirs] for ours, theirs in _ABILITIES.items() if isinstance(info.get(theirs), bool)}
    return card | _prices(group, info, notes)


def completed(card: Mapping[str, Any], kind: str, base_url: str) -> dict[str, Any]:
    """The card with what the file leaves open, unless the provider's own list says it.

    The context is that of the price list. Whether it takes images and sound nobody knows: it passes for able, and the
    provider judges.
    """
    if kind in SAYING_KINDS:
        return dict(card)
    seller = kind if kind in LISTED_KINDS else ""
    context = _price_list().context(seller, base_url or KINDS[kind].BASE_URL, card["name"])
    return {"name": card["name"], **({"context": context} if context else {}), "vision": True, "audio": True, **card}


def _prices(group: str, info: Mapping[str, Any], notes: Notes) -> dict[str, float]:
    """US dollars per million tokens."""
    members = {"input_price": "input_cost_per_token", "output_price": "output_cost_per_token"}
    found = {ours: notes.number(f"{group}: {theirs}", info.get(theirs)) for ours, theirs in members.items()}
    return {ours: round(price * _MILLION, 6) for ours, price in found.items() if price is not None}


@cache
def _price_list() -> PriceList:
    return PriceList()
