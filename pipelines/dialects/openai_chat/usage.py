"""Token counts of chat completions: `prompt_tokens` include cached ones, `completion_tokens` include reasoning.

Sources: OpenAI API reference, "The completion usage object"; OpenRouter, "Usage accounting" (`cache_write_tokens`);
DeepSeek (`prompt_cache_hit_tokens`); Moonshot (`cached_tokens`); xAI (reasoning counted beside `completion_tokens`);
Gemini (thinking counted in `total_tokens` alone); gateways before Anthropic (`cache_read_input_tokens`,
`cache_creation_input_tokens`); DashScope (the latter among the prompt's details).

Above it: the decoder, the encoder and the answers of this package. Below it: `counts`, `conversation`.
"""

from typing import Annotated, Any

import msgspec

from pipelines.conversation import Json, Usage
from pipelines.dialects.counts import LARGEST, count, reported_cost

_Count = Annotated[int, msgspec.Meta(ge=0, le=LARGEST)]


class _OfPrompt(msgspec.Struct, frozen=True):
    cached_tokens: _Count = 0
    cache_write_tokens: _Count = 0
    cache_creation_input_tokens: _Count = 0
    audio_tokens: _Count = 0


class _OfOutput(msgspec.Struct, frozen=True):
    reasoning_tokens: _Count = 0
    audio_tokens: _Count = 0


class _Counts(msgspec.Struct, frozen=True):
    """The members that count, of every server that is known of."""

    prompt_tokens: _Count = 0
    completion_tokens: _Count = 0
    total_tokens: _Count = 0
    cached_tokens: _Count = 0
    prompt_cache_hit_tokens: _Count = 0
    cache_read_input_tokens: _Count = 0
    cache_creation_input_tokens: _Count = 0
    prompt_tokens_details: _OfPrompt | None = None
    completion_tokens_details: _OfOutput | None = None


def read_usage(raw: Json, model: str = "") -> Usage | None:
    """The provider's usage object; None for anything but an object. Counts that are no numbers are 0.

    model: who answered, as the provider names it.
    """
    if not isinstance(raw, dict):
        return None
    try:
        counts = msgspec.convert(raw, _Counts)
    except msgspec.ValidationError:
        counts = _leniently(raw)
    of_prompt = counts.prompt_tokens_details or _OfPrompt()
    of_output = counts.completion_tokens_details or _OfOutput()
    prompt, output, reasoning = counts.prompt_tokens, counts.completion_tokens, of_output.reasoning_tokens
    cached = (
        of_prompt.cached_tokens
        or counts.prompt_cache_hit_tokens
        or counts.cached_tokens
        or counts.cache_read_input_tokens
    )
    written = (
        of_prompt.cache_write_tokens or of_prompt.cache_creation_input_tokens or counts.cache_creation_input_tokens
    )
    unnamed = counts.total_tokens - prompt - output
    if unnamed > 0 and not reasoning and "gemini" in model.lower():
        reasoning = unnamed
    if reasoning and counts.total_tokens == prompt + output + reasoning:
        output += reasoning
    if cached + written > prompt:
        # No part is more than the whole: this server counts cached tokens beside the others.
        prompt += cached + written
    return Usage(
        input=prompt,
        output=max(output, reasoning),
        cached_read=cached,
        cache_write=written,
        reasoning=reasoning,
        cost=reported_cost(raw),
        raw=raw,
        input_audio=of_prompt.audio_tokens,
        output_audio=of_output.audio_tokens,
    )


def write_usage(usage: Usage) -> dict[str, Json]:
    """A usage object for a caller, with the members that OpenAI's types require."""
    prompt: dict[str, Json] = {"cached_tokens": usage.cached_read}
    if usage.cache_write:
        prompt["cache_write_tokens"] = usage.cache_write
    written: dict[str, Json] = {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": prompt,
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }
    if usage.cost is not None:
        written["cost"] = usage.cost
    return written


def _leniently(raw: dict[str, Json]) -> _Counts:
    """The counts of an object in which some are no counts."""
    of_prompt = _OfPrompt(**_each(_OfPrompt, raw.get("prompt_tokens_details")))
    of_output = _OfOutput(**_each(_OfOutput, raw.get("completion_tokens_details")))
    counts = {**_each(_Counts, raw), "prompt_tokens_details": of_prompt, "completion_tokens_details": of_output}
    return _Counts(**counts)


def _each(kind: type[msgspec.Struct], raw: Json) -> dict[str, Any]:
    value = raw if isinstance(raw, dict) else {}
    return {name: count(value.get(name)) for name in kind.__struct_fields__}
