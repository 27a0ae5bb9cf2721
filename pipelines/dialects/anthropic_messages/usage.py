"""Token counts of the Messages API, where `input_tokens` count neither cached nor newly cached tokens.

Source: Anthropic API reference, "Messages", `usage`: "Total input tokens in a request is the summation of
`input_tokens`, `cache_creation_input_tokens`, and `cache_read_input_tokens`".

Above it: the decoder, the encoder and the answers of this package. Below it: `counts`, `conversation`.
"""

from collections.abc import Mapping

from pipelines.conversation import Json, Usage
from pipelines.dialects.counts import count


def merged_usage(old: Mapping[str, Json], new: Json) -> dict[str, Json]:
    """A later report laid over an earlier one. Counts are cumulative, so a later figure replaces; null does not."""
    if not isinstance(new, dict):
        return dict(old)
    return {**old, **{key: value for key, value in new.items() if value is not None}}


def read_usage(raw: dict[str, Json]) -> Usage | None:
    """Our counts for the provider's object; None for an empty one. Counts that are no numbers are 0."""
    if not raw:
        return None
    read, written = count(raw.get("cache_read_input_tokens")), count(raw.get("cache_creation_input_tokens"))
    details = raw.get("output_tokens_details")
    output = count(raw.get("output_tokens"))
    thinking = count(details.get("thinking_tokens")) if isinstance(details, dict) else 0
    return Usage(
        input=count(raw.get("input_tokens")) + read + written,
        output=max(output, thinking),
        cached_read=read,
        cache_write=written,
        reasoning=thinking,
        raw=raw,
        cache_write_long=_part(raw, "cache_creation", "ephemeral_1h_input_tokens"),
        searches=_part(raw, "server_tool_use", "web_search_requests"),
        tier=_tier(raw),
    )


def _part(raw: Mapping[str, Json], whole: str, name: str) -> int:
    parts = raw.get(whole)
    return count(parts.get(name)) if isinstance(parts, dict) else 0


def _tier(raw: Mapping[str, Json]) -> str:
    """Fast mode is told by a member of its own (`speed`), batches and priority by `service_tier`."""
    tier = "fast" if raw.get("speed") == "fast" else raw.get("service_tier")
    return tier if isinstance(tier, str) else ""


def write_usage(usage: Usage | None) -> dict[str, Json]:
    """A usage object for a caller; zeros where nothing is known, since the wire demands numbers."""
    usage = usage or Usage()
    written: dict[str, Json] = {
        "input_tokens": max(0, usage.input - usage.cached_read - usage.cache_write),
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cached_read,
        "output_tokens": usage.output,
    }
    if usage.reasoning:
        written["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    tools = (usage.raw or {}).get("server_tool_use")
    if isinstance(tools, dict):
        written["server_tool_use"] = tools
    return written
