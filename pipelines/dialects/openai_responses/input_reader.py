"""A caller's `input` to messages.

Source: https://platform.openai.com/docs/api-reference/responses/create (input items). Items of the model that
follow each other (reasoning, message, calls) are one assistant message; each output of a tool is a message of its
own. What only this dialect knows (provider-side calls, custom tools, new kinds of content) becomes `Foreign`, whole.

Above it: `request_reader`. Below it: `fields`, `opaque`. Outside it: every other field of the request.
"""

import re
from collections.abc import Mapping, Sequence

from pipelines.conversation import (
    Audio,
    File,
    Foreign,
    Image,
    Json,
    Message,
    Part,
    Reasoning,
    Refusal,
    Role,
    Text,
    ToolCall,
    ToolResult,
)
from pipelines.dialects.openai_responses.fields import an_object, optional, required, rest
from pipelines.dialects.openai_responses.opaque import BREAK, CONTENT_PART, NAME, own, owned, reasoning_opaque
from pipelines.dialects.openai_responses.tool_events import without_ours
from pipelines.errors import BadRequest

_DATA_URL = re.compile(r"data:([^;,]*);base64,(.*)", re.DOTALL | re.IGNORECASE)

_ROLES: dict[str, Role] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "developer",
}

_CALLER_ITEMS = frozenset({"mcp_approval_response", "compaction_trigger", "additional_tools", "configuration_update"})
"""Items of no message that the caller adds; every `…_output` is one too. All others are the model's."""

_MESSAGE_FIELDS = frozenset({"type", "role", "content", "id", "status"})
_CALL_FIELDS = frozenset({"type", "call_id", "name", "arguments", "id", "status"})
_OUTPUT_FIELDS = frozenset({"type", "call_id", "output", "id", "status"})


def data_url(url: str) -> tuple[str, str] | None:
    """(media type, base64) of a data URL; None where it is another URL."""
    found = _DATA_URL.fullmatch(url)
    return (found[1], found[2]) if found else None


def read_input(source: str | Sequence[Json]) -> list[Message]:
    """`input` to messages. Raises BadRequest with a path such as `input.0.content.1.text`."""
    if isinstance(source, str):
        return [Message("user", (Text(source),))]
    messages: list[Message] = []
    for number, entry in enumerate(without_ours(source)):
        message = _item(an_object(entry, f"input.{number}"), f"input.{number}.")
        last = messages[-1] if messages else None
        if last is not None and last.role == message.role == "assistant":
            messages[-1] = Message("assistant", last.parts + message.parts)
        else:
            messages.append(message)
    return messages


def _item(item: Mapping[str, Json], path: str) -> Message:
    kind = optional(item, "type", str, path) or ("message" if "role" in item else "item_reference")
    match kind:
        case "message":
            return _message(item, path)
        case "function_call":
            return Message("assistant", (_call(item, path),))
        case "function_call_output":
            return Message("tool", (_result(item, path),))
        case "reasoning":
            return Message("assistant", (_reasoning(item, path),))
        case "item_reference":
            raise BadRequest(
                "an item_reference needs answers stored at the provider, and nothing is stored here: send the item "
                "itself (with `store: false`, and `include: ['reasoning.encrypted_content']` for reasoning)",
                param=path.removesuffix("."),
            )
        case _:
            caller = kind.endswith("_output") or kind in _CALLER_ITEMS
            return Message("tool" if caller else "assistant", (Foreign({NAME: dict(item)}),))


def _message(item: Mapping[str, Json], path: str) -> Message:
    word = required(item, "role", str, path)
    role = _ROLES.get(word)
    if role is None:
        raise BadRequest(f"`{path}role` must be one of {', '.join(_ROLES)}", param=path + "role")
    shared = rest(item, _MESSAGE_FIELDS) if role == "assistant" else {}
    content = item.get("content")
    if isinstance(content, str):
        return Message(role, (Text(content, owned(shared)),))
    if not isinstance(content, list):
        raise BadRequest(f"`{path}content` must be a string or an array", param=path + "content")
    parts: list[Part] = []
    for number, entry in enumerate(content):
        place = f"{path}content.{number}"
        parts.append(_content(an_object(entry, place), place + ".", shared))
    return Message(role, tuple(parts))


def _content(part: Mapping[str, Json], path: str, shared: Mapping[str, Json]) -> Part:
    kind = required(part, "type", str, path)
    match kind:
        case "input_text" | "output_text" | "text":
            more = rest(part, frozenset({"type", "text"}))
            return Text(required(part, "text", str, path), owned({**shared, **more}))
        case "refusal":
            return Refusal(required(part, "refusal", str, path))
        case "input_image":
            return _image(part, path)
        case "input_file":
            return _file(part, path)
        case "input_audio":
            sound = required(part, "input_audio", dict, path)
            place = path + "input_audio."
            return Audio(required(sound, "data", str, place), required(sound, "format", str, place))
        case _:
            return Foreign({NAME: {CONTENT_PART: dict(part)}})


def _image(part: Mapping[str, Json], path: str) -> Image:
    url = optional(part, "image_url", str, path) or ""
    detail = optional(part, "detail", str, path) or ""
    more = owned(rest(part, frozenset({"type", "image_url", "detail"})))
    if not url and not optional(part, "file_id", str, path):
        raise BadRequest(f"`{path}image_url` or `{path}file_id` must be given", param=path + "image_url")
    embedded = data_url(url)
    detail = "" if detail == "auto" else detail
    if embedded:
        return Image(data=embedded[1], media_type=embedded[0], detail=detail, opaque=more)
    return Image(url=url, detail=detail, opaque=more)


def _file(part: Mapping[str, Json], path: str) -> File:
    data = optional(part, "file_data", str, path) or ""
    url = optional(part, "file_url", str, path) or ""
    identity = optional(part, "file_id", str, path) or ""
    if not (data or url or identity):
        raise BadRequest(f"`{path}file_data`, `file_url` or `file_id` must be given", param=path + "file_data")
    media_type, data = data_url(data) or ("", data)
    return File(
        name=optional(part, "filename", str, path) or "",
        url=url,
        data=data,
        file_id=identity,
        media_type=media_type,
        opaque=owned(rest(part, frozenset({"type", "file_data", "file_url", "file_id", "filename"}))),
    )


def _call(item: Mapping[str, Json], path: str) -> ToolCall:
    return ToolCall(
        id=required(item, "call_id", str, path),
        name=required(item, "name", str, path),
        arguments=optional(item, "arguments", str, path) or "",
        opaque=owned(rest(item, _CALL_FIELDS)),
    )


def _result(item: Mapping[str, Json], path: str) -> ToolResult:
    call_id = required(item, "call_id", str, path)
    more = owned(rest(item, _OUTPUT_FIELDS))
    output = item.get("output")
    if isinstance(output, str):
        return ToolResult(call_id, (Text(output),), opaque=more)
    if not isinstance(output, list):
        raise BadRequest(f"`{path}output` must be a string or an array", param=path + "output")
    parts: list[Text | Image | File] = []
    for number, entry in enumerate(output):
        place = f"{path}output.{number}"
        part = _content(an_object(entry, place), place + ".", {})
        if isinstance(part, Text | Image | File):
            parts.append(part)
        else:
            # Written again, `opaque` stands over the parts: nothing that only this dialect has is lost.
            more = {NAME: {**own(more), "output": output}}
    return ToolResult(call_id, tuple(parts), opaque=more)


def _reasoning(item: Mapping[str, Json], path: str) -> Reasoning:
    summary = _texts(item, "summary", path)
    content = _texts(item, "content", path)
    optional(item, "encrypted_content", str, path)
    form = "content" if content and not summary else "summary"
    return reasoning_part(item, form, content if form == "content" else summary)


def reasoning_part(item: Mapping[str, Json], form: str, pieces: Sequence[str]) -> Reasoning:
    """A reasoning item as a part: `pieces` joined, the offsets of their joints in `opaque` as `breaks`."""
    opaque = reasoning_opaque(item, form)
    offsets = breaks_of(pieces)
    if offsets:
        opaque = {**(opaque or {}), NAME: {"breaks": offsets, **(opaque or {}).get(NAME, {})}}
    return Reasoning(BREAK.join(pieces), opaque)


def breaks_of(pieces: Sequence[str]) -> list[int]:
    """Where the joints begin in `pieces` joined by `BREAK`, in characters."""
    offsets, length = [], 0
    for piece in pieces[:-1]:
        length += len(piece)
        offsets.append(length)
        length += len(BREAK)
    return offsets


def _texts(item: Mapping[str, Json], key: str, path: str) -> list[str]:
    texts = []
    for number, entry in enumerate(optional(item, key, list, path) or []):
        place = f"{path}{key}.{number}"
        texts.append(required(an_object(entry, place), "text", str, place + "."))
    return texts
