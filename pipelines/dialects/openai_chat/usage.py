"""Token counts of chat completions: `prompt_tokens` include cached ones, `completion_tokens` include reasoning.

Sources: OpenAI API reference, "The completion usage object"; OpenRouter, "Usage accounting" (`cost`,
`cache_write_tokens`); DeepSeek (`prompt_cache_hit_tokens`); xAI (`cost_in_usd_ticks`, reasoning counted beside
`completion_tokens`); gateways before Anthropic (`cache_read_input_tokens`, `cache_creation_input_tokens`).

Above it: the decoder, the encoder and the answers of this package. Below it: `conversation`.
"""

from pipelines.conversation import Json, Usage

DOLLARS_PER_TICK = 1e-10
"""US dollars of one of xAI's ticks."""


def read_usage(raw: Json) -> Usage | None:
    """The provider's usage object; None for anything but an object. Counts that are no numbers are 0."""
    if not isinstance(raw, dict):
        return None
    prompt_details, output_details = (
        _object(raw, "prompt_tokens_details"),
        _object(raw, "completion_tokens_details"),
    )
    prompt, output = _count(raw, "prompt_tokens"), _count(raw, "completion_tokens")
    cached = (
        _count(prompt_details, "cached_tokens")
        or _count(raw, "prompt_cache_hit_tokens")
        or _count(raw, "cache_read_input_tokens")
    )
    written = _count(prompt_details, "cache_write_tokens") or _count(raw, "cache_creation_input_tokens")
    reasoning = _count(output_details, "reasoning_tokens")
    if reasoning and _count(raw, "total_tokens") == prompt + output + reasoning:
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
        cost=_cost(raw),
        raw=raw,
        input_audio=_count(prompt_details, "audio_tokens"),
        output_audio=_count(output_details, "audio_tokens"),
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


def _object(raw: dict[str, Json], name: str) -> dict[str, Json]:
    value = raw.get(name)
    return value if isinstance(value, dict) else {}


def _count(raw: dict[str, Json], name: str) -> int:
    value = raw.get(name)
    if value is None:
        return 0
    return max(0, int(value)) if isinstance(value, int | float) and not isinstance(value, bool) else 0


def _cost(raw: dict[str, Json]) -> float | None:
    cost = raw.get("cost")
    if isinstance(cost, int | float) and not isinstance(cost, bool):
        return float(cost)
    ticks = raw.get("cost_in_usd_ticks")
    if isinstance(ticks, int) and not isinstance(ticks, bool):
        return ticks * DOLLARS_PER_TICK
    return None
