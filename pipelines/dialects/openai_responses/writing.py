"""One output item as the events that a caller's stream has for it, for each kind of part.

Above it: `encoder`, which numbers the events. Below it: `output` (the items themselves), `opaque`.
"""

from pipelines.conversation import Json, Opaque, Reasoning, Refusal, ToolCall
from pipelines.dialects.openai_responses.opaque import BREAK, own, reasoning_item
from pipelines.dialects.openai_responses.output import (
    annotations_of,
    call_item,
    logprobs_of,
    message_item,
    output_item,
    text_content,
)
from pipelines.events import PartDelta, PartEnded, PartKind, PartStarted, merged

WireEvent = dict[str, Json]
"""An event without its sequence number."""


class ItemWriter:
    """One item. `place` is its `output_index`; the kinds below fill in the rest."""

    def __init__(self, event: PartStarted, identity: str, place: int) -> None:
        self.place = place
        self.identity = identity
        self.begun = event
        self.texts: list[str] = []
        self.opaque: Opaque | None = event.opaque

    def start(self) -> list[WireEvent]:
        """The events that announce the item."""
        raise NotImplementedError

    def delta(self, event: PartDelta) -> list[WireEvent]:
        """The events of more text."""
        self.texts.append(event.text)
        if event.opaque:
            self.opaque = merged(self.opaque, event.opaque)
        return []

    def ended(self, event: PartEnded) -> None:
        """No more text comes; what came with the end is kept for `done`."""
        self.opaque = merged(self.opaque, event.opaque)

    def done(self, status: str) -> tuple[list[WireEvent], dict[str, Json]]:
        """The events that close the item, and the item. status: "completed" or "incomplete"."""
        raise NotImplementedError

    @property
    def text(self) -> str:
        """All text so far."""
        return "".join(self.texts)

    def about(self, kind: str, **fields: Json) -> WireEvent:
        """An event about the item's content."""
        return {"type": f"response.{kind}", "item_id": self.identity, "output_index": self.place, **fields}

    def added(self, item: dict[str, Json]) -> WireEvent:
        """The event that announces the item."""
        return {"type": "response.output_item.added", "output_index": self.place, "item": item}

    def closed(self, item: dict[str, Json]) -> WireEvent:
        """The event that says that the item is whole."""
        return {"type": "response.output_item.done", "output_index": self.place, "item": item}


class TextWriter(ItemWriter):
    """A message item with one text."""

    def start(self) -> list[WireEvent]:
        """Announce the item, and where it has some, its content."""
        item = message_item(self.identity, "in_progress", [], self.opaque)
        return [self.added(item), self.about("content_part.added", content_index=0, part=text_content("", None))]

    def delta(self, event: PartDelta) -> list[WireEvent]:
        """More of its text."""
        super().delta(event)
        logprobs = logprobs_of(event.opaque) if event.opaque else []
        return [self.about("output_text.delta", content_index=0, delta=event.text, logprobs=logprobs)]

    def done(self, status: str) -> tuple[list[WireEvent], dict[str, Json]]:
        """Close the item."""
        content = text_content(self.text, self.opaque)
        item = message_item(self.identity, status, [content], self.opaque)
        notes = [
            self.about("output_text.annotation.added", content_index=0, annotation_index=number, annotation=note)
            for number, note in enumerate(annotations_of(self.opaque))
        ]
        return [
            *notes,
            self.about("output_text.done", content_index=0, text=content["text"], logprobs=content["logprobs"]),
            self.about("content_part.done", content_index=0, part=content),
            self.closed(item),
        ], item


class RefusalWriter(ItemWriter):
    """A message item with one refusal."""

    def start(self) -> list[WireEvent]:
        """Announce the item, and where it has some, its content."""
        item = message_item(self.identity, "in_progress", [], None)
        empty = {"type": "refusal", "refusal": ""}
        return [self.added(item), self.about("content_part.added", content_index=0, part=empty)]

    def delta(self, event: PartDelta) -> list[WireEvent]:
        """More of its text."""
        super().delta(event)
        return [self.about("refusal.delta", content_index=0, delta=event.text)]

    def done(self, status: str) -> tuple[list[WireEvent], dict[str, Json]]:
        """Close the item."""
        item = output_item(Refusal(self.text), self.identity, status) or {}
        return [
            self.about("refusal.done", content_index=0, refusal=self.text),
            self.about("content_part.done", content_index=0, part=item["content"][0]),
            self.closed(item),
        ], item


class CallWriter(ItemWriter):
    """A function call."""

    def start(self) -> list[WireEvent]:
        """Announce the item, and where it has some, its content."""
        item = call_item(self.identity, "in_progress", ToolCall(self.begun.id, self.begun.name, opaque=self.opaque))
        return [self.added({**item, "arguments": ""})]

    def delta(self, event: PartDelta) -> list[WireEvent]:
        """More of its text."""
        super().delta(event)
        return [self.about("function_call_arguments.delta", delta=event.text)]

    def done(self, status: str) -> tuple[list[WireEvent], dict[str, Json]]:
        """Close the item."""
        item = call_item(self.identity, status, ToolCall(self.begun.id, self.begun.name, self.text, opaque=self.opaque))
        events = [
            self.about("function_call_arguments.done", name=self.begun.name, arguments=item["arguments"]),
            self.closed(item),
        ]
        if not self.text:
            events.insert(0, self.about("function_call_arguments.delta", delta=item["arguments"]))
        return events, item


class ReasoningWriter(ItemWriter):
    """A reasoning item: pieces of a summary, or of content where the model's own thoughts are shown."""

    def __init__(self, event: PartStarted, identity: str, place: int) -> None:
        super().__init__(event, own(event.opaque).get("id") or identity, place)
        shown = own(event.opaque).get("form") == "content"
        self._names = ("reasoning_text", "content") if shown else ("reasoning_summary_text", "summary")
        self._piece: list[str] = []
        self._number = -1

    def start(self) -> list[WireEvent]:
        """Announce the item, and where it has some, its content."""
        return [self.added({"type": "reasoning", "id": self.identity, "summary": []})]

    def delta(self, event: PartDelta) -> list[WireEvent]:
        """More of its text."""
        super().delta(event)
        if event.text == BREAK and own(event.opaque).get("breaks"):
            return [*self._shut(), *self._next()]
        begin = self._next() if self._number < 0 else []
        self._piece.append(event.text)
        return [*begin, self._about(f"{self._names[0]}.delta", delta=event.text)]

    def done(self, status: str) -> tuple[list[WireEvent], dict[str, Json]]:
        """Close the item."""
        item = reasoning_item(Reasoning(self.text, self.opaque), self.identity)
        return [*self._shut(), self.closed(item)], item

    def _about(self, kind: str, **fields: Json) -> WireEvent:
        return self.about(kind, **{f"{self._names[1]}_index": self._number}, **fields)

    def _part(self, text: str) -> dict[str, Json]:
        return {"type": "reasoning_text" if self._names[1] == "content" else "summary_text", "text": text}

    def _part_event(self, word: str, text: str) -> WireEvent:
        kind = "content_part" if self._names[1] == "content" else "reasoning_summary_part"
        return self._about(f"{kind}.{word}", part=self._part(text))

    def _next(self) -> list[WireEvent]:
        self._number += 1
        self._piece = []
        return [self._part_event("added", "")]

    def _shut(self) -> list[WireEvent]:
        if self._number < 0:
            return []
        text = "".join(self._piece)
        return [self._about(f"{self._names[0]}.done", text=text), self._part_event("done", text)]


class ForeignWriter(ItemWriter):
    """A provider-side call or result of this dialect, which has its place, and is announced, at its end."""

    def start(self) -> list[WireEvent]:
        """Nothing yet."""
        return []

    def delta(self, event: PartDelta) -> list[WireEvent]:
        """Nothing: it comes whole."""
        super().delta(event)
        return []

    def done(self, status: str) -> tuple[list[WireEvent], dict[str, Json]]:
        """Announce and close the item."""
        item = own(self.opaque)
        return [self.added(item), self.closed(item)], item


WRITERS: dict[PartKind, type[ItemWriter]] = {
    "text": TextWriter,
    "refusal": RefusalWriter,
    "tool_call": CallWriter,
    "reasoning": ReasoningWriter,
    "foreign": ForeignWriter,
}
"""The writer of each kind of part."""
