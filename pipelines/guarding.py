"""The texts of a request and of an answer, as a guardrail is shown them, and both with other texts in their place.

A request's texts are replaced in the caller's own body, so that everything else of it stays as it came. What no
attribute of a part stands for is shown too, whatever its members are called: all but marks (ids, types, names), what
only its provider can read (encrypted content, signatures), pictures, sound and definitions of tools. The body is read
again afterwards; where that does not give the texts that were wanted, nothing may go on (`Unredacted`).

Above it: `deployments.guardrails`. Below it: `calls`, `dialects`, `events`. Outside it: who decides, and how.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from pipelines.calls import COUNT_TOKENS, Call
from pipelines.conversation import (
    File,
    Json,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Request,
    Text,
    ToolCall,
    ToolResult,
)
from pipelines.dialects import DIALECTS
from pipelines.dialects.anthropic_messages.opaque import own as share_of
from pipelines.events import Event, PartDelta, PartEnded, PartStarted

_BESIDE = ("prompt", "documents")
"""Members of a body that are part of what is asked and of no message: a stored prompt's variables, what is quoted."""

_OPERATION = ("input", "prompt", "suffix", "messages")
"""Members of an operation's body in which there is text."""

_PLACES = ("messages", "input", "system", "instructions", "prompt", "suffix", "documents")
"""Members of a body in which there is a prompt's text."""

_NUMBERS = ("input", "prompt", "suffix", "prompt_embeds")
"""Members of an operation's body that may hold tokens, or the embeddings of a prompt (vLLM)."""

_MARKS = frozenset(
    (
        *("id", "type", "role", "status", "phase", "name", "namespace", "version", "server_label", "server_name"),
        *("format", "media_type", "mime_type", "detail", "ttl"),
    )
)
"""Members, in there, whose strings are no text: a provider knows their few values, or who is meant."""

_UNSEEN = frozenset(("tools", "logprobs"))
"""Members, in there, in which nothing is looked at."""

_BY_NAME = frozenset(("variables", "attributes", "metadata", "env"))
"""Members, in there, whose own members are called as the caller likes."""

_ARGUMENTS = frozenset(("input", "arguments"))
"""Members, in there, that may be an object made by a model, and are shown as JSON then."""

_ROLES: dict[type, str] = {Refusal: "refusal", ToolCall: "tool_call", ToolResult: "tool"}
"""Who says a part, where that is not the role of its message."""


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
        return [Said("user", text) for place in _OPERATION for text in _texts(call.body.get(place))]
    return said_in(call.request)


def said_in(request: Request) -> list[Said]:
    """Every text of a conversation, in order; what stands beside its messages comes last."""
    said = [said for message in request.messages for said in _message(message)]
    for share in (request.extra or {}).values():
        places = [share.get(place) for place in _BESIDE] if isinstance(share, dict) else []
        said += [Said("user", text) for place in places for text in _texts(place)]
    return said


def unreadable(call: Call) -> str:
    """The member of an operation's body that holds tokens or embeddings in the place of text; "" if none does."""
    places = _NUMBERS if call.operation and call.operation != COUNT_TOKENS else ()
    return next((place for place in places if _holds_numbers(place, call.body.get(place))), "")


def redacted(call: Call, texts: Sequence[str]) -> Call:
    """The call with these texts in the place of its own. Raises Unredacted."""
    before = asked(call)
    if len(texts) != len(before):
        raise Unredacted
    other = {said.text: text for said, text in zip(before, texts, strict=True) if said.text != text}
    places = {
        name: _mapped(call.body[name], lambda text: other.get(text, text)) for name in _PLACES if name in call.body
    }
    body = {**call.body, **places}
    request = call.request
    if not call.operation:
        read = DIALECTS[call.dialect].read_request(body)
        request = msgspec.structs.replace(read, model=call.request.model)
    changed = msgspec.structs.replace(call, body=body, request=request)
    # One that is left empty may be no part any more.
    if [said.text for said in asked(changed)] != [text for text in texts if text]:
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
        role = _ROLES.get(type(part), message.role)
        yield from (Said(role, text) for text in _of_part(part))
    yield from (Said(message.role, text) for text in _texts(message.opaque))


def _of_part(part: Part) -> list[str]:
    """The texts of a part, none of them empty: its own, then those that only its dialect has a place for."""
    match part:
        case Text() | Refusal():
            own = [part.text]
        case ToolCall():
            own = [part.arguments]
        case ToolResult():
            own = [text for one in part.parts for text in _of_part(one)]
        case File():
            # A source of several blocks stands there whole, and `text` is those of its blocks, joined.
            own = [part.name, "" if "source" in share_of(part.opaque) else part.text]
        case Reasoning():
            return []
        case _:
            own = []
    opaque = None if isinstance(part, Refusal) else part.opaque
    return [text for text in (*own, *_others(opaque, own)) if text]


def _others(opaque: Opaque | None, own: Iterable[str]) -> Iterable[str]:
    """The texts in `opaque`, without a part's own ones: some parts are kept there whole."""
    shown = Counter(own)
    for text in _texts(opaque):
        if shown[text]:
            shown[text] -= 1
        else:
            yield text


def _role(start: PartStarted) -> str:
    return "assistant" if start.kind == "text" else start.kind


def _holds_numbers(name: str, value: Json) -> bool:
    if isinstance(value, list):
        return any(_holds_numbers(name, one) for one in value)
    if isinstance(value, dict):
        return any(_holds_numbers(name, one) for one in value.values() if isinstance(one, list | dict))
    return isinstance(value, int | float) or (name == "prompt_embeds" and value is not None)


def _texts(value: Json) -> list[str]:
    """Every text in there, none of them empty."""
    found: list[str] = []

    def shown(text: str) -> str:
        found.append(text)
        return text

    _mapped(value, shown)
    return found


def _mapped(value: Json, change: Callable[[str], str]) -> Json:
    """A copy in which every text that is not empty is what `change` makes of it."""
    if isinstance(value, str):
        return change(value) if value else value
    if isinstance(value, list):
        return [_mapped(one, change) for one in value]
    if isinstance(value, dict):
        return {name: _member(name, one, value, change) for name, one in value.items()}
    return value


def _member(name: str, value: Json, holder: Mapping[str, Json], change: Callable[[str], str]) -> Json:
    """The same of a member of `holder`."""
    if isinstance(value, dict) and name in _ARGUMENTS:
        return _arguments(value, change)
    if isinstance(value, dict) and name in _BY_NAME:
        return {key: _mapped(one, change) for key, one in value.items()}
    if name in _UNSEEN or name.endswith("_ids") or (isinstance(value, str) and _is_no_text(name, value, holder)):
        return value
    return _mapped(value, change)


def _arguments(given: dict[str, Json], change: Callable[[str], str]) -> Json:
    """A call's arguments, which are shown as JSON. Such as can be no arguments stay as they were."""
    text = msgspec.json.encode(given).decode()
    changed = change(text)
    try:
        return given if changed == text else msgspec.json.decode(changed)
    except msgspec.DecodeError:
        return given


def _is_no_text(name: str, value: str, holder: Mapping[str, Json]) -> bool:
    """Whether this string of a member of `holder` is a mark, can be read by its provider only, or is a file's bytes."""
    if name in _MARKS or name.endswith(("_id", "signature")) or name.startswith("encrypted_"):
        return True
    if name == "data":
        return holder.get("type") != "text" and not holder.keys().isdisjoint(("format", "media_type", "mime_type"))
    if name == "result":
        return holder.get("type") == "image_generation_call"
    return name.endswith(("url", "_data")) and value[:5].lower() == "data:"
