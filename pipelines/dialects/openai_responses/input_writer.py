"""Messages to the `input` items of a provider.

Ids of messages and calls are not sent: nothing is stored, and a made-up id is refused. Reasoning goes back if this
wire can carry it: its encrypted form, or the plain text of a server that shows its model's own thoughts.

Above it: `request_writer`. Below it: `opaque`, `file_names`, `identifiers`. Outside it: every other field of the
request.
"""

import re
from collections.abc import Sequence

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
    Text,
    ToolCall,
    ToolResult,
)
from pipelines.dialects import base
from pipelines.dialects.file_names import file_name
from pipelines.dialects.identifiers import call_of
from pipelines.dialects.openai_responses.fields import text_of
from pipelines.dialects.openai_responses.opaque import CONTENT_PART, NAME, OUR_ID, own, reasoning_item
from pipelines.dialects.openai_responses.tool_events import without_ours
from pipelines.dialects.sealing import SEAL

_CONTENT_FIELDS = frozenset({"annotations", "logprobs"})
"""What belongs to a text's own part; the rest of what this dialect keeps of a text is its message's."""

_CALL_ID = re.compile(r".{0,64}", re.DOTALL)
"""Ids of calls that OpenAI takes: it answers 400 (`string_above_max_length`) to longer ones."""


def write_input(messages: Sequence[Message]) -> tuple[str, list[dict[str, Json]], list[str]]:
    """(instructions, items, names of what was left out). A plain system text at the front is the instructions."""
    instructions = ""
    first = messages[0] if messages else Message("user")
    if first.role == "system" and len(first.parts) == 1 and not first.opaque:
        text = first.parts[0]
        if isinstance(text, Text) and text.text and not own(text.opaque):
            instructions, messages = text.text, messages[1:]
    writer = _Writer()
    for message in messages:
        writer.write(message)
    return instructions, writer.items, writer.dropped


def add_user_turn(body: dict[str, Json], text: str) -> dict[str, Json]:
    """See `base.Dialect.add_user_turn`: `input` is a text or a list of items, or stands in a stored prompt."""
    given = body.get("input") or []
    items = [_turn(given)] if isinstance(given, str) else given
    return {**body, "input": [*items, _turn(text)]}


def relay_request(body: dict[str, Json], model: str) -> dict[str, Json]:
    """See `base.Dialect.relay_request`.

    Calls of tools that ran here become such as the provider knows. Another provider's reasoning, which is under our own
    seal or id, is taken out: this one would refuse it.
    """
    sent = base.relay_request(body, model)
    if isinstance(sent.get("input"), list):
        sent["input"] = [item for item in without_ours(sent["input"], legal=True) if not _is_ours(item)]
    return sent


def _is_ours(item: Json) -> bool:
    if not isinstance(item, dict) or item.get("type") != "reasoning":
        return False
    encrypted = text_of(item, "encrypted_content")
    return encrypted.startswith(SEAL) or (not encrypted and text_of(item, "id").startswith(OUR_ID))


def _turn(text: str) -> dict[str, Json]:
    return {"type": "message", "role": "user", "content": text}


def write_content(part: Text | Image | File) -> dict[str, Json] | None:
    """A part of a user's message or of a tool's output as content; None where there is nothing that is known here."""
    mine = own(part.opaque)
    match part:
        case Text():
            return {"type": "input_text", "text": part.text, **mine}
        case Image():
            url = f"data:{part.media_type};base64,{part.data}" if part.data else part.url
            source = {**({"image_url": url} if url else {}), **mine}
            return {"type": "input_image", "detail": part.detail or "auto", **source} if source else None
        case File():
            return _file(part, mine)


def _file(part: File, mine: dict[str, Json]) -> dict[str, Json] | None:
    if part.text:
        return {"type": "input_text", "text": part.text}
    if not (part.data or part.url or part.file_id or mine):
        return None
    written: dict[str, Json] = {"type": "input_file"}
    if part.name:
        written["filename"] = part.name
    if part.data:
        written["filename"] = file_name(part)
        written["file_data"] = f"data:{part.media_type};base64,{part.data}" if part.media_type else part.data
    if part.url:
        written["file_url"] = part.url
    if part.file_id:
        written["file_id"] = part.file_id
    return {**written, **mine}


class _Writer:
    """Collects items; content that stands together in one message stays in one item."""

    def __init__(self) -> None:
        self.items: list[dict[str, Json]] = []
        self.dropped: list[str] = []

    def write(self, message: Message) -> None:
        """One message as one or more items."""
        if message.name:
            self.dropped.append("messages.name")
        if message.role == "assistant":
            for part in message.parts:
                self._assistant(part)
            return
        role = "user" if message.role == "tool" else message.role
        content: list[dict[str, Json]] = []
        for part in message.parts:
            if isinstance(part, Text | Image | File):
                content += self._content(part)
                continue
            if isinstance(part, Foreign) and CONTENT_PART in own(part.opaque):
                content.append(own(part.opaque)[CONTENT_PART])
                continue
            before = len(self.items)
            self._other(part)
            beside = self.items[before:]
            if beside:  # an item of its own stands between what is said before it and after it
                del self.items[before:]
                self._said(role, content)
                content = []
                self.items += beside
        self._said(role, content)

    def _content(self, part: Text | Image | File) -> list[dict[str, Json]]:
        """A part as content, nothing where this wire has no form for it."""
        written = write_content(part)
        if written is None:
            self.dropped.append("messages.image" if isinstance(part, Image) else "messages.file")
        return [] if written is None else [written]

    def _said(self, role: str, content: list[dict[str, Json]]) -> None:
        if not content:
            return
        plain = len(content) == 1 and content[0].keys() == {"type", "text"}
        words = content[0]["text"] if plain else content
        self.items.append({"type": "message", "role": role, "content": words})

    def _assistant(self, part: Part) -> None:
        match part:
            case Text():
                mine = own(part.opaque)
                shared = {key: value for key, value in mine.items() if key not in _CONTENT_FIELDS}
                content: Json = part.text
                if mine.get("annotations"):
                    content = [{"type": "output_text", "text": part.text, "annotations": mine["annotations"]}]
                self.items.append({"type": "message", "role": "assistant", "content": content, **shared})
            case Refusal():
                content = [{"type": "refusal", "refusal": part.text}]
                self.items.append({"type": "message", "role": "assistant", "content": content})
            case _:
                self._other(part)

    def _other(self, part: Part) -> None:
        match part:
            case ToolCall():
                call = {"type": "function_call", "call_id": call_of(part.id, _CALL_ID), "name": part.name}
                self.items.append({**call, "arguments": part.arguments or "{}", **own(part.opaque)})
            case ToolResult():
                self._result(part)
            case Reasoning():
                self._reasoning(part)
            case Foreign():
                item = own(part.opaque)
                if CONTENT_PART in item:
                    self.items.append({"type": "message", "role": "assistant", "content": [item[CONTENT_PART]]})
                elif item:
                    self.items.append(item)
                else:
                    self.dropped += [f"messages.{dialect}" for dialect in part.opaque if dialect != NAME]
            case Audio():
                self.dropped.append("messages.audio")
            case Text() | Refusal():
                self.items.append({"type": "message", "role": "user", "content": part.text})
            case Image() | File():
                self.dropped.append("messages.image" if isinstance(part, Image) else "messages.file")

    def _result(self, part: ToolResult) -> None:
        if part.is_error:
            self.dropped.append("messages.is_error")
        output: Json = [entry for inner in part.parts for entry in self._content(inner)]
        if all(entry.keys() == {"type", "text"} for entry in output) and len(output) < 2:
            output = "".join(entry["text"] for entry in output)
        identity = call_of(part.call_id, _CALL_ID)
        self.items.append({"type": "function_call_output", "call_id": identity, "output": output, **own(part.opaque)})

    def _reasoning(self, part: Reasoning) -> None:
        mine = own(part.opaque)
        if mine.get("encrypted_content") or mine.get("form") == "content":
            self.items.append(reasoning_item(part, f"rs_{len(self.items)}"))
        else:
            self.dropped.append("messages.reasoning")
