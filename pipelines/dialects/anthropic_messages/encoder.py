"""Events to a caller's Messages stream.

`message_start`, then blocks strictly one after the other, numbered from 0, then `message_delta` with stop reason and
usage, then `message_stop`. Our grammar lets parts interleave and this wire does not: the events of a part that began
while another was open wait until that one has ended.

- usage in `message_start` is zero, since most providers count at the end; `message_delta` carries all counts
- a refusal is a text block, and the stop reason then says `refusal`
- thinking has a signature only if there is one; what another dialect needs back of its reasoning travels sealed in it
- a foreign part of this dialect goes whole when it has ended; one of another dialect has no form here and is left out
- answers after the first (n > 1) have no form here and are left out
- a tool that ran here is two blocks once it is over; what it does meanwhile goes in `ping` events under the member
  `penstock`: clients pass over pings
- an error is `event: error`, and nothing follows it

Source: Anthropic API reference, "Streaming messages".

Above it: `dialect`. Below it: `events`, `usage`, `reasons`, `failures`, `opaque`.
"""

import msgspec

from pipelines.conversation import Json, Opaque, Request
from pipelines.dialects import base, sse
from pipelines.dialects.anthropic_messages.failures import write_error
from pipelines.dialects.anthropic_messages.opaque import ended, own, seal
from pipelines.dialects.anthropic_messages.reasons import write_reason
from pipelines.dialects.anthropic_messages.tool_blocks import run_blocks
from pipelines.dialects.anthropic_messages.usage import write_usage
from pipelines.errors import PenstockError
from pipelines.events import (
    Event,
    Finished,
    PartDelta,
    PartEnded,
    PartStarted,
    Run,
    Started,
    ToolEnded,
    ToolProgress,
    ToolStarted,
    merged,
)

SENTINEL = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
"""The frame after a whole answer."""

_json = msgspec.json.Encoder().encode

_DELTAS = {
    "text": b'"delta":{"type":"text_delta","text":',
    "refusal": b'"delta":{"type":"text_delta","text":',
    "reasoning": b'"delta":{"type":"thinking_delta","thinking":',
    "tool_call": b'"delta":{"type":"input_json_delta","partial_json":',
}

PartEvent = PartStarted | PartDelta | PartEnded


def event_frame(event: dict[str, Json]) -> bytes:
    """One event of the wire: its type stands in the `event` field too."""
    return sse.frame(_json(event), event["type"])


def start_message(started: Started, model: str) -> dict[str, Json]:
    """The members of a message that are known when it begins. model: what to say where the provider does not."""
    return {
        **own(started.opaque),
        "id": started.id or "msg_penstock",
        "type": "message",
        "role": "assistant",
        "model": started.model or model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": write_usage(None),
    }


class MessagesEncoder(base.Encoder):
    """See `base.Encoder`, for the caller of `request`."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._waiting: dict[int, list[PartEvent]] = {}
        self._begun: dict[str, ToolStarted] = {}
        self._runs: list[Run] = []
        self._skipped: set[int] = set()
        self._current: PartStarted | None = None
        self._opaque: Opaque | None = None
        self._blocks = 0
        self._prefix = b""
        self._refused = False

    def encode(self, event: Event) -> bytes:
        """See `base.Encoder.encode`."""
        match event:
            case PartDelta() | PartStarted() | PartEnded():
                return self._part(event)
            case Started():
                return event_frame({"type": "message_start", "message": start_message(event, self._request.model)})
            case Finished():
                return self._finished(event)
            case ToolStarted() | ToolProgress():
                if isinstance(event, ToolStarted):
                    self._begun[event.call_id] = event
                return event_frame({"type": "ping", "penstock": msgspec.to_builtins(event)})
            case ToolEnded():
                begun = self._begun.pop(event.call_id)
                self._runs.append(Run(begun.call_id, begun.name, begun.arguments, event.text, event.error))
                return self._ran()

    def error(self, error: PenstockError) -> bytes:
        """See `base.Encoder.error`."""
        return event_frame(write_error(error))

    def _part(self, event: PartEvent) -> bytes:
        if self._current is not None and event.index == self._current.index:
            return self._now(event)
        if isinstance(event, PartStarted) and event.choice:
            self._skipped.add(event.index)
        if event.index in self._skipped:
            return b""
        if self._current is None and isinstance(event, PartStarted):
            return self._now(event)
        self._waiting.setdefault(event.index, []).append(event)
        return b""

    def _now(self, event: PartEvent) -> bytes:
        if isinstance(event, PartDelta):
            return self._delta(event)
        if isinstance(event, PartStarted):
            return self._start(event)
        return self._end(event) + self._next() + self._ran()

    def _ran(self) -> bytes:
        """The calls of tools that ran here and are over, once no other block is open."""
        if self._current is not None:
            return b""
        runs, self._runs = self._runs, []
        return b"".join([self._open(block) + self._close() for run in runs for block in run_blocks(run)])

    def _next(self) -> bytes:
        """Say what waited, part by part, up to one that has not ended."""
        said = []
        while self._waiting and self._current is None:
            index = next(iter(self._waiting))
            for event in self._waiting.pop(index):
                match event:
                    case PartStarted():
                        said.append(self._start(event))
                    case PartDelta():
                        said.append(self._delta(event))
                    case PartEnded():
                        said.append(self._end(event))
        return b"".join(said)

    def _start(self, start: PartStarted) -> bytes:
        self._current = start
        self._opaque = start.opaque
        if start.kind == "foreign":
            return b""
        self._prefix = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,' % self._blocks
        self._refused = self._refused or start.kind == "refusal"
        return self._open(_opening(start))

    def _open(self, block: dict[str, Json]) -> bytes:
        return event_frame({"type": "content_block_start", "index": self._blocks, "content_block": block})

    def _close(self) -> bytes:
        self._blocks += 1
        return event_frame({"type": "content_block_stop", "index": self._blocks - 1})

    def _delta(self, event: PartDelta) -> bytes:
        assert self._current is not None
        kind = self._current.kind
        if kind == "foreign":
            self._opaque = merged(self._opaque, event.opaque)
            return b""
        said = b""
        if event.text:
            said = b"%b%b%b}}\n\n" % (self._prefix, _DELTAS[kind], _json(event.text))
        return said + self._extras(own(event.opaque)) if event.opaque else said

    def _extras(self, share: dict[str, Json]) -> bytes:
        """Citations and unknown deltas."""
        deltas = [{"type": "citations_delta", "citation": citation} for citation in share.get("citations") or ()]
        deltas += share.get("deltas") or ()
        return b"".join(b'%b"delta":%b}\n\n' % (self._prefix, _json(delta)) for delta in deltas)

    def _end(self, event: PartEnded) -> bytes:
        start, self._current = self._current, None
        assert start is not None
        if start.kind == "foreign":
            return self._foreign(own(merged(self._opaque, event.opaque)))
        said = b""
        if start.kind == "reasoning" and "data" not in own(start.opaque):
            signature = seal(merged(start.opaque, event.opaque))
            if signature:
                said = self._extras({"deltas": [{"type": "signature_delta", "signature": signature}]})
        elif event.opaque:
            said = self._extras(own(event.opaque))
        return said + self._close()

    def _foreign(self, block: dict[str, Json]) -> bytes:
        if not block:
            return b""
        given = block.get("input")
        if not isinstance(given, dict):
            return self._open(block) + self._close()
        delta = {"type": "input_json_delta", "partial_json": _json(given).decode()}
        body = {"type": "content_block_delta", "index": self._blocks, "delta": delta}
        return self._open({**block, "input": {}}) + event_frame(body) + self._close()

    def _finished(self, event: Finished) -> bytes:
        more, beside = ended(event.opaque)
        reason = write_reason(event, refused=self._refused)
        delta: dict[str, Json] = {"stop_reason": reason, "stop_sequence": None, **more}
        end = {**beside, "type": "message_delta", "delta": delta, "usage": write_usage(event.usage)}
        return event_frame({**end, **base.our_members(event.opaque)}) + SENTINEL


def _opening(start: PartStarted) -> dict[str, Json]:
    """The block of content_block_start, empty of content."""
    share = own(start.opaque)
    match start.kind:
        case "tool_call":
            return {**share, "type": "tool_use", "id": start.id, "name": start.name, "input": {}}
        case "reasoning" if "data" in share:
            return {**share, "type": "redacted_thinking"}
        case "reasoning":
            kept = {key: value for key, value in share.items() if key != "signature"}
            return {**kept, "type": "thinking", "thinking": "", "signature": ""}
        case _:
            kept = {key: value for key, value in share.items() if key not in ("citations", "deltas")}
            return {**kept, "type": "text", "text": ""}
