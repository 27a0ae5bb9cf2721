"""Ollama's lines to events: a stream, or one whole answer, which is a stream of one line.

Each line holds more of the message: `thinking`, `content`, and `tool_calls`, every one of them whole. The line with
`done: true` is the last; what comes without it is broken. Nothing names the answer but the time of its first line, so
ids are made of that, and ids of calls too, which older servers do not give.

Source: Ollama, docs/api.md, "Generate a chat completion" (https://github.com/ollama/ollama/blob/main/docs/api.md).

Above it: `wire`. Below it: `ndjson`, `lines`, `events`, and OpenAI chat's words for failures and reasons.
"""

import itertools

import msgspec

from pipelines.conversation import Json
from pipelines.dialects import base, lenient, ndjson, sse
from pipelines.dialects.ollama_chat.lines import read_object, read_text, read_time, read_usage
from pipelines.dialects.openai_chat.failures import stream_failure
from pipelines.dialects.openai_chat.reasons import read_reason
from pipelines.errors import ProtocolError
from pipelines.events import Event, Finished, PartDelta, PartEnded, PartKind, PartStarted, Started


class OllamaDecoder(base.Decoder):
    """See `base.Decoder`. Events carry no provider name: the wire does not tell it."""

    def __init__(self) -> None:
        super().__init__(ndjson.Framer())
        self._stream: str | None = None
        self._indices = itertools.count()
        self._open: tuple[PartKind, int] | None = None
        self._calls = 0

    def frame(self, frame: sse.Frame) -> list[Event]:
        """One line. Raises UpstreamError for a failure, ProtocolError for wrong types."""
        if self.done:
            return []
        try:
            line = msgspec.json.decode(frame.data)
        except lenient.REFUSED:
            line = self.refused(frame.data)
        if not isinstance(line, dict):
            self.skipped += 1
            return []
        return self.line(line)

    def line(self, line: dict[str, Json]) -> list[Event]:
        """One decoded line. Raises as `frame` does."""
        if line.get("error"):
            raise stream_failure(line)
        message, done = read_object(line, "message"), line.get("done") is True
        if not message and not done:
            return []
        events = self._start(line)
        self._say("reasoning", read_text(message, "thinking"), events)
        self._say("text", read_text(message, "content"), events)
        calls = message.get("tool_calls") or ()
        if not isinstance(calls, list | tuple):
            raise ProtocolError("tool_calls is no list")
        for call in calls:
            self._call(call, events)
        if done:
            self._finish(line, events)
        return events

    def end(self) -> list[Event]:
        """The connection ended without `done`: there is nothing that could stand for it."""
        return []

    def _start(self, line: dict[str, Json]) -> list[Event]:
        if self._stream is not None:
            return []
        created, digits = read_time(read_text(line, "created_at"))
        self._stream = f"ollama-{digits}" if digits else ""
        return [Started(model=read_text(line, "model"), id=self._stream, created=created)]

    def _say(self, kind: PartKind, text: str, events: list[Event]) -> None:
        if not text:
            return
        if self._open is None or self._open[0] != kind:
            self._shut(events)
            self._open = (kind, next(self._indices))
            events.append(PartStarted(self._open[1], kind))
        events.append(PartDelta(self._open[1], text))

    def _call(self, call: Json, events: list[Event]) -> None:
        function = read_object(call, "function") if isinstance(call, dict) else {}
        name = read_text(function, "name")
        if not name:
            raise ProtocolError("a tool call has no name")
        arguments = function.get("arguments")
        written = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments or {}).decode()
        identity = read_text(call, "id") or f"call_{self._stream}_{self._calls}"
        self._calls += 1
        self._shut(events)
        index = next(self._indices)
        events += [PartStarted(index, "tool_call", identity, name), PartDelta(index, written), PartEnded(index)]

    def _shut(self, events: list[Event]) -> None:
        if self._open is not None:
            events.append(PartEnded(self._open[1]))
            self._open = None

    def _finish(self, line: dict[str, Json], events: list[Event]) -> None:
        """The last line. Older servers give no reason there: the answer is whole all the same."""
        self._shut(events)
        raw = read_text(line, "done_reason")
        reason = read_reason(raw or "stop", calls=self._calls > 0)
        self.finished = Finished(reason, raw, read_usage(line))
        self.done = True
        events.append(self.finished)


def read_answer(body: bytes) -> list[Event]:
    """The events of a whole stream.

    Raises ProtocolError where the body is no answer, or an unfinished one, UpstreamError where it is an error that
    came with a 200.
    """
    line = lenient.read(body)
    if not isinstance(line, dict):
        raise ProtocolError("the answer is no JSON object")
    decoder = OllamaDecoder()
    events = decoder.line(line)
    if not decoder.done:
        raise ProtocolError("the answer is not finished")
    return events
