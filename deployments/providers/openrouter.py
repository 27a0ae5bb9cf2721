"""OpenRouter: many providers behind one OpenAI-compatible API.

Source: https://openrouter.ai/docs/api-reference/overview: `HTTP-Referer` and `X-Title` name the application;
`usage.cost` is the cost in US dollars; comments keep the stream alive; an error in mid-stream is a chunk with an
`error` object. The dialect's decoder knows the last three.
https://openrouter.ai/docs/guides/routing/model-variants/overview: variants of a model's name.
"""

import contextlib
from collections.abc import Mapping
from typing import Any, ClassVar

from deployments.providers.base import Provider
from pipelines.calls import Call
from pipelines.conversation import Json
from pipelines.routing.table import ModelCard


class OpenRouterProvider(Provider):
    """OpenRouter. referer and title are shown in its rankings; a caller's own headers of that name win."""

    KIND: ClassVar[str] = "openrouter"
    KEY_VARIABLE: ClassVar[str] = "OPENROUTER_API_KEY"
    URL_VARIABLE: ClassVar[str] = "OPENROUTER_BASE_URL"
    BASE_URL: ClassVar[str] = "https://openrouter.ai/api/v1"

    def __init__(self, *, referer: str = "", title: str = "Penstock", **settings: Any) -> None:
        super().__init__(**settings)
        self._application = {"http-referer": referer, "x-title": title}

    def headers(self, call: Call, key: str) -> dict[str, str]:
        """Key, and who asks."""
        named = {name: call.headers.get(name) or value for name, value in self._application.items()}
        return {**super().headers(call, key), **{name: value for name, value in named.items() if value}}

    def card(self, item: Mapping[str, Json]) -> ModelCard:
        """OpenRouter's list says context, prices (US dollars a token) and abilities."""
        architecture, pricing = item.get("architecture") or {}, item.get("pricing") or {}
        abilities = item.get("supported_parameters") or ()
        modalities = architecture.get("input_modalities") or ()
        return ModelCard(
            name=str(item.get("id", "")),
            context=int(item.get("context_length") or 0),
            vision="image" in modalities,
            audio="audio" in modalities,
            tools="tools" in abilities,
            json_schema="structured_outputs" in abilities,
            reasoning="reasoning" in abilities,
            input_price=_per_million(pricing.get("prompt")),
            output_price=_per_million(pricing.get("completion")),
            cached_price=_per_million(pricing.get("input_cache_read")),
        )

    def listed_as(self, model: str) -> str:
        """Without a variant of routing (`:nitro`), which the list has not: what it says of the model holds."""
        return model.partition(":")[0]


def _per_million(price: Json) -> float | None:
    with contextlib.suppress(TypeError, ValueError):
        value = float(price) * 1e6
        return value if value >= 0 else None
    return None
