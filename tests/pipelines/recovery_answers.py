"""Answers of pretended attempts, made of real encoders, and what a caller reads of a stream."""

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from pipelines.calls import Answer, Call, Caller
from pipelines.conversation import Usage
from pipelines.dialects import DIALECTS, sse
from pipelines.errors import PenstockError, Reason, UpstreamError
from pipelines.events import Event, Finished, PartDelta, PartEnded, PartStarted, Started
from pipelines.options import Options
from pipelines.routing.table import Outcome

WHOLE = (
    "The lighthouse keeper climbed the stairs every evening, counting each of the two hundred steps under his breath."
)

BODIES: dict[str, dict[str, Any]] = {
    "openai_chat": {"messages": [{"role": "user", "content": "Hi"}], "stream_options": {"include_usage": True}},
    "anthropic_messages": {"max_tokens": 90, "messages": [{"role": "user", "content": "Hi"}]},
    "openai_responses": {"input": "Hi"},
}


def call(dialect: str = "openai_chat", **more: Any) -> Call:
    """A call that wants its stream continued."""
    body = {"model": "m", **BODIES[dialect], "stream": True, **more}
    request = DIALECTS[dialect].read_request(body)
    options = Options(recovery="continue")
    return Call("1", dialect, body, request, Caller("me"), "routed", options=options, idempotency_key="k")


def spoken(text: str, *, step: int = 7, kind: Any = "text", index: int = 0) -> list[Event]:
    """A part that has not ended."""
    deltas: list[Event] = [PartDelta(index, text[at : at + step]) for at in range(0, len(text), step)]
    return [PartStarted(index, kind), *deltas]


def ended(reason: Any = "stop", usage: Usage | None = None) -> list[Event]:
    """The end of part 0 and of the answer."""
    return [PartEnded(0), Finished(reason, reason, usage or Usage(input=11, output=22))]


class Attempt:
    """One attempt's answer: frames of `events`, `together` in one piece of bytes, then what befalls it.

    failure: an error frame in the piece of the last event, as a provider's replica has it; thrown: raised by the
    frames instead. closed: its frames are; used: they were read to their end.
    """

    def __init__(
        self,
        asked: Call,
        events: Sequence[Event],
        *,
        failure: UpstreamError | None = None,
        thrown: UpstreamError | None = None,
        together: int = 1,
        identity: str = "answer_1",
    ) -> None:
        self.closed = self.used = self.done = False
        self._asked = asked
        self._events = [Started(model="m-1", id=identity, created=5), *events]
        self._failure = failure
        self._thrown = thrown
        self._together = together
        self.answer = Answer(frames=self._frames(), headers={"x-penstock-provider": "p", "x-penstock-model": identity})
        self.answer.on_close(self._close)

    def _close(self) -> None:
        self.done = True

    def _pieces(self) -> list[bytes]:
        encoder = DIALECTS[self._asked.dialect].encoder(self._asked.request)
        frames = [encoder.encode(event) for event in self._events]
        if self._failure is not None:
            frames.append(encoder.error(self._failure))
        return [b"".join(frames[at : at + self._together]) for at in range(0, len(frames), self._together)]

    async def _frames(self) -> AsyncGenerator[bytes, None]:
        reason: Reason | None = (self._failure or self._thrown or UpstreamError("", reason="broken")).reason
        try:
            for piece in self._pieces():
                yield piece
            if self._thrown is not None:
                raise self._thrown
            if isinstance(self._events[-1], Finished):
                reason = None
            self.used = True
        finally:
            self.closed = True
            self.answer.outcome = Outcome(
                "p", "m-1", 1.0, reason=reason, cancelled=not self.used, input_tokens=100, output_tokens=5
            )


class Desk:
    """Gives the attempts out one after the other and keeps what was asked. A PenstockError is raised."""

    def __init__(self, *attempts: Attempt | PenstockError) -> None:
        self._attempts = list(attempts)
        self.asked: list[Call] = []

    async def again(self, asked: Call) -> Answer:
        self.asked.append(asked)
        attempt = self._attempts.pop(0)
        if isinstance(attempt, PenstockError):
            raise attempt
        return attempt.answer


async def gathered(frames: AsyncGenerator[bytes, None]) -> bytes:
    """The whole stream."""
    async with aclosing(frames):
        return b"".join([data async for data in frames])


class Read:
    """What a caller reads: text, the end, or the error."""

    def __init__(self, dialect: str, data: bytes) -> None:
        self.data = data
        self.frames = [frame for frame in sse.Framer().feed(data) if frame.data and frame.data != b"[DONE]"]
        self.objects: list[dict[str, Any]] = [json.loads(frame.data) for frame in self.frames]
        self.text = ""
        self.finished: Finished | None = None
        self.error: UpstreamError | None = None
        decoder = DIALECTS[dialect].decoder()
        self.events: list[Event] = []
        for frame in self.frames:
            try:
                self.events += decoder.frame(frame)
            except UpstreamError as error:
                self.error = error
        if b"[DONE]" in data:
            self.events += decoder.end()
        self.text = "".join(event.text for event in self.events if isinstance(event, PartDelta))
        self.finished = next((event for event in self.events if isinstance(event, Finished)), None)
