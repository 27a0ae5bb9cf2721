"""The texts of a request and of an answer, as a guardrail is shown them, and both with other texts in their place.

A request's texts are replaced in the caller's own body, so that everything else of it stays as it came: members that
hold text are those that are called so in one of the dialects. The body is read again afterwards; where that does not
give the texts that were wanted, nothing may go on (`Unredacted`).

Above it: `deployments.guardrails`. Below it: `calls`, `dialects`, `events`. Outside it: who decides, and how.
"""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from pipelines.calls import COUNT_TOKENS, Call
from pipelines.conversation import File, Foreign, Json, Message, Refusal, Request, Text, ToolCall, ToolResult
from pipelines.dialects import DIALECTS
from pipelines.events import Event, PartDelta, PartEnded, PartStarted

_PLACES = ("messages", "input", "system", "instructions", "prompt", "suffix")
"""Members of a body in which there is a prompt's text."""

_TEXTS = frozenset((*_PLACES, "content", "text", "output", "data", "arguments", "refusal"))
"""Members, in there, that hold text itself."""


_FOREIGN_TEXTS = frozenset(("arguments", "content", "input", "output", "text"))
"""The same in what only one dialect has, such as calls of its own tools; its other members are the provider's."""


class Unredacted(Exception):
    """The texts cannot be put in the place of those that are there."""


class Said(NamedTuple):
    """One text. role: who says it; in an answer `assistant`, `reasoning`, `refusal`, `tool_call` (its arguments)."""

    role: str
    text: str


def asked(call: Call) -> list[Said]:
    """Every text of a request, in order."""
    if call.operation == COUNT_TOKENS:
        return said_in(DIALECTS[call.dialect].read_request({"max_tokens": 1, **call.body}))
    if call.operation:
        places = ("input", "prompt", "suffix")
        return [Said("user", text) for place in places for text in _strings(call.body.get(place))]
    return said_in(call.request)


def said_in(request: Request) -> list[Said]:
    """Every text of a conversation, in order."""
    return [said for message in request.messages for said in _message(message)]


def redacted(call: Call, texts: Sequence[str]) -> Call:
    """The call with these texts in the place of its own. Raises Unredacted."""
    before = asked(call)
    if len(texts) != len(before):
        raise Unredacted
    other = {said.text: text for said, text in zip(before, texts, strict=True) if said.text != text}
    places = {name: _replaced(call.body[name], other, inside=True) for name in _PLACES if name in call.body}
    body = {**call.body, **places}
    request = call.request
    if not call.operation:
        read = DIALECTS[call.dialect].read_request(body)
        request = msgspec.structs.replace(read, model=call.request.model)
    changed = msgspec.structs.replace(call, body=body, request=request)
    if [said.text for said in asked(changed)] != list(texts):
        raise Unredacted
    return changed


def answered(events: Iterable[Event]) -> list[Said]:
    """Every text of an answer, in the order in which its parts begin."""
    texts: dict[int, list[str]] = {}
    roles: dict[int, str] = {}
    for event in events:
        if isinstance(event, PartStarted) and event.kind != "foreign":
            roles[event.index], texts[event.index] = _role(event), []
        elif isinstance(event, PartDelta) and event.index in texts:
            texts[event.index].append(event.text)
    return [Said(role, "".join(texts[index])) for index, role in roles.items()]


def rewritten(events: Sequence[Event], texts: Sequence[str]) -> list[Event]:
    """The answer with these texts in the place of its own. Raises Unredacted.

    What belongs to a text that is changed (citations, signatures, log probabilities) goes with it.
    """
    before = answered(events)
    if len(texts) != len(before):
        raise Unredacted
    starts = [event.index for event in events if isinstance(event, PartStarted) and event.kind != "foreign"]
    changed = {index: text for index, said, text in zip(starts, before, texts, strict=True) if said.text != text}
    made: list[Event] = []
    for event in events:
        if isinstance(event, PartStarted) and event.index in changed:
            made += [event, PartDelta(event.index, changed[event.index])]
        elif isinstance(event, PartEnded) and event.index in changed:
            made.append(PartEnded(event.index))
        elif not (isinstance(event, PartDelta) and event.index in changed):
            made.append(event)
    return made


def _message(message: Message) -> Iterable[Said]:
    for part in message.parts:
        if isinstance(part, Text):
            yield Said(message.role, part.text)
        elif isinstance(part, Refusal):
            yield Said("refusal", part.text)
        elif isinstance(part, ToolCall):
            yield Said("tool_call", part.arguments)
        elif isinstance(part, ToolResult):
            yield from (Said("tool", one.text) for one in part.parts if isinstance(one, Text | File) and one.text)
        elif isinstance(part, File) and part.text:
            yield Said(message.role, part.text)
        elif isinstance(part, Foreign):
            yield from (Said(message.role, text) for text in _foreign(part.opaque, inside=False))


def _foreign(value: Json, *, inside: bool) -> Iterable[str]:
    """The texts of what only one dialect has. inside: whether a string that stands here is text."""
    if isinstance(value, str):
        if inside and value:
            yield value
    elif isinstance(value, list):
        for one in value:
            yield from _foreign(one, inside=inside)
    elif isinstance(value, dict):
        for name, one in value.items():
            yield from _foreign(one, inside=name in _FOREIGN_TEXTS)


def _role(start: PartStarted) -> str:
    return "assistant" if start.kind == "text" else start.kind


def _strings(value: Json) -> list[str]:
    """The texts of an operation's input: one, or a list of them; tokens as numbers are none."""
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, str)]


def _member(name: str, value: Json, other: Mapping[str, str]) -> Json:
    """A member with other texts. Anthropic has a call's arguments as an object, which is shown as JSON."""
    if name == "input" and isinstance(value, dict):
        text = other.get(msgspec.json.encode(value).decode())
        with contextlib.suppress(msgspec.DecodeError):
            return value if text is None else msgspec.json.decode(text)
        return value
    return _replaced(value, other, inside=name in _TEXTS)


def _replaced(value: Json, other: Mapping[str, str], *, inside: bool) -> Json:
    """A copy with other texts. inside: whether a string that stands here is text."""
    if isinstance(value, str):
        return other.get(value, value) if inside else value
    if isinstance(value, list):
        return [_replaced(one, other, inside=inside) for one in value]
    if isinstance(value, dict):
        return {name: _member(name, one, other) for name, one in value.items()}
    return value
