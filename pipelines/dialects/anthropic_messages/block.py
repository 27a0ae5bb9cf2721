"""One content block of a provider's answer, to the events of one part.

Above it: `decoder`. Below it: `events`, `opaque`.
"""

from collections.abc import Callable

import msgspec

from pipelines.conversation import Json, Opaque
from pipelines.dialects import lenient
from pipelines.dialects.anthropic_messages.opaque import NAME, owned, rest, unseal
from pipelines.events import Event, PartDelta, PartEnded, PartKind, PartStarted

KINDS: dict[str, PartKind] = {
    "text": "text",
    "thinking": "reasoning",
    "redacted_thinking": "reasoning",
    "tool_use": "tool_call",
}
"""Blocks that have a kind of part; any other block is foreign."""

_TOOL_FIELDS = frozenset({"type", "id", "name", "input"})
_TEXT_FIELDS = frozenset({"type", "text", "citations"})
_THINKING_FIELDS = frozenset({"type", "thinking", "signature"})
_REDACTED_FIELDS = frozenset({"type"})

_SAID = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
_SAYS: dict[PartKind, str] = {"text": "text", "reasoning": "thinking", "tool_call": "partial_json"}


class Block:
    """A block while it comes: `index` is that of its part, `raw` the block as it started."""

    def __init__(self, index: int, raw: dict[str, Json]) -> None:
        self.index = index
        self.raw = raw
        kind = raw.get("type")
        self.kind: PartKind = KINDS.get(kind, "foreign") if isinstance(kind, str) else "foreign"
        self._signature = ""
        self._input = ""
        self._arguments = False
        self._rest: dict[str, Json] = {}

    def start(self) -> list[Event]:
        """The events of content_block_start, whatever content the block already has."""
        starters: dict[PartKind, Callable[[], list[Event]]] = {
            "text": self._start_text,
            "reasoning": self._start_reasoning,
            "tool_call": self._start_call,
        }
        starter = starters.get(self.kind)
        return starter() if starter else [PartStarted(self.index, "foreign", opaque={NAME: dict(self.raw)})]

    def delta(self, delta: dict[str, Json]) -> list[Event]:
        """The events of one content_block_delta."""
        kind = delta.get("type")
        field = _SAID.get(kind) if isinstance(kind, str) else None
        text = delta.get(field) if field else None
        if field and field == _SAYS.get(self.kind) and isinstance(text, str):
            return self._say(text)
        if kind == "citations_delta" and self.kind == "text":
            return [PartDelta(self.index, "", owned({"citations": [delta.get("citation")]}))]
        if kind == "signature_delta" and self.kind == "reasoning":
            self._signature += _string(delta, "signature")
            return []
        if self.kind != "foreign":
            return [PartDelta(self.index, "", owned({"deltas": [delta]}))]
        if isinstance(text, str) and field == "partial_json":
            self._input += text
        else:
            self._add(delta)
        return []

    def stop(self) -> list[Event]:
        """The events of content_block_stop."""
        events: list[Event] = []
        opaque: Opaque | None = None
        if self.kind == "tool_call" and not self._arguments:
            given = self.raw.get("input")
            events.append(PartDelta(self.index, _json(given) if isinstance(given, dict) else "{}"))
        elif self.kind == "reasoning":
            opaque = unseal(self._signature)
        elif self.kind == "foreign":
            opaque = self._foreign_end()
        return [*events, PartEnded(self.index, opaque)]

    def _say(self, text: str) -> list[Event]:
        if not text:
            return []
        self._arguments = True
        return [PartDelta(self.index, text)]

    def _start_text(self) -> list[Event]:
        events: list[Event] = [PartStarted(self.index, "text", opaque=owned(rest(self.raw, _TEXT_FIELDS)))]
        events += self._say(_string(self.raw, "text"))
        citations = self.raw.get("citations")
        if isinstance(citations, list) and citations:
            events.append(PartDelta(self.index, "", owned({"citations": citations})))
        return events

    def _start_reasoning(self) -> list[Event]:
        redacted = self.raw.get("type") == "redacted_thinking"
        known = _REDACTED_FIELDS if redacted else _THINKING_FIELDS
        self._signature = "" if redacted else _string(self.raw, "signature")
        started = PartStarted(self.index, "reasoning", opaque=owned(rest(self.raw, known)))
        return [started, *self._say("" if redacted else _string(self.raw, "thinking"))]

    def _start_call(self) -> list[Event]:
        opaque = owned(rest(self.raw, _TOOL_FIELDS))
        identity, name = _string(self.raw, "id"), _string(self.raw, "name")
        return [PartStarted(self.index, "tool_call", id=identity, name=name, opaque=opaque)]

    def _add(self, delta: dict[str, Json]) -> None:
        """An unknown delta of a foreign block: strings grow, lists grow, anything else is replaced."""
        for key, value in delta.items():
            if key == "type" or value is None:
                continue
            before = self._rest.get(key, self.raw.get(key))
            if isinstance(before, str) and isinstance(value, str):
                value = before + value
            elif isinstance(before, list) and isinstance(value, list):
                value = [*before, *value]
            self._rest[key] = value

    def _foreign_end(self) -> Opaque | None:
        """What changed since the start. Lists stand in full only here, since opaque lists are joined."""
        changed = dict(self._rest)
        for key, value in self._rest.items():
            before = self.raw.get(key)
            if isinstance(before, list) and isinstance(value, list):
                changed[key] = value[len(before) :]
        if self._input:
            try:
                changed["input"] = msgspec.json.decode(lenient.mended(self._input))
            except (msgspec.DecodeError, RecursionError):
                changed["input"] = {"unparsed_arguments": self._input}
        return owned(changed)


def _string(source: dict[str, Json], key: str) -> str:
    value = source.get(key)
    return value if isinstance(value, str) else ""


def _json(value: Json) -> str:
    return msgspec.json.encode(value).decode()
