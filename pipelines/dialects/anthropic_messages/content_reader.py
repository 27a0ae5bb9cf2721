"""Messages and content blocks of a caller's body.

Tool results stand in user messages on this wire; here they become messages of the role "tool", in their order. A
block that no part stands for (provider-side tool calls and their results, uploads) is a `Foreign`.

Source: Anthropic API reference, "Create a Message", `messages`.

Above it: `request_reader`. Below it: `sources`, `conversation`.
"""

from collections.abc import Callable
from itertools import groupby

import msgspec

from pipelines.conversation import (
    File,
    Foreign,
    Image,
    Json,
    Message,
    Part,
    Reasoning,
    Role,
    Text,
    ToolCall,
    ToolResult,
)
from pipelines.dialects.anthropic_messages.opaque import NAME, owned, rest, unseal
from pipelines.dialects.anthropic_messages.sources import read_document, read_image, read_search_result
from pipelines.dialects.anthropic_messages.tool_blocks import without_ours
from pipelines.dialects.openai_responses.fields import an_object, optional, required
from pipelines.errors import BadRequest

_ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "system": "system"}

_TEXT_FIELDS = frozenset({"type", "text"})
_CALL_FIELDS = frozenset({"type", "id", "name", "input"})
_RESULT_FIELDS = frozenset({"type", "tool_use_id", "content", "is_error"})
_THINKING_FIELDS = frozenset({"type", "thinking", "signature"})
_TYPE = frozenset({"type"})

Block = dict[str, Json]


def read_messages(messages: list[Json]) -> tuple[Message, ...]:
    """All messages; one of the wire may become several. Raises BadRequest naming the path of what is wrong."""
    read: list[Message] = []
    for place, entry in enumerate(without_ours(messages)):
        path = f"messages.{place}"
        message = an_object(entry, path)
        role = _ROLES.get(required(message, "role", str, f"{path}."))
        if role is None:
            raise BadRequest(f'`{path}.role` must be "user" or "assistant"', param=f"{path}.role")
        parts = read_content(message.get("content"), f"{path}.content")
        read += _turns(role, parts)
    return tuple(read)


def system_parts(content: Json, path: str) -> tuple[Part, ...]:
    """`system`: a string or text blocks; () where there is none."""
    if content is None or content == "":
        return ()
    parts = read_content(content, path)
    for place, part in enumerate(parts):
        if not isinstance(part, Text):
            raise BadRequest(f'`{path}.{place}.type` must be "text"', param=f"{path}.{place}.type")
    return tuple(parts)


def read_content(content: Json, path: str) -> list[Part]:
    """A string or a list of blocks."""
    if isinstance(content, str):
        return [Text(content)]
    if not isinstance(content, list):
        raise BadRequest(f"`{path}` must be a string or an array of content blocks", param=path)
    return [_block(an_object(block, f"{path}.{place}"), f"{path}.{place}.") for place, block in enumerate(content)]


def _turns(role: Role, parts: list[Part]) -> list[Message]:
    if role != "user":
        return [Message(role, tuple(parts))]
    runs = groupby(parts, lambda part: isinstance(part, ToolResult))
    turns = [Message("tool" if results else "user", tuple(run)) for results, run in runs]
    return turns or [Message("user")]


def _block(block: Block, path: str) -> Part:
    kind = required(block, "type", str, path)
    reader = _READERS.get(kind)
    return reader(block, path) if reader else Foreign({NAME: dict(block)})


def _text(block: Block, path: str) -> Text:
    optional(block, "citations", list, path)
    return Text(required(block, "text", str, path), owned(rest(block, _TEXT_FIELDS)))


def _thinking(block: Block, path: str) -> Reasoning:
    text = required(block, "thinking", str, path)
    signature = unseal(optional(block, "signature", str, path) or "") or {}
    more = rest(block, _THINKING_FIELDS)
    if more:
        signature = {**signature, NAME: {**signature.get(NAME, {}), **more}}
    return Reasoning(text, signature or None)


def _redacted(block: Block, path: str) -> Reasoning:
    required(block, "data", str, path)
    return Reasoning("", owned(rest(block, _TYPE)))


def _call(block: Block, path: str) -> ToolCall:
    arguments = msgspec.json.encode(required(block, "input", dict, path)).decode()
    identity, name = required(block, "id", str, path), required(block, "name", str, path)
    return ToolCall(identity, name, arguments, owned(rest(block, _CALL_FIELDS)))


def _result(block: Block, path: str) -> ToolResult:
    """A result. Content with blocks that no part stands for is kept whole beside the parts."""
    identity = required(block, "tool_use_id", str, path)
    content = block.get("content")
    parts = read_content(content, f"{path}content") if content is not None else []
    kept = rest(block, _RESULT_FIELDS)
    shown: tuple[Text | Image | File, ...] = tuple(part for part in parts if isinstance(part, Text | Image | File))
    if len(shown) < len(parts):
        kept["content"] = content
    return ToolResult(identity, shown, optional(block, "is_error", bool, path) or False, owned(kept))


_READERS: dict[str, Callable[[Block, str], Part]] = {
    "text": _text,
    "image": read_image,
    "document": read_document,
    "search_result": read_search_result,
    "thinking": _thinking,
    "redacted_thinking": _redacted,
    "tool_use": _call,
    "tool_result": _result,
}
