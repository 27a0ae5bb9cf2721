"""Our messages as Ollama's: one text each, beside it pictures as base64, thinking and tool calls.

- several texts of a message, and documents that are text, are joined by a line end
- a tool's result is a message of its own, with the name of its tool and the id of its call; its pictures follow in a
  message of the user, since templates look for them there
- reasoning goes back as `thinking` whoever thought it: the wire has no signatures that could be wrong
- what has no place on the wire is named in `dropped` and left out; a message that then holds nothing is left out too

Source: Ollama, docs/api.md, "Generate a chat completion"; api/types.go, `Message`, `ToolCall`.

Above it: `request_writer`. Below it: `arguments`, `conversation`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from pipelines.conversation import (
    File,
    Image,
    Json,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from pipelines.dialects.arguments import arguments

Dropped = dict[str, None]
"""The names of what could not be said, each once, in order."""


@dataclass
class _Turn:
    """One message of Ollama's while its parts are collected."""

    role: str
    words: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[Json] = field(default_factory=list)

    def written(self) -> dict[str, Json]:
        """As the wire has it; members that hold nothing are left out, but for `content`."""
        members = {"thinking": "".join(self.thoughts), "images": self.pictures, "tool_calls": self.calls}
        said = {"role": self.role, "content": "\n".join(self.words)}
        return {**said, **{name: value for name, value in members.items() if value}}

    def empty(self) -> bool:
        """Whether nothing was said."""
        return not (self.words or self.pictures or self.thoughts or self.calls)


def note(opaque: Opaque | None, what: str, dropped: Dropped) -> None:
    """Name what only other dialects say of `what`, as `what.dialect`."""
    for name in opaque or ():
        dropped[f"{what}.{name}"] = None


def write_messages(messages: Iterable[Message], dropped: Dropped) -> list[Json]:
    """All messages; one may become several. Adds to `dropped` what could not be said."""
    written: list[Json] = []
    names: dict[str, str] = {}
    pictures: list[str] = []
    for message in messages:
        note(message.opaque, "message", dropped)
        names.update({call.id: call.name for call in message.tool_calls})
        results = [part for part in message.parts if isinstance(part, ToolResult)]
        if pictures and not results:
            written.append(_Turn("user", pictures=pictures).written())
            pictures = []
        for result in results:
            turn = _turn("tool", result.parts, dropped)
            pictures += turn.pictures
            turn.pictures = []
            written.append({**turn.written(), **_answered(result, names.get(result.call_id, message.name), dropped)})
        others = [part for part in message.parts if not isinstance(part, ToolResult)]
        turn = _turn(_role(message), others, dropped)
        if turn.role == "user" and not turn.empty():
            turn.pictures, pictures = pictures + turn.pictures, []
        if not turn.empty():
            written.append(turn.written())
        if message.name and message.role != "tool":
            dropped["messages.name"] = None
    return [*written, _Turn("user", pictures=pictures).written()] if pictures else written


def _role(message: Message) -> str:
    """The wire knows no developer; words beside a tool's result are the user's."""
    return {"developer": "system", "tool": "user"}.get(message.role, message.role)


def _turn(role: str, parts: Iterable[Part], dropped: Dropped) -> _Turn:
    turn = _Turn(role)
    for part in parts:
        _add(part, turn, dropped)
    return turn


def _add(part: Part, turn: _Turn, dropped: Dropped) -> None:
    assistant = turn.role == "assistant"
    kind = type(part).__name__.lower()
    match part:
        case Text():
            note(part.opaque, kind, dropped)
            turn.words.append(part.text)
        case Refusal():
            dropped[kind] = None
            turn.words.append(part.text)
        case File() if part.text:
            note(part.opaque, kind, dropped)
            turn.words.append(part.text)
        case Image() if part.data and not assistant:
            note(part.opaque, kind, dropped)
            turn.pictures.append(part.data)
        case Reasoning() if part.text and assistant:
            turn.thoughts.append(part.text)
        case ToolCall() if assistant:
            note(part.opaque, "tool_call", dropped)
            turn.calls.append({"id": part.id, "function": {"name": part.name, "arguments": arguments(part)}})
        case _:
            dropped[kind] = None


def _answered(result: ToolResult, name: str, dropped: Dropped) -> dict[str, Json]:
    """Which call a result answers; "" of a tool whose call is not there is left out."""
    note(result.opaque, "tool_result", dropped)
    if result.is_error:
        dropped["tool_result.is_error"] = None
    members = {"tool_name": name, "tool_call_id": result.call_id}
    return {member: value for member, value in members.items() if value}
