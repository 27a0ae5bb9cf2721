"""One output item of a provider while its events come: which parts of the answer it opens, fills and ends.

Items are keyed by their id, else by `output_index` (some servers send index 0 for all, some change the id from
event to event). What a `…done` event holds beyond the deltas before it is handed on as one more delta, so that
nothing is lost where a server sends no deltas.

Above it: `decoder`. Below it: `fields`, `opaque`. Outside it: frames, the beginning and the end of the answer.
"""

from collections.abc import Mapping

from pipelines.conversation import Json, Opaque
from pipelines.dialects.openai_responses.fields import object_of, objects_of, rest, text_of
from pipelines.dialects.openai_responses.opaque import BREAK, owned, reasoning_id, reasoning_opaque
from pipelines.dialects.openai_responses.usage import awaits_caller, is_search
from pipelines.events import Event, PartDelta, PartEnded, PartKind, PartStarted

_ITEM_FIELDS = frozenset({"type", "role", "content", "id", "status"})
_TEXT_FIELDS = frozenset({"type", "text", "refusal"})
_CALL_FIELDS = frozenset({"type", "call_id", "name", "arguments", "id", "status"})


class Part:
    """A part of the answer: what has been said of it so far."""

    def __init__(self, index: int, kind: PartKind, out: "Out") -> None:
        self.index = index
        self.kind = kind
        self.out = out
        self.length = 0
        self.annotations: list[Json] = []
        self.logprobs = False
        self.ended = False
        self._pieces: list[str] = []
        out.kinds.add(kind)

    def add(self, text: str, opaque: Opaque | None = None) -> None:
        """More of its text; nothing after its end."""
        if not self.ended:
            self._pieces.append(text)
            self.length += len(text)
            self.out.events.append(PartDelta(self.index, text, opaque))

    def complete(self, whole: str, start: int = 0) -> None:
        """The whole text from `start` on is known: say what the deltas left out.

        Deltas that differ from it stand: they have been handed on.
        """
        said = self.length - start
        if len(whole) > said and whole.startswith("".join(self._pieces)[start:]):
            self.add(whole[said:])

    def end(self, opaque: Opaque | None = None) -> None:
        """It is whole. Saying so again has no effect."""
        if not self.ended:
            self.ended = True
            self.out.events.append(PartEnded(self.index, opaque))


class Out:
    """Where the items of one stream put their events, and where they take part numbers.

    kinds: of parts so far; "tool_call" also where the caller must answer a call that only this dialect has. searches:
    the provider's own, on the web, that are over.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.kinds: set[PartKind] = set()
        self.searches = 0
        self._next = 0

    def take(self) -> list[Event]:
        """What has gathered; it is gone after."""
        events, self.events = self.events, []
        return events

    def number(self) -> int:
        """The next part number."""
        self._next += 1
        return self._next - 1


class Item:
    """What every kind of item does; the kinds below fill in the rest."""

    handlers: Mapping[str, str] = {}
    """Event type without `response.` → the method that takes the event."""

    def __init__(self, item: Mapping[str, Json], out: Out) -> None:
        self.out = out
        self.whole = False
        self.first: Mapping[str, Json] = item

    def open(
        self, index: int, kind: PartKind, opaque: Opaque | None = None, identity: str = "", name: str = ""
    ) -> Part:
        """Begin part `index`; `identity` and `name` are a call's, `identity` also that of an item to answer."""
        self.out.events.append(PartStarted(index, kind, identity, name, opaque=opaque))
        return Part(index, kind, self.out)

    def event(self, kind: str, event: Mapping[str, Json]) -> None:
        """An event about this item; `kind` is its type without `response.`. Unknown ones are passed over."""
        handler = self.handlers.get(kind)
        if handler is not None and not self.whole:
            getattr(self, handler)(event)

    def done(self, item: Mapping[str, Json]) -> None:
        """The item is whole, as given."""
        if not self.whole:
            self.whole = True
            self.out.searches += is_search(item)
            self.finish(item)

    def finish(self, item: Mapping[str, Json]) -> None:
        """Say what is still to say, and end every part."""
        raise NotImplementedError


class MessageItem(Item):
    """Text and refusals, a part for each content index."""

    handlers: Mapping[str, str] = {
        "content_part.added": "_added",
        "content_part.done": "_content_done",
        "output_text.delta": "_delta",
        "output_text.done": "_text_done",
        "output_text.annotation.added": "_annotation",
        "refusal.delta": "_refusal_delta",
        "refusal.done": "_refusal_done",
    }

    def __init__(self, item: Mapping[str, Json], out: Out) -> None:
        super().__init__(item, out)
        self.parts: dict[int, Part] = {}
        self.last: Mapping[str, Json] = item

    def finish(self, item: Mapping[str, Json]) -> None:
        """End each content, with its annotations."""
        self.last = item
        for place, content in enumerate(objects_of(item, "content")):
            self._part_done(place, content)
        for part in self.parts.values():
            part.end(self._opaque(part, {}))

    def _part(self, place: int, kind: PartKind) -> Part:
        if place not in self.parts:
            opaque = owned(rest(self.first, _ITEM_FIELDS)) if kind == "text" else None
            self.parts[place] = self.open(self.out.number(), kind, opaque)
        return self.parts[place]

    def _added(self, event: Mapping[str, Json]) -> None:
        kind = text_of(object_of(event, "part"), "type")
        if kind in ("output_text", "refusal"):
            self._part(_place(event), "text" if kind == "output_text" else "refusal")

    def _delta(self, event: Mapping[str, Json]) -> None:
        part = self._part(_place(event), "text")
        logprobs = objects_of(event, "logprobs")
        part.logprobs = part.logprobs or bool(logprobs)
        part.add(text_of(event, "delta"), owned({"logprobs": logprobs}) if logprobs else None)

    def _text_done(self, event: Mapping[str, Json]) -> None:
        self._part(_place(event), "text").complete(text_of(event, "text"))

    def _refusal_delta(self, event: Mapping[str, Json]) -> None:
        self._part(_place(event), "refusal").add(text_of(event, "delta"))

    def _refusal_done(self, event: Mapping[str, Json]) -> None:
        self._part(_place(event), "refusal").complete(text_of(event, "refusal"))

    def _content_done(self, event: Mapping[str, Json]) -> None:
        self._part_done(_place(event), object_of(event, "part"))

    def _annotation(self, event: Mapping[str, Json]) -> None:
        if object_of(event, "annotation"):
            self._part(_place(event), "text").annotations.append(event["annotation"])

    def _part_done(self, place: int, content: Mapping[str, Json]) -> None:
        kind = text_of(content, "type")
        if kind not in ("output_text", "refusal"):
            return
        part = self._part(place, "text" if kind == "output_text" else "refusal")
        part.complete(text_of(content, "text" if kind == "output_text" else "refusal"))
        part.end(self._opaque(part, content))

    def _opaque(self, part: Part, content: Mapping[str, Json]) -> Opaque | None:
        if part.kind == "refusal":
            return None
        fields = {**_news(self.first, self.last, _ITEM_FIELDS), **rest(content, _TEXT_FIELDS)}
        if part.logprobs:
            fields.pop("logprobs", None)
        if part.annotations:
            fields.setdefault("annotations", part.annotations)
        return owned(fields)


class CallItem(Item):
    """A call of a function of the caller's. It begins once its name is known: arguments before it wait for the end."""

    handlers: Mapping[str, str] = {
        "function_call_arguments.delta": "_delta",
        "function_call_arguments.done": "_done",
    }

    def __init__(self, item: Mapping[str, Json], out: Out) -> None:
        super().__init__(item, out)
        self.index = out.number()
        self.part: Part | None = None
        if text_of(item, "name") and text_of(item, "call_id"):
            self._begin(item)

    def finish(self, item: Mapping[str, Json]) -> None:
        """End the call; a name or arguments that no event told of are told now."""
        part = self._begin({**self.first, **item})
        part.complete(text_of(item, "arguments"))
        part.end(owned(_news(self.first, item, _CALL_FIELDS)))

    def _delta(self, event: Mapping[str, Json]) -> None:
        if self.part is not None:
            self.part.add(text_of(event, "delta"))

    def _done(self, event: Mapping[str, Json]) -> None:
        if self.part is not None:
            self.part.complete(text_of(event, "arguments"))

    def _begin(self, item: Mapping[str, Json]) -> Part:
        if self.part is None:
            self.first = item
            identity = text_of(item, "call_id") or text_of(item, "id")
            opaque = owned(rest(item, _CALL_FIELDS))
            self.part = self.open(self.index, "tool_call", opaque, identity, text_of(item, "name"))
        return self.part


class ReasoningItem(Item):
    """Reasoning: the text of its summary, or of its content where a server shows the thoughts themselves.

    Which of the two it is shows with the first text; the part begins then, or at the item's end.
    """

    handlers: Mapping[str, str] = {
        "reasoning_summary_text.delta": "_summary_delta",
        "reasoning_summary_text.done": "_summary_done",
        "reasoning_text.delta": "_content_delta",
        "reasoning_text.done": "_content_done",
    }

    def __init__(self, item: Mapping[str, Json], out: Out) -> None:
        super().__init__(item, out)
        self.index = out.number()
        self.form = ""
        self.part: Part | None = None
        self.place = 0
        self.start = 0

    def finish(self, item: Mapping[str, Json]) -> None:
        """End the reasoning, with its encrypted form; pieces that no event told of are told now."""
        texts = {form: [text_of(piece, "text") for piece in objects_of(item, form)] for form in ("summary", "content")}
        form = self.form or ("content" if texts["content"] and not texts["summary"] else "summary")
        for place, text in enumerate(texts[form]):
            if place >= self.place:
                self._complete(form, place, text)
        self._begin(form).end(reasoning_opaque(item, form))

    def _begin(self, form: str) -> Part:
        if self.part is None:
            self.form = form
            shown = {"form": form} if form == "content" else {}
            self.part = self.open(self.index, "reasoning", owned({**reasoning_id(self.first), **shown}))
        return self.part

    def _summary_delta(self, event: Mapping[str, Json]) -> None:
        if self._reaches("summary", _place(event, "summary_index")):
            self._begin("summary").add(text_of(event, "delta"))

    def _summary_done(self, event: Mapping[str, Json]) -> None:
        self._complete("summary", _place(event, "summary_index"), text_of(event, "text"))

    def _content_delta(self, event: Mapping[str, Json]) -> None:
        if self._reaches("content", _place(event)):
            self._begin("content").add(text_of(event, "delta"))

    def _content_done(self, event: Mapping[str, Json]) -> None:
        self._complete("content", _place(event), text_of(event, "text"))

    def _complete(self, form: str, place: int, whole: str) -> None:
        if self._reaches(form, place):
            self._begin(form).complete(whole, self.start)

    def _reaches(self, form: str, place: int) -> bool:
        """Whether text of this form and place belongs to the part; a later place begins with a break."""
        part = self._begin(form)
        if self.form != form:
            return False
        if place != self.place:
            part.add(BREAK, owned({"breaks": [part.length]}))
            self.place, self.start = place, part.length
        return True


class ForeignItem(Item):
    """A call of a provider's own tool, its result, a custom tool's call: kept whole for this dialect."""

    def __init__(self, item: Mapping[str, Json], out: Out) -> None:
        super().__init__(item, out)
        known = {key: item[key] for key in ("type", "id") if isinstance(item.get(key), str)}
        waits = awaits_caller(item)
        identity = (text_of(item, "call_id") or text_of(item, "id")) if waits else ""
        self.part = self.open(out.number(), "foreign", owned(known), identity)
        if waits:
            out.kinds.add("tool_call")

    def event(self, kind: str, event: Mapping[str, Json]) -> None:
        """An event about it, of any type, says no more than that the provider is at work: an empty delta."""
        self.part.add("")

    def finish(self, item: Mapping[str, Json]) -> None:
        """End the part, with the whole item."""
        self.part.end(owned(item))


KINDS: dict[str, type[Item]] = {
    "message": MessageItem,
    "function_call": CallItem,
    "reasoning": ReasoningItem,
}
"""The class of each item type; any other type is a `ForeignItem`."""


def _news(first: Mapping[str, Json], last: Mapping[str, Json], known: frozenset[str]) -> dict[str, Json]:
    """The fields outside `known` that the item has at its end and had not, or otherwise, at its beginning."""
    return {key: value for key, value in rest(last, known).items() if first.get(key) != value}


def _place(event: Mapping[str, Json], key: str = "content_index") -> int:
    """Which content, or which piece of a summary, an event is about."""
    place = event.get(key)
    return place if isinstance(place, int) else 0
