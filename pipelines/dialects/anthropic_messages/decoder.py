"""A provider's Messages stream to events.

    message_start (content_block_start content_block_delta* content_block_stop)* message_delta message_stop

with `ping` anywhere and `error` in place of the rest. Blocks become parts, numbered anew in the order they begin.
What no part has (signatures, citations, provider-side tools) goes into `opaque`; an unknown delta is kept in the
list `deltas` there. A call without arguments has the arguments `{}`.

Streams that break the rules, and what is made of them:
- a second `message_start` with the same id, or before any block, is a repetition and only its usage counts
- one with another id after a block is another generation spliced in by an intermediary that asked again
  (https://github.com/vercel/ai/issues/18331): StreamBroken, for two half answers are none
- a block that never stops, or whose index is used again, ends where the next thing shows that it did
- no `message_stop` after a stop reason: the answer is whole; no stop reason: StreamBroken

Source: Anthropic API reference, "Streaming messages".

Above it: `dialect`, `answers`. Below it: `block`, `usage`, `reasons`, `failures`.
"""

from collections.abc import Callable

import msgspec

from pipelines.conversation import Json, Usage
from pipelines.dialects import base, lenient, sse
from pipelines.dialects.anthropic_messages.block import Block
from pipelines.dialects.anthropic_messages.failures import stream_failure
from pipelines.dialects.anthropic_messages.opaque import ending, owned, rest
from pipelines.dialects.anthropic_messages.reasons import read_reason
from pipelines.dialects.anthropic_messages.usage import merged_usage, read_usage
from pipelines.errors import ProtocolError, StreamBroken
from pipelines.events import OURS, Event, Finished, Started

_START_FIELDS = frozenset({"id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"})
_DELTA_FIELDS = frozenset({"stop_reason"})
_END_FIELDS = frozenset({"type", "delta", "usage", OURS})

_decode = msgspec.json.Decoder().decode


class MessagesDecoder(base.Decoder):
    """See `base.Decoder`."""

    def __init__(self) -> None:
        super().__init__()
        self._id: str | None = None
        self._open: dict[Json, Block] = {}
        self._parts = 0
        self._usage: dict[str, Json] = {}
        self._ending: dict[str, Json] = {}
        self._beside: dict[str, Json] = {}
        self._takers: dict[Json, Callable[[dict[str, Json]], list[Event]]] = {
            "message_start": self._message_start,
            "content_block_start": self._block_start,
            "content_block_delta": self._block_delta,
            "content_block_stop": self._block_stop,
            "message_delta": self._message_delta,
            "message_stop": self._message_stop,
            "error": self._error,
        }

    @property
    def usage(self) -> Usage | None:
        """What has been reported so far, also where the answer never came to its end."""
        return read_usage(self._usage)

    def frame(self, frame: sse.Frame) -> list[Event]:
        """See `base.Decoder.frame`."""
        if not frame.data or self.done:
            return []
        try:
            event = _decode(frame.data)
        except lenient.REFUSED:
            event = self.refused(frame.data)
        if not isinstance(event, dict):
            self.skipped += 1
            return []
        return self.take(event)

    def take(self, event: dict[str, Json]) -> list[Event]:
        """One decoded event of the wire. Events of unknown type are passed over."""
        kind = event.get("type")
        if kind is None and "error" in event:
            kind = "error"
        taker = self._takers.get(kind) if isinstance(kind, str) else None
        return taker(event) if taker else []

    def end(self) -> list[Event]:
        """See `base.Decoder.end`."""
        if self.finished is None:
            return []
        self.done = True
        return [*self._close_all(), self.finished]

    def _message_start(self, event: dict[str, Json]) -> list[Event]:
        message = event.get("message")
        if not isinstance(message, dict):
            raise ProtocolError("the provider's message_start has no message")
        identity, model = (value if isinstance(value := message.get(key), str) else "" for key in ("id", "model"))
        self._usage = merged_usage(self._usage, message.get("usage"))
        if self._id is None:
            self._id = identity
            return [Started(model=model, id=identity, opaque=owned(rest(message, _START_FIELDS)))]
        if identity != self._id and self._parts:
            raise StreamBroken("the provider began another message before this one was whole")
        return []

    def _must_have_started(self) -> None:
        if self._id is None:
            raise ProtocolError("the provider's stream does not begin with message_start")

    def _block_start(self, event: dict[str, Json]) -> list[Event]:
        self._must_have_started()
        raw = event.get("content_block")
        if not isinstance(raw, dict):
            raise ProtocolError("the provider's content_block_start has no content_block")
        key = _key(event)
        replaced = self._open.pop(key, None)
        block = self._open[key] = Block(self._parts, raw)
        self._parts += 1
        return [*(replaced.stop() if replaced else ()), *block.start()]

    def _block_delta(self, event: dict[str, Json]) -> list[Event]:
        block, delta = self._open.get(_key(event)), event.get("delta")
        if block is None or not isinstance(delta, dict):
            raise ProtocolError("the provider's content_block_delta belongs to no open block")
        return block.delta(delta)

    def _block_stop(self, event: dict[str, Json]) -> list[Event]:
        block = self._open.pop(_key(event), None)
        return block.stop() if block else []

    def _message_delta(self, event: dict[str, Json]) -> list[Event]:
        self._must_have_started()
        self._usage = merged_usage(self._usage, event.get("usage"))
        self._beside |= rest(event, _END_FIELDS)
        delta = event.get("delta")
        reason = delta.get("stop_reason") if isinstance(delta, dict) else None
        if isinstance(delta, dict) and isinstance(reason, str) and reason:
            self._ending = rest(delta, _DELTA_FIELDS)
            self.finished = Finished(read_reason(reason), reason)
        if self.finished:
            opaque = ending(self._ending, self._beside)
            self.finished = msgspec.structs.replace(self.finished, usage=read_usage(self._usage), opaque=opaque)
        return []

    def _message_stop(self, _: dict[str, Json]) -> list[Event]:
        if self.finished is None:
            raise StreamBroken("the provider ended its message without a stop reason")
        return self.end()

    def _error(self, event: dict[str, Json]) -> list[Event]:
        raise stream_failure(event)

    def _close_all(self) -> list[Event]:
        blocks, self._open = self._open, {}
        return [event for block in blocks.values() for event in block.stop()]


def _key(event: dict[str, Json]) -> int:
    """The wire's index of a block; 0 where there is none, as some servers leave it out."""
    index = event.get("index")
    return index if isinstance(index, int) else 0
