"""Events to a caller's stream of `chat.completion.chunk` objects.

Every chunk has `id`, `object`, `created`, `model`, `choices`. The first one of each choice gives the role; a tool
call gives index, id and name before its arguments, and for callers of `functions` only a choice's first is told;
reasoning goes as `reasoning_content`; usage goes in a chunk with no choices, for callers who asked
(`stream_options.include_usage`); `[DONE]` ends a whole answer only. Events of our executors go as chunks with an
empty delta and the event in the member `penstock`.

Source: OpenAI API reference, "The chat completion chunk object".

Above it: `dialect`. Below it: `events`, `usage`, `reasons`, `failures`.
"""

import msgspec

from pipelines.conversation import Json, Opaque, Request
from pipelines.dialects import base, sse
from pipelines.dialects.openai_chat.failures import write_error
from pipelines.dialects.openai_chat.legacy import is_legacy
from pipelines.dialects.openai_chat.reasons import write_reason
from pipelines.dialects.openai_chat.thoughts import FIELD, own
from pipelines.dialects.openai_chat.usage import write_usage
from pipelines.errors import PenstockError
from pipelines.events import (
    ChoiceEnd,
    Event,
    Finished,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    ToolEnded,
    ToolProgress,
    ToolStarted,
    merged,
)

DONE = b"data: [DONE]\n\n"
"""The frame after a whole answer."""

_WORDS = {"text": "content", "refusal": "refusal", "reasoning": FIELD}
_OURS = frozenset(("field", "signature"))
"""Of a thought: how a provider wants it back, no member of a message."""

_TIERS = frozenset(("auto", "default", "flex", "scale", "priority"))
_json = msgspec.json.Encoder().encode


class _Part:
    """A part while it is being said: `call` is a tool call's place among those of its choice."""

    def __init__(self, start: PartStarted, call: int) -> None:
        self.kind = start.kind
        self.choice = start.choice
        self.call = call
        self.custom = own(start.opaque).get("type") == "custom"
        self.opaque: Opaque | None = start.opaque


class ChatEncoder(base.Encoder):
    """See `base.Encoder`, for the caller of `request`."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._legacy = is_legacy(request)
        self._head: dict[str, Json] = {}
        self._prefix = b""
        self._parts: dict[int, _Part] = {}
        self._calls: dict[int, int] = {}
        self._spoken: set[int] = set()
        self._heads(Started())

    def encode(self, event: Event) -> bytes:
        """See `base.Encoder.encode`."""
        match event:
            case PartDelta():
                return self._delta(event)
            case PartStarted():
                return self._part_started(event)
            case PartEnded():
                return self._part_ended(event)
            case Started():
                self._heads(event)
                return self._role(0)
            case Finished():
                return self._finished(event)
            case ToolStarted() | ToolProgress() | ToolEnded():
                choice = {"index": 0, "delta": {}, "finish_reason": None}
                return sse.frame(_json({**self._head, "choices": [choice], "penstock": msgspec.to_builtins(event)}))

    def error(self, error: PenstockError) -> bytes:
        """See `base.Encoder.error`."""
        return sse.frame(_json(write_error(error)))

    def _heads(self, started: Started) -> None:
        self._head = {
            "id": started.id or "chatcmpl-penstock",
            "object": "chat.completion.chunk",
            "created": started.created,
            "model": started.model or self._request.model,
        }
        self._head.update(handed_on(started.opaque))
        self._prefix = b"data: " + _json(self._head)[:-1] + b',"choices":[{"index":'

    def _chunk(self, choice: int, delta: dict[str, Json], logprobs: Json = None) -> bytes:
        tail = b"}]}\n\n" if logprobs is None else b',"logprobs":' + _json(logprobs) + b"}]}\n\n"
        return b'%b%d,"delta":%b,"finish_reason":null%b' % (self._prefix, choice, _json(delta), tail)

    def _role(self, choice: int) -> bytes:
        if choice in self._spoken:
            return b""
        self._spoken.add(choice)
        return self._chunk(choice, {"role": "assistant", "content": ""})

    def _part_started(self, start: PartStarted) -> bytes:
        call = self._calls.get(start.choice, 0)
        part = self._parts[start.index] = _Part(start, call)
        role = self._role(start.choice)
        if start.kind != "tool_call":
            return role
        self._calls[start.choice] = call + 1
        if self._untold(part):
            return role
        said = {"name": start.name, "input" if part.custom else "arguments": ""}
        if self._legacy:
            return role + self._chunk(start.choice, {"function_call": said})
        kind = "custom" if part.custom else "function"
        entry = {**own(start.opaque), "index": call, "id": start.id, "type": kind, kind: said}
        return role + self._chunk(start.choice, {"tool_calls": [entry]})

    def _delta(self, event: PartDelta) -> bytes:
        part = self._parts[event.index]
        share = own(event.opaque)
        if part.kind == "tool_call":
            return self._call_delta(part, event.text, share)
        if part.kind not in _WORDS:
            part.opaque = merged(part.opaque, event.opaque)
            return b""
        return self._chunk(part.choice, {_WORDS[part.kind]: event.text}, share.get("logprobs"))

    def _untold(self, part: _Part) -> bool:
        """A second `function_call` would be joined to the first."""
        return self._legacy and part.call > 0

    def _call_delta(self, part: _Part, text: str, share: dict[str, Json]) -> bytes:
        if self._untold(part):
            return b""
        logprobs = share.get("logprobs")
        if self._legacy:
            return self._chunk(part.choice, {"function_call": {"arguments": text}}, logprobs)
        rest = {key: value for key, value in share.items() if key not in ("logprobs", "type")}
        said = {"custom": {"input": text}} if part.custom else {"function": {"arguments": text}}
        return self._chunk(part.choice, {"tool_calls": [{**rest, "index": part.call, **said}]}, logprobs)

    def _part_ended(self, event: PartEnded) -> bytes:
        part = self._parts.pop(event.index)
        opaque = merged(part.opaque, event.opaque) if part.kind == "foreign" else event.opaque
        share = {key: value for key, value in own(opaque).items() if key not in _OURS}
        return self._chunk(part.choice, share) if share and part.kind != "tool_call" else b""

    def _finished(self, event: Finished) -> bytes:
        frames = []
        for end in event.choices or (ChoiceEnd(0, event.reason, event.raw_reason),):
            frames.append(self._role(end.choice))
            word = "function_call" if self._legacy and end.reason == "tool_calls" else write_reason(end.reason)
            choice = {"index": end.choice, "delta": {}, "finish_reason": word}
            ours = base.our_members(event.opaque)
            frames.append(sse.frame(_json({**self._head, "choices": [choice], **ours})))
        if self._request.include_usage and event.usage:
            frames.append(sse.frame(_json({**self._head, "choices": [], "usage": write_usage(event.usage)})))
        return b"".join([*frames, DONE])


def handed_on(opaque: Opaque | None) -> dict[str, Json]:
    """What of a provider's own members callers are given: only what OpenAI's types have room for."""
    share = own(opaque)
    given = {"system_fingerprint": share.get("system_fingerprint"), "service_tier": share.get("service_tier")}
    given = {name: value for name, value in given.items() if isinstance(value, str)}
    if given.get("service_tier") not in _TIERS:
        given.pop("service_tier", None)
    return given
