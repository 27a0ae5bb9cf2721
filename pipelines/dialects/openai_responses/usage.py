"""Token counts and the reason of the end, to and from this wire.

Source: https://platform.openai.com/docs/api-reference/responses/object. `input_tokens` includes cached ones and
`output_tokens` includes reasoning, as in `conversation.Usage`, so nothing is converted. What
it cost, where a provider says that: `counts`.

Above it: `decoder`, `output`. Below it: `counts`, `fields`, `events`.
"""

from collections.abc import Mapping, Set

import msgspec

from pipelines.conversation import Json, Usage
from pipelines.dialects.counts import reported_cost
from pipelines.dialects.openai_responses.fields import count_of, object_of, objects_of, text_of
from pipelines.dialects.openai_responses.opaque import owned
from pipelines.events import Finished, FinishReason, PartKind

CALLER_CALLS = frozenset(
    {
        "function_call",
        "custom_tool_call",
        "local_shell_call",
        "shell_call",
        "apply_patch_call",
        "computer_call",
        "mcp_approval_request",
    }
)
"""Items that the caller must answer before the model goes on, unless `awaits_caller` knows better."""

_INCOMPLETE: dict[str, FinishReason] = {"max_output_tokens": "length", "content_filter": "content_filter"}

_WORDS: dict[FinishReason, str] = {reason: word for word, reason in _INCOMPLETE.items()}

_OTHER_WORDS = frozenset({"max_messages", "steered"})


def awaits_caller(item: Mapping[str, Json]) -> bool:
    """Whether the caller must answer an item; a shell in a container is the provider's, who answers it himself."""
    in_container = text_of(object_of(item, "environment"), "type") == "container_reference"
    return text_of(item, "type") in CALLER_CALLS and not in_container


def is_search(item: Mapping[str, Json]) -> bool:
    """Whether an item is a finished search on the web, of which each has a price (OpenAI's pricing, "Built-in tools").

    An item of the same type that opens a page which was found, or looks for words in it, costs nothing.
    """
    if text_of(item, "type") != "web_search_call" or text_of(item, "status") not in ("", "completed"):
        return False
    return text_of(object_of(item, "action"), "type") in ("", "search")


def finished(response: Mapping[str, Json], kind: str, seen: Set[PartKind], searches: int) -> Finished:
    """How a response ended. kind: the type of its last event; seen: kinds of the parts that the stream told of;
    searches: how many it told of.

    Some servers leave `output` empty in the last event, so what was seen counts as well.
    """
    raw_usage = response.get("usage")
    tier = response.get("service_tier")
    opaque = owned({"service_tier": tier} if isinstance(tier, str) else {})
    reason, word = _reason(response, kind, seen)
    usage = read_usage(raw_usage) if isinstance(raw_usage, dict) else None
    if usage is not None:
        output = objects_of(response, "output")
        searches = sum(map(is_search, output)) if output else searches
        usage = msgspec.structs.replace(usage, searches=searches, tier=tier if isinstance(tier, str) else "")
    return Finished(reason, word, usage=usage, opaque=opaque)


def _reason(response: Mapping[str, Json], kind: str, seen: Set[PartKind]) -> tuple[FinishReason, str]:
    if kind == "response.incomplete":
        word = text_of(object_of(response, "incomplete_details"), "reason")
        return _INCOMPLETE.get(word, "other"), word or "incomplete"
    output = objects_of(response, "output")
    if "tool_call" in seen or any(map(awaits_caller, output)):
        return "tool_calls", "completed"
    said = {text_of(content, "type") for item in output for content in objects_of(item, "content")}
    if "refusal" in seen or "refusal" in said:
        return "refusal", "completed"
    return "stop", "completed"


def incomplete_reason(end: Finished, *, refused: bool) -> str:
    """The word for why an answer is incomplete; "" for one that is complete.

    refused: the answer holds a refusal, which tells callers enough; one that was merely broken off (Anthropic's
    `refusal`) would look whole.
    """
    if end.reason == "refusal" and not refused:
        return "content_filter"
    if end.reason == "other" and end.raw_reason in _OTHER_WORDS:
        return end.raw_reason
    return _WORDS.get(end.reason, "")


def read_usage(raw: dict[str, Json]) -> Usage:
    """A provider's counts. What it calls otherwise stays in `raw`."""
    given = object_of(raw, "input_tokens_details")
    made = object_of(raw, "output_tokens_details")
    return Usage(
        input=count_of(raw, "input_tokens"),
        output=count_of(raw, "output_tokens"),
        cached_read=count_of(given, "cached_tokens"),
        cache_write=count_of(given, "cache_write_tokens"),
        reasoning=count_of(made, "reasoning_tokens"),
        cost=reported_cost(raw),
        raw=raw,
    )


def write_usage(usage: Usage | None) -> dict[str, Json] | None:
    """Counts for a caller; None where there are none."""
    if usage is None:
        return None
    written: dict[str, Json] = {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached_read, "cache_write_tokens": usage.cache_write},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    }
    if usage.cost is not None:
        written["cost"] = usage.cost
    return written
