"""A provider's Responses stream to events.

Source: https://platform.openai.com/docs/api-reference/responses-streaming. The answer is whole with
`response.completed` or `response.incomplete`, and only then; there is no other sentinel (`[DONE]`, which some
servers add, is passed over). Events of provider-side tools say only that there is progress: their item stands whole
in its part. Events of an unknown type are passed over.

Above it: `dialect`. Below it: `parts` (items), `usage`, OpenAI's errors. Outside it: framing.
"""

from collections.abc import Mapping
from typing import NoReturn

import msgspec

from pipelines.conversation import Json
from pipelines.dialects import lenient, sse
from pipelines.dialects.base import Decoder
from pipelines.dialects.openai_chat.failures import stream_failure
from pipelines.dialects.openai_responses.fields import count_of, object_of, objects_of, text_of
from pipelines.dialects.openai_responses.parts import KINDS, ForeignItem, Item, Out
from pipelines.dialects.openai_responses.tool_events import PROGRESS, RunReader, is_ours
from pipelines.dialects.openai_responses.usage import finished
from pipelines.errors import ProtocolError
from pipelines.events import Event, Started

_OPENERS = frozenset({"response.created", "response.in_progress", "response.queued"})
_TERMINALS = frozenset({"response.completed", "response.incomplete"})
_FAILURES = frozenset({"error", "response.failed", "response.cancelled"})

_IMPLIED = {
    "content_part": "message",
    "output_text": "message",
    "refusal": "message",
    "function_call_arguments": "function_call",
    "reasoning_summary_part": "reasoning",
    "reasoning_summary_text": "reasoning",
    "reasoning_text": "reasoning",
}
"""The type of item that an event belongs to, where a server never announced the item."""


class ResponsesDecoder(Decoder):
    """One stream; see the module."""

    def __init__(self) -> None:
        super().__init__()
        self.out = Out()
        self._started = False
        self._items: list[Item] = []
        self._by_id: dict[str, Item] = {}
        self._by_index: dict[int, Item] = {}
        self._runs = RunReader()

    def frame(self, frame: sse.Frame) -> list[Event]:
        """One frame to events. Raises UpstreamError where it reports a failure."""
        if not frame.data or self.done or frame.data.strip() == b"[DONE]":
            return []
        try:
            event = msgspec.json.decode(frame.data)
        except lenient.REFUSED:
            event = self.refused(frame.data)
        if not isinstance(event, dict):
            self.skipped += 1
            return []
        self._event(text_of(event, "type") or frame.event, event)
        return self.out.take()

    def end(self) -> list[Event]:
        """Nothing: without its terminal event an answer is not whole."""
        return []

    def whole(self, response: Mapping[str, Json]) -> list[Event]:
        """A response that is already complete, as the events of a stream. Raises UpstreamError if it failed."""
        status = text_of(response, "status")
        if status in ("failed", "cancelled"):
            self._fail({"response": response})
        if status not in ("completed", "incomplete"):
            raise ProtocolError(f"the provider's response is {status or 'without a status'}: no answer to read")
        self._terminal(response, f"response.{status}")
        return self.out.take()

    def _event(self, kind: str, event: Mapping[str, Json]) -> None:
        if kind in _FAILURES or (not kind and "error" in event):
            self._fail(event)
        elif kind in _TERMINALS:
            self._terminal(object_of(event, "response"), kind)
        elif kind in _OPENERS:
            self._start(object_of(event, "response"))
        elif kind == "response.output_item.added":
            self._start({})
            item = object_of(event, "item")
            if is_ours(item):
                self.out.events += self._runs.added(item)
            else:
                self._added(event)
        elif kind == "response.output_item.done":
            self._start({})
            item = object_of(event, "item")
            if is_ours(item):
                self.out.events += self._runs.done(item)
                return
            (self._known(event, text_of(item, "id"), text_of(item, "type")) or self._added(event)).done(item)
        elif kind.startswith("response."):
            self._about(kind.removeprefix("response."), event)
        elif kind == PROGRESS:
            self.out.events += self._runs.progress(event)

    def _start(self, response: Mapping[str, Json]) -> None:
        if not self._started:
            self._started = True
            started = Started(
                model=text_of(response, "model"), id=text_of(response, "id"), created=count_of(response, "created_at")
            )
            self.out.events.append(started)

    def _about(self, kind: str, event: Mapping[str, Json]) -> None:
        """An event about an item; one that was never announced is opened by what the event implies."""
        implied = _IMPLIED.get(kind.partition(".")[0], "")
        item = self._known(event, text_of(event, "item_id"), "")
        if item is None:
            if not implied:
                return
            self._start({})
            item = self._added({**event, "item": {"type": implied, "id": text_of(event, "item_id")}})
        item.event(kind, event)

    def _added(self, event: Mapping[str, Json]) -> Item:
        fields = object_of(event, "item")
        item = KINDS.get(text_of(fields, "type"), ForeignItem)(fields, self.out)
        self._items.append(item)
        if text_of(fields, "id"):
            self._by_id[fields["id"]] = item
        index = event.get("output_index")
        if isinstance(index, int):
            self._by_index[index] = item
        return item

    def _known(self, event: Mapping[str, Json], identity: str, kind: str) -> Item | None:
        if identity in self._by_id:
            return self._by_id[identity]
        index = event.get("output_index")
        found = self._by_index.get(index) if isinstance(index, int) else None
        if found is None or (kind and not isinstance(found, KINDS.get(kind, ForeignItem))) or found.whole:
            return None
        return found

    def _terminal(self, response: Mapping[str, Json], kind: str) -> None:
        """The answer is whole: output that no event told of is told now, and every item is ended."""
        self._start(response)
        output = objects_of(response, "output")
        if not self._items:
            for item in output:
                if is_ours(item):
                    self.out.events += self._runs.done(item)
                else:
                    self._added({"item": item}).done(item)
        final = {text_of(item, "id"): item for item in output}
        for open_item in self._items:
            open_item.done(final.get(text_of(open_item.first, "id"), open_item.first))
        self.finished = finished(response, kind, self.out.kinds, self.out.searches)
        self.done = True
        self.out.events.append(self.finished)

    def _fail(self, event: Mapping[str, Json]) -> NoReturn:
        error = object_of(event, "error") or object_of(object_of(event, "response"), "error")
        if not error:
            error = {key: value for key, value in event.items() if key in ("code", "message", "param")}
        raise stream_failure({"error": {"message": "the provider gave up the answer", **error}})


def read_answer(body: bytes) -> list[Event]:
    """A response object to the events of a whole stream.

    Raises ProtocolError where it is none or is not complete, UpstreamError where it says that it failed.
    """
    response = lenient.read(body)
    if not isinstance(response, dict):
        raise ProtocolError("the provider's answer is no object")
    if response.get("error") and "output" not in response:
        raise stream_failure(response)
    return ResponsesDecoder().whole(response)
