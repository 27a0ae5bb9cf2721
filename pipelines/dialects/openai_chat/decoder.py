"""A provider's stream of `chat.completion.chunk` objects to events.

The stream is whole once every choice that spoke has a finish reason; `[DONE]`, or the end of the connection, then
ends it (usage may come between). `[DONE]` without a finish reason is a broken stream. A stream in which some of
several choices never spoke cannot be told from a whole one here: the decoder does not know `n`.

Above it: `dialect`. Below it: `choice`, `usage`, `reasons`, `failures`, `events`.
"""

import itertools
from collections.abc import Sequence

import msgspec

from pipelines.conversation import Json, Usage
from pipelines.dialects import base, lenient, sse
from pipelines.dialects.openai_chat.choice import Choice
from pipelines.dialects.openai_chat.failures import is_refusal, stream_failure
from pipelines.dialects.openai_chat.reasons import is_failure, read_reason, said_reason
from pipelines.dialects.openai_chat.thoughts import KEY
from pipelines.dialects.openai_chat.usage import read_usage
from pipelines.errors import ProtocolError, StreamBroken
from pipelines.events import ChoiceEnd, Event, Finished, Started

MOST_CHOICES = 1024
"""Choices of one answer, at most: OpenAI gives 128. A message is made for each number up to the last."""

_STARTED = ("system_fingerprint", "service_tier", "provider")
_FINISHED = ("native_finish_reason", "stop_reason", "content_filter_results")


class ChatDecoder(base.Decoder):
    """See `base.Decoder`. Events carry no provider name: the wire does not tell it."""

    def __init__(self) -> None:
        super().__init__()
        self._started = False
        self._stream = ""
        self._indices = itertools.count()
        self._choices: dict[int, Choice] = {}
        self._usage: Usage | None = None
        self._extra: dict[str, Json] = {}

    def frame(self, frame: sse.Frame) -> list[Event]:
        """One frame. Raises UpstreamError for a failure, StreamBroken, or ProtocolError for wrong types."""
        data = frame.data.strip()
        if self.done or not data:
            return []
        if data == b"[DONE]":
            return self._complete()
        try:
            chunk = msgspec.json.decode(data)
        except lenient.REFUSED:
            chunk = self.refused(data)
        if frame.event == "error":
            raise stream_failure(chunk if isinstance(chunk, dict) else {"message": data.decode("utf-8", "replace")})
        if not isinstance(chunk, dict):
            self.skipped += 1
            return []
        return self.chunk(chunk)

    def chunk(self, chunk: dict[str, Json]) -> list[Event]:
        """One decoded chunk. Raises as `frame` does."""
        if is_refusal(chunk):
            raise stream_failure(chunk)
        choices = chunk.get("choices") or ()
        if not isinstance(choices, list | tuple):
            raise ProtocolError("choices is no list")
        usage = read_usage(chunk.get("usage") or _usage_elsewhere(chunk, choices), _text(chunk, "model"))
        events = self._start(chunk) if choices or usage else []
        for choice in choices:
            events += self._read(choice)
        if usage:
            tier = _text(chunk, "service_tier")
            self._usage = msgspec.structs.replace(usage, tier=tier) if tier else usage
        if chunk.get("timings"):
            self._extra["timings"] = chunk["timings"]
        self.finished = self._finish()
        return events

    def end(self) -> list[Event]:
        """The connection ended without `[DONE]`."""
        return self._complete() if self.finished else []

    def _start(self, chunk: dict[str, Json]) -> list[Event]:
        if self._started:
            return []
        self._started = True
        self._stream = _text(chunk, "id")
        created = chunk.get("created")
        extra = {name: chunk[name] for name in _STARTED if chunk.get(name)}
        return [
            Started(
                model=_text(chunk, "model"),
                id=self._stream,
                created=int(created) if isinstance(created, int | float) else 0,
                opaque={KEY: extra} if extra else None,
            )
        ]

    def _read(self, entry: Json) -> list[Event]:
        if not isinstance(entry, dict):
            raise ProtocolError("a choice is no object")
        number = entry.get("index") or 0
        if not isinstance(number, int) or not 0 <= number < MOST_CHOICES:
            raise ProtocolError("the index of a choice is none")
        choice = self._choices.get(number)
        if choice is None:
            choice = self._choices[number] = Choice(number, self._indices, self._stream)
        delta = entry.get("delta") or {}
        if not isinstance(delta, dict):
            raise ProtocolError("a delta is no object")
        raw = entry.get("finish_reason") or ""
        if not isinstance(raw, str):
            raise ProtocolError("a finish reason is no text")
        raw = said_reason(raw)
        if entry.get("error") or (raw and is_failure(raw)):
            # Without its words: those of a whole answer stand in `message`, as those of an error do.
            raise stream_failure({"error": entry.get("error"), "finish_reason": raw})
        events = choice.read(delta, entry.get("logprobs"))
        if raw:
            choice.stop(raw)
            self._extra.update({name: entry[name] for name in _FINISHED if entry.get(name)})
        return events

    def _finish(self, *, sentinel: bool = False) -> Finished | None:
        """The end of the stream as far as it is known; None while a choice is still speaking.

        What was said after a finish reason undoes it, unless the sentinel says that it was all.
        """
        ends = []
        for number in sorted(self._choices):
            choice = self._choices[number]
            if not choice.raw_reason or (choice.resumed and not sentinel):
                return None
            reason = read_reason(choice.raw_reason, calls=len(choice.calls) > 0)
            ends.append(ChoiceEnd(number, reason, choice.raw_reason))
        if not ends:
            return None
        several = tuple(ends) if len(ends) > 1 else ()
        extra = {KEY: dict(self._extra)} if self._extra else None
        return Finished(ends[0].reason, ends[0].raw_reason, self._usage, several, extra)

    def _complete(self) -> list[Event]:
        self.finished = self._finish(sentinel=True)
        if self.finished is None:
            raise StreamBroken("the provider ended its stream without saying why its answer stopped")
        self.done = True
        events: list[Event] = []
        for number in sorted(self._choices):
            events += self._choices[number].end()
        return [*events, self.finished]


def _text(chunk: dict[str, Json], name: str) -> str:
    value = chunk.get(name)
    return value if isinstance(value, str) else ""


def _usage_elsewhere(chunk: dict[str, Json], choices: Sequence[Json]) -> Json:
    """The usage that stands in a member of Groq's, or in a choice (Moonshot)."""
    groq = chunk.get("x_groq")
    if isinstance(groq, dict) and groq.get("usage"):
        return groq["usage"]
    return next((choice["usage"] for choice in choices if isinstance(choice, dict) and choice.get("usage")), None)
