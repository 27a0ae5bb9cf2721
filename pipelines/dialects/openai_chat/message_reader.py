"""A caller's messages, each role with its own members. A member that is not known stays under "openai_chat".

Above it: `request_reader`. Below it: `part_reader`, `fields`, `conversation`.
"""

from pipelines.conversation import (
    Audio,
    File,
    Image,
    Json,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Role,
    Text,
    ToolCall,
    ToolResult,
)
from pipelines.dialects.openai_chat.fields import (
    items,
    kind,
    mapping,
    needed_mapping,
    needed_text,
    rest,
    text,
    wrong,
)
from pipelines.dialects.openai_chat.legacy import LEGACY
from pipelines.dialects.openai_chat.part_reader import read_content
from pipelines.dialects.openai_chat.thoughts import KEY, mark, thought, words

_TEXT = frozenset(("role", "content"))
_WORDS = ("user", "assistant", "system", "developer")
_PLAIN = frozenset(("role", "content", "name"))
_ASSISTANT = _PLAIN | {"refusal", "audio", "tool_calls", "function_call"}
_TOOL = _PLAIN | {"tool_call_id"}
_CALL = frozenset(("id", "type", "function", "custom", "index"))
_SPEAKERS: dict[str, Role] = {"system": "system", "developer": "developer", "user": "user"}


def read_messages(body_messages: list[Json]) -> tuple[Message, ...]:
    """All messages. Raises BadRequest with the path of what is wrong."""
    messages: list[Message] = []
    legacy_calls: dict[str, str] = {}
    for place, entry in enumerate(body_messages):
        if isinstance(entry, dict) and entry.keys() == _TEXT:
            # Nearly all messages are a text and nothing else.
            speaker, content = entry["role"], entry["content"]
            if content and isinstance(content, str) and speaker in _WORDS:
                messages.append(Message(speaker, (Text(content),)))
                continue
        path = f"messages.{place}"
        if not isinstance(entry, dict):
            wrong(path, f"must be an object, not {kind(entry)}")
        role = text(entry, "role", path)
        if role in _SPEAKERS:
            messages.append(_speaker(entry, _SPEAKERS[role], path))
        elif role == "assistant":
            message = _assistant(entry, path, place)
            legacy_calls.update({c.name: c.id for c in message.tool_calls if c.opaque == LEGACY})
            messages.append(message)
        elif role == "tool":
            call_id = needed_text(entry, "tool_call_id", path)
            messages.append(_result(entry, call_id, path, None))
        elif role == "function":
            name = needed_text(entry, "name", path)
            messages.append(_result(entry, legacy_calls.get(name, name), path, LEGACY))
        else:
            wrong(f"{path}.role", "must be one of system, developer, user, assistant, tool, function")
    return tuple(messages)


def _speaker(entry: dict[str, Json], role: Role, path: str) -> Message:
    content = entry.get("content")
    parts = read_content(content, f"{path}.content")
    if isinstance(content, list) and not content:
        wrong(f"{path}.content", "must not be an empty array")
    for place, part in enumerate(parts):
        if isinstance(part, Refusal):
            wrong(f"{path}.content.{place}.type", f"'refusal' has no place in a message of the {role}")
        if role != "user" and isinstance(part, Image | Audio | File):
            wrong(f"{path}.content.{place}.type", f"must be 'text' in a message of the {role}")
    return Message(role, parts, text(entry, "name", path), _others(entry, _PLAIN))


def _result(entry: dict[str, Json], call_id: str, path: str, opaque: Opaque | None) -> Message:
    content = entry.get("content")
    # A function that returned nothing was answered with null in the time of `function_call`.
    parts = () if content is None and opaque else read_content(content, f"{path}.content")
    kept = tuple(part for part in parts if isinstance(part, Text | Image | File))
    if len(kept) < len(parts):
        wrong(f"{path}.content", "may hold text, pictures and files only")
    result = ToolResult(call_id, kept, opaque=opaque)
    return Message("tool", (result,), text(entry, "name", path), _others(entry, _TOOL))


def _assistant(entry: dict[str, Json], path: str, place: int) -> Message:
    parts: list[Part] = []
    field, said, details = thought(entry)
    if field:
        parts.append(Reasoning(said or words(details), mark(field, details)))
    if entry.get("content") is not None:
        parts += read_content(entry["content"], f"{path}.content")
    refusal = text(entry, "refusal", path)
    if refusal:
        parts.append(Refusal(refusal))
    sound = mapping(entry, "audio", path)
    if sound is not None:
        parts.append(Audio(id=needed_text(sound, "id", f"{path}.audio")))
    calls = items(entry, "tool_calls", path)
    parts += [_call(call, f"{path}.tool_calls.{number}") for number, call in enumerate(calls)]
    legacy = mapping(entry, "function_call", path)
    if legacy is not None and not calls:
        inner = f"{path}.function_call"
        name = needed_text(legacy, "name", inner)
        parts.append(ToolCall(f"call_legacy_{place}", name, text(legacy, "arguments", inner), LEGACY))
    known = _ASSISTANT | {field, "reasoning_details"} if field else _ASSISTANT
    return Message("assistant", tuple(parts), text(entry, "name", path), _others(entry, known))


def _call(entry: Json, path: str) -> ToolCall:
    if not isinstance(entry, dict):
        wrong(path, f"must be an object, not {kind(entry)}")
    identity = needed_text(entry, "id", path)
    others = rest(entry, _CALL)
    if entry.get("type") == "custom":
        said = needed_mapping(entry, "custom", path)
        opaque = {KEY: {**others, "type": "custom"}}
        return ToolCall(identity, needed_text(said, "name", f"{path}.custom"), text(said, "input", path), opaque)
    if entry.get("type", "function") != "function":
        wrong(f"{path}.type", "must be 'function' or 'custom'")
    said = needed_mapping(entry, "function", path)
    inner = f"{path}.function"
    name = needed_text(said, "name", inner)
    return ToolCall(identity, name, text(said, "arguments", inner), {KEY: others} if others else None)


def _others(entry: dict[str, Json], known: frozenset[str]) -> Opaque | None:
    others = rest(entry, known)
    return {KEY: others} if others else None
