"""Events to a caller's Responses stream.

Source: https://platform.openai.com/docs/api-reference/responses-streaming, and what strict clients ask for: every
event has its `sequence_number`, those about an item its `output_index` and `item_id`, those about content its
`content_index`, and `response.created` has a response with an array `output`.

Each part is an item of its own, so parts may overlap. The closing events of an item wait for the next event that is
no end of a part: only then is it known whether the item is complete or was cut off, and a caller runs a call as soon
as its item is done. A stream that fails leaves its last items unclosed.

Above it: `dialect`. Below it: `output` (items, the response object), `writing` (one item). Outside it: the end of a
stream on the wire.
"""

from collections.abc import Mapping

import msgspec

from pipelines.conversation import Json, Request
from pipelines.dialects import sse
from pipelines.dialects.base import Encoder
from pipelines.dialects.openai_responses.opaque import own
from pipelines.dialects.openai_responses.output import (
    ended_response,
    failed_response,
    item_id,
    response_frame,
    response_id,
)
from pipelines.dialects.openai_responses.tool_events import RunWriter, write_progress
from pipelines.dialects.openai_responses.usage import incomplete_reason
from pipelines.dialects.openai_responses.writing import WRITERS, ItemWriter
from pipelines.errors import BadRequest, PenstockError, UpstreamError
from pipelines.events import (
    Event,
    Finished,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    ToolEnded,
    ToolProgress,
    ToolStarted,
)


class ResponsesEncoder(Encoder):
    """One stream for the caller who sent `request`; see the module."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._frame: dict[str, Json] = {}
        self._response = ""
        self._number = 0
        self._place = 0
        self._writers: dict[int, ItemWriter] = {}
        self._waiting: list[ItemWriter] = []
        self._runs: dict[str, RunWriter] = {}
        self._output: dict[int, dict[str, Json]] = {}
        self._refused = False
        self._over = False

    def encode(self, event: Event) -> bytes:
        """One event as frames; b"" where this wire has nothing to say, and after the end."""
        if self._over:
            return b""
        match event:
            case PartDelta():
                writer = self._writers.get(event.index)
                return self._settle() + (self._say(writer.delta(event)) if writer else b"")
            case Started():
                return self._start(event)
            case PartStarted():
                return self._settle() + self._open(event)
            case PartEnded():
                self._close(event)
                return b""
            case Finished():
                return self._finish(event)
            case ToolStarted() | ToolProgress() | ToolEnded():
                return self._settle() + self._say(self._ran(event))

    def error(self, error: PenstockError) -> bytes:
        """`response.failed` with the error, and nothing after it.

        An encoder that has said nothing yet does not begin a response: a relayed stream has its own beginning.
        """
        if self._over:
            return b""
        self._frame = self._frame or response_frame(Started(), self._request)
        self._over = True
        response = failed_response(self._frame, self._items(), _code(error), error.message)
        return self._say([{"type": "response.failed", "response": response}])

    def _start(self, event: Started) -> bytes:
        self._response = response_id(event)
        self._frame = response_frame(event, self._request)
        kinds = ("response.created", "response.in_progress")
        return self._say([{"type": kind, "response": self._frame} for kind in kinds])

    def _open(self, event: PartStarted) -> bytes:
        if event.choice:
            return b""
        kind = event.kind
        self._refused = self._refused or kind == "refusal"
        writer = WRITERS[kind](event, item_id(self._response, kind, self._place), self._place)
        self._writers[event.index] = writer
        if kind == "foreign":
            return b""
        self._place += 1
        return self._say(writer.start())

    def _close(self, event: PartEnded) -> None:
        writer = self._writers.pop(event.index, None)
        if writer is not None:
            writer.ended(event)
            self._waiting.append(writer)

    def _ran(self, event: ToolStarted | ToolProgress | ToolEnded) -> list[dict[str, Json]]:
        """What a tool does that runs here: its item, which is no part, has a place like a part's."""
        match event:
            case ToolStarted():
                run = self._runs[event.call_id] = RunWriter(event, self._place)
                self._place += 1
                return run.start()
            case ToolProgress():
                return [write_progress(event)]
            case ToolEnded():
                run = self._runs.pop(event.call_id)
                events, self._output[run.place] = run.done(event)
                return events

    def _settle(self, cut_off: bool = False) -> bytes:
        """The closing events of the items that wait. cut_off: the last item of all is incomplete."""
        written = b""
        waiting, self._waiting = self._waiting, []
        last = self._place - 1
        for writer in waiting:
            if writer.begun.kind == "foreign":
                if not own(writer.opaque):
                    continue
                writer.place = self._place
                self._place += 1
            events, item = writer.done("incomplete" if cut_off and writer.place == last else "completed")
            self._output[writer.place] = item
            written += self._say(events)
        return written

    def _finish(self, event: Finished) -> bytes:
        word = incomplete_reason(event, refused=self._refused)
        written = self._settle(cut_off=bool(word))
        self._over = True
        response = ended_response(self._frame, self._items(), event)
        return written + self._say([{"type": f"response.{response['status']}", "response": response}])

    def _items(self) -> list[dict[str, Json]]:
        return [self._output[place] for place in sorted(self._output)]

    def _say(self, events: list[dict[str, Json]]) -> bytes:
        frames = []
        for event in events:
            frames.append(_frame(event, self._number))
            self._number += 1
        return b"".join(frames)


def _frame(event: Mapping[str, Json], number: int) -> bytes:
    data = msgspec.json.encode({**event, "sequence_number": number})
    return sse.frame(data, event["type"])


def _code(error: PenstockError) -> str:
    if error.status == 429:
        return "rate_limit_exceeded"
    if isinstance(error, BadRequest):
        return "invalid_prompt"
    return (error.upstream_code or "") if isinstance(error, UpstreamError) else error.code
