"""Token counts of the Messages API, where `input_tokens` count neither cached nor newly cached tokens.

Source: Anthropic API reference, "Messages", `usage`: "Total input tokens in a request is the summation of
`input_tokens`, `cache_creation_input_tokens`, and `cache_read_input_tokens`"; "Compaction" and "Advisor tool": what
these used stands in `iterations` alone, and is billed as well. An advisor's tokens cost what its own, dearer model
does; here they count as if they were the asked model's.

Above it: the decoder, the encoder and the answers of this package. Below it: `counts`, `conversation`.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pipelines.conversation import Json, Usage
from pipelines.dialects.counts import count

_APART = ("compaction", "advisor_message")
"""Types of `iterations` that the counts beside them leave out."""


class _Counts(NamedTuple):
    """Sums of several reports, as this wire counts."""

    fresh: int
    written: int
    read: int
    output: int


def merged_usage(old: Mapping[str, Json], new: Json) -> dict[str, Json]:
    """A later report laid over an earlier one. Counts are cumulative, so a later figure replaces; null does not."""
    if not isinstance(new, dict):
        return dict(old)
    return {**old, **{key: value for key, value in new.items() if value is not None}}


def read_usage(raw: dict[str, Json]) -> Usage | None:
    """Our counts for the provider's object; None for an empty one. Counts that are no numbers are 0."""
    if not raw:
        return None
    reports = [raw, *_apart(raw)]
    sums = _summed(reports)
    details = raw.get("output_tokens_details")
    thinking = count(details.get("thinking_tokens")) if isinstance(details, dict) else 0
    return Usage(
        input=sums.fresh + sums.read + sums.written,
        output=max(sums.output, thinking),
        cached_read=sums.read,
        cache_write=sums.written,
        reasoning=thinking,
        raw=raw,
        cache_write_long=sum(_part(report, "cache_creation", "ephemeral_1h_input_tokens") for report in reports),
        searches=_part(raw, "server_tool_use", "web_search_requests"),
        tier=_tier(raw),
    )


def _apart(raw: Mapping[str, Json]) -> list[dict[str, Json]]:
    """The reports of what the counts of `raw` leave out."""
    iterations = raw.get("iterations")
    given = iterations if isinstance(iterations, list) else []
    return [entry for entry in given if isinstance(entry, dict) and entry.get("type") in _APART]


def _summed(reports: Sequence[Mapping[str, Json]]) -> _Counts:
    def total(name: str) -> int:
        return count(sum(count(report.get(name)) for report in reports))

    return _Counts(
        total("input_tokens"),
        total("cache_creation_input_tokens"),
        total("cache_read_input_tokens"),
        total("output_tokens"),
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
    raw = usage.raw or {}
    apart = _summed(_apart(raw))
    written: dict[str, Json] = {
        "input_tokens": max(0, usage.input - usage.cached_read - usage.cache_write - apart.fresh),
        "cache_creation_input_tokens": max(0, usage.cache_write - apart.written),
        "cache_read_input_tokens": max(0, usage.cached_read - apart.read),
        "output_tokens": max(0, usage.output - apart.output),
    }
    if usage.reasoning:
        written["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    for name, kind in (("server_tool_use", dict), ("iterations", list)):
        if isinstance(raw.get(name), kind):
            written[name] = raw[name]
    return written
