"""Parts of an answer as output items, and the response object around them.

Source: https://platform.openai.com/docs/api-reference/responses/object; fields are those that the `openai`
package's `Response` type requires, and those that the real API always sends. Ids are made from the response's id and
the item's place, since nothing here knows chance or time.

Above it: `encoder`, `dialect`. Below it: `request_writer` (the echo of the request), `opaque`, `usage`.
"""

from collections.abc import Sequence

from pipelines.conversation import Foreign, Json, Opaque, Part, Reasoning, Refusal, Request, Text, ToolCall
from pipelines.dialects.base import our_members
from pipelines.dialects.openai_responses.fields import objects_of
from pipelines.dialects.openai_responses.opaque import OUR_ID, own, reasoning_item
from pipelines.dialects.openai_responses.request_writer import (
    write_reasoning,
    write_text,
    write_tool_choice,
    write_tools,
)
from pipelines.dialects.openai_responses.tool_events import run_item
from pipelines.dialects.openai_responses.usage import incomplete_reason, write_usage
from pipelines.events import Completion, Finished, Started, run_of

_PREFIXES = {"text": "msg_", "refusal": "msg_", "reasoning": OUR_ID, "tool_call": "fc_"}

_CITATION = ("start_index", "end_index", "title", "url")

_ERROR_CODES = frozenset({"server_error", "rate_limit_exceeded", "invalid_prompt", "bio_policy", "invalid_image"})
"""Words that `response.error.code` may be and that fit an error of ours."""


def response_id(started: Started) -> str:
    """The response's id: the provider's own, whatever it looks like."""
    return started.id or "resp_penstock"


def item_id(response: str, kind: str, place: int) -> str:
    """The id of output item `place`, which is of this kind of part. At most 64 characters: the API refuses more."""
    return f"{_PREFIXES.get(kind, 'item_')}{response.rpartition('_')[2][-44:]}_{place}"


def annotations_of(opaque: Opaque | None) -> list[Json]:
    """The annotations of a text; those of the chat dialect are put into this one's form."""
    given = own(opaque).get("annotations")
    if isinstance(given, list):
        return given
    found = []
    for note in _chat(opaque, "annotations", list):
        citation = note.get("url_citation") if isinstance(note, dict) else None
        if isinstance(citation, dict) and all(key in citation for key in _CITATION):
            found.append({"type": "url_citation", **{key: citation[key] for key in _CITATION}})
    return found


def logprobs_of(opaque: Opaque | None) -> list[Json]:
    """The log probabilities of a text; the chat dialect's have the same form, but that bytes may be null there."""
    given = own(opaque).get("logprobs")
    if isinstance(given, list):
        return given
    content = _chat(opaque, "logprobs", dict).get("content")
    return [_weighed(entry) for entry in content if isinstance(entry, dict)] if isinstance(content, list) else []


def _weighed(entry: dict[str, Json]) -> dict[str, Json]:
    """One token with its bytes, which follow from it, and so for its alternatives."""
    weighed = {**entry, "bytes": entry.get("bytes") or list(str(entry.get("token", "")).encode())}
    if isinstance(entry.get("top_logprobs"), list):
        weighed["top_logprobs"] = [_weighed(other) for other in entry["top_logprobs"] if isinstance(other, dict)]
    return weighed


def _chat(opaque: Opaque | None, key: str, kind: type[Json]) -> Json:
    share = (opaque or {}).get("openai_chat")
    value = share.get(key) if isinstance(share, dict) else None
    return value if isinstance(value, kind) else kind()


def text_content(text: str, opaque: Opaque | None) -> dict[str, Json]:
    """A text as content of a message item."""
    return {
        "type": "output_text",
        "text": text,
        "annotations": annotations_of(opaque),
        "logprobs": logprobs_of(opaque),
    }


def message_item(identity: str, status: str, content: list[dict[str, Json]], opaque: Opaque | None) -> dict[str, Json]:
    """A message item. What this dialect keeps of a text besides its content (`phase`) is the message's."""
    more = {key: value for key, value in own(opaque).items() if key not in ("annotations", "logprobs")}
    item = {"type": "message", "id": identity, "status": status, "role": "assistant", "content": content}
    return {**item, **more}


def call_item(identity: str, status: str, call: ToolCall) -> dict[str, Json]:
    """A function call. A call with no arguments at all has the empty object: clients parse it."""
    return {
        "type": "function_call",
        "id": identity,
        "status": status,
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments or "{}",
        **own(call.opaque),
    }


def output_item(part: Part, identity: str, status: str = "completed") -> dict[str, Json] | None:
    """A part as an output item; None where this dialect has no such thing."""
    match part:
        case Text():
            return message_item(identity, status, [text_content(part.text, part.opaque)], part.opaque)
        case Refusal():
            return message_item(identity, status, [{"type": "refusal", "refusal": part.text}], None)
        case Reasoning():
            return reasoning_item(part, identity)
        case ToolCall():
            return call_item(identity, status, part)
        case Foreign():
            run = run_of(part)
            return run_item(run) if run is not None else own(part.opaque) or None
    return None


def _kind(part: Part) -> str:
    return str(part.__struct_config__.tag)


def write_answer(completion: Completion, request: Request) -> dict[str, Json]:
    """A whole answer as a response object. Of several choices the first one: this wire has no `n`."""
    end = completion.finished
    identity = response_id(completion.started)
    output: list[dict[str, Json]] = []
    for part in completion.message.parts:
        item = output_item(part, item_id(identity, _kind(part), len(output)))
        if item is not None:
            output.append(item)
    return ended_response(response_frame(completion.started, request), output, end)


def response_frame(started: Started, request: Request) -> dict[str, Json]:
    """A response object in progress: what was asked, and no output yet."""
    extra = own(request.extra)
    first = request.messages[0] if request.messages else None
    return {
        "id": response_id(started),
        "object": "response",
        "created_at": started.created,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": first.text if first is not None and first.role == "system" else None,
        "max_output_tokens": request.max_tokens,
        "max_tool_calls": extra.get("max_tool_calls"),
        "model": started.model or request.model,
        "output": [],
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": None,
        "prompt_cache_key": extra.get("prompt_cache_key"),
        "reasoning": write_reasoning(request) or {"effort": None, "summary": None},
        "safety_identifier": extra.get("safety_identifier"),
        "service_tier": request.service_tier or None,
        "store": False,
        "temperature": request.temperature,
        "text": {"format": {"type": "text"}, **(write_text(request) or {})},
        "tool_choice": write_tool_choice(request) or "auto",
        "tools": write_tools(request.tools)[0],
        "top_logprobs": request.top_logprobs,
        "top_p": request.top_p,
        "truncation": extra.get("truncation") or "disabled",
        "usage": None,
        "user": request.user or None,
        "metadata": request.metadata or {},
    }


def ended_response(frame: dict[str, Json], output: Sequence[Json], end: Finished) -> dict[str, Json]:
    """The response object of an answer that has ended: completed, or incomplete with the reason.

    The item that was cut off, which is the last one, is incomplete too.
    """
    word = incomplete_reason(end, refused=any(map(_is_refusal, output)))
    items = list(output)
    if word and items and items[-1].get("status") == "completed" and items[-1]["type"] in ("message", "function_call"):
        items[-1] = {**items[-1], "status": "incomplete"}
    tier = own(end.opaque).get("service_tier") or frame["service_tier"]
    return {
        **frame,
        "status": "incomplete" if word else "completed",
        "incomplete_details": {"reason": word} if word else None,
        "output": items,
        "service_tier": tier,
        "usage": write_usage(end.usage),
        **our_members(end.opaque),
    }


def _is_refusal(item: dict[str, Json]) -> bool:
    return any(content.get("type") == "refusal" for content in objects_of(item, "content"))


def failed_response(frame: dict[str, Json], output: Sequence[Json], code: str, message: str) -> dict[str, Json]:
    """The response object of an answer that failed half-way."""
    known = code if code in _ERROR_CODES else "server_error"
    return {**frame, "status": "failed", "error": {"code": known, "message": message}, "output": list(output)}
