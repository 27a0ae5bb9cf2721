"""Our messages for a provider of this dialect, and an assistant's message for a caller.

What has no place on the wire is named in `dropped` and left out: parts of other dialects, reasoning that did not
come over this wire (servers refuse or misread it), the mark that a tool failed. Pictures in a tool's result, which
the wire does not allow, follow in a message of the user; so do documents that are no text.

Above it: `request_writer`, `answers`. Below it: `part_writer`, `identifiers`, `conversation`.
"""

import re
from collections.abc import Iterable, Sequence

from pipelines.conversation import (
    Audio,
    File,
    Foreign,
    Json,
    Message,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from pipelines.dialects.identifiers import call_of
from pipelines.dialects.openai_chat.legacy import marked
from pipelines.dialects.openai_chat.part_writer import Dropped, content, own_share
from pipelines.dialects.openai_chat.thoughts import FIELD, KEY, carried, joined, own, read_mark, thinking_part

_CALL_ID = re.compile(r".{0,40}", re.DOTALL)
"""Ids of calls that OpenAI takes: it answers 400 (`string_above_max_length`) to longer ones."""


def write_messages(messages: Iterable[Message], dropped: Dropped) -> list[Json]:
    """All messages; one may become several. Adds to `dropped` what could not be said."""
    written: list[Json] = []
    pictures: list[Part] = []
    for message in messages:
        if pictures and message.role != "tool":
            written += _shown(pictures, dropped)
            pictures = []
        if message.role == "assistant":
            own_turn = assistant(message, dropped)
            if not _is_emptied(own_turn, message.parts):
                written.append(_named(message, {"role": "assistant", **own_turn}, dropped))
            continue
        results = [part for part in message.parts if isinstance(part, ToolResult)]
        for result in results:
            written.append(_named(message, _result(result, message, dropped), dropped))
            pictures += [part for part in result.parts if not _is_text(part)]
        others = [part for part in message.parts if not isinstance(part, ToolResult)]
        if message.role != "tool" and (others or not results):
            turn = {"content": content([*pictures, *others], dropped)}
            if not _is_emptied(turn, [*pictures, *others]):
                written.append(_named(message, {"role": message.role, **turn}, dropped))
            pictures = []
        elif others:
            pictures += others
    return written + _shown(pictures, dropped)


def _shown(pictures: Sequence[Part], dropped: Dropped) -> list[Json]:
    """The user's message that shows pictures of tools' results, if any can be said."""
    said = content(pictures, dropped)
    return [{"role": "user", "content": said}] if said else []


def _is_emptied(written: dict[str, Json], parts: Sequence[Part]) -> bool:
    """Whether nothing is left of a message that was more than empty text: some servers refuse an empty one."""
    return written == {"content": ""} and any(not isinstance(part, Text) for part in parts)


def assistant(message: Message, dropped: Dropped | None = None, *, answer: bool = False) -> dict[str, Json]:
    """An assistant's members, without the role. answer: for a caller, with all that came beside the words."""
    dropped = {} if dropped is None else dropped
    written: dict[str, Json] = {}
    said: list[Part] = []
    calls: list[Json] = []
    signed = carried(message.parts)
    for part in message.parts:
        match part:
            case ToolCall() if marked(part.opaque) and not answer:
                written["function_call"] = {"name": part.name, "arguments": part.arguments}
            case ToolCall():
                identity = part.id if answer else call_of(part.id, _CALL_ID)
                calls.append(_call(part, identity, signed.get(part.id, {}), dropped))
            case Reasoning():
                _think(part, written, said, dropped, answer=answer)
            case Refusal():
                written["refusal"] = written.get("refusal", "") + part.text
            case Audio(id=identity) if identity:
                written["audio"] = {"id": identity}
            case Foreign():
                _foreign(part, written, said, dropped, answer=answer)
            case Text():
                said.append(part)
            case _:
                dropped[f"assistant.{type(part).__name__.lower()}"] = None
    if answer:
        written.update(_beside(said))
    text = "".join(part.text for part in said if isinstance(part, Text)) if answer else content(said, dropped)
    if said or answer or not (calls or written):
        # A turn that only calls leaves it out: some servers refuse null (llama-cpp-python).
        written["content"] = text if said or not (calls or written) else None
    if calls:
        written["tool_calls"] = calls
    return written


def _beside(said: list[Part]) -> dict[str, Json]:
    """The citations of an answer; OpenAI's types have room for no other annotation."""
    notes: list[Json] = []
    for part in said:
        if isinstance(part, Text):
            given = own(part.opaque).get("annotations") or []
            notes += [note for note in given if isinstance(note, dict) and note.get("type") == "url_citation"]
    return {"annotations": notes} if notes else {}


def _call(call: ToolCall, identity: str, signed: dict[str, Json], dropped: Dropped) -> dict[str, Json]:
    share = {**signed, **own_share(call.opaque, "tool_call", dropped)}
    others = {name: value for name, value in share.items() if name not in ("type", "logprobs", "legacy")}
    if share.get("type") == "custom":
        return {**others, "id": identity, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    function = {"name": call.name, "arguments": call.arguments}
    return {**others, "id": identity, "type": "function", "function": function}


def _think(part: Reasoning, written: dict[str, Json], said: list[Part], dropped: Dropped, *, answer: bool) -> None:
    share = own(part.opaque)
    inside = None if answer else thinking_part(part.text, share)
    if inside is not None:
        said.append(Foreign({KEY: inside}))
        return
    if not share and not answer:
        dropped["reasoning"] = None
        return
    field, details = read_mark(part.opaque)
    field = FIELD if answer else field
    if part.text:
        written[field] = written.get(field, "") + part.text
    if details:
        written["reasoning_details"] = joined([*written.get("reasoning_details", []), *details])


def _foreign(part: Foreign, written: dict[str, Json], said: list[Part], dropped: Dropped, *, answer: bool) -> None:
    """A kind of part is content again; sound that an answer held is named by its id; pictures go as they came."""
    share = own(part.opaque)
    if not share:
        dropped["foreign"] = None
    elif share.get("type"):
        said.append(part)
    elif answer:
        written.update(share)
    else:
        sound = share.get("audio")
        kept = {**share, "audio": {"id": sound["id"]}} if isinstance(sound, dict) and sound.get("id") else share
        written.update(kept)


def _result(result: ToolResult, message: Message, dropped: Dropped) -> dict[str, Json]:
    if result.is_error:
        dropped["tool_result.is_error"] = None
    own_share(None if marked(result.opaque) else result.opaque, "tool_result", dropped)
    words = [part for part in result.parts if _is_text(part)]
    said = content(words, dropped)
    if marked(result.opaque):
        return {"role": "function", "content": said}
    return {"role": "tool", "tool_call_id": call_of(result.call_id, _CALL_ID), "content": said}


def _is_text(part: Part) -> bool:
    return isinstance(part, Text) or (isinstance(part, File) and bool(part.text))


def _named(message: Message, written: dict[str, Json], dropped: Dropped) -> dict[str, Json]:
    if message.name:
        written["name"] = message.name
    return {**own_share(message.opaque, "message", dropped), **written}
