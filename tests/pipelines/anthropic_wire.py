"""What the tests of the Anthropic dialect share: the vendor's own types, strictly, and frames made by hand."""

import json
from typing import Any

from anthropic.types.beta import BetaMessage, BetaRawMessageStreamEvent
from pydantic import TypeAdapter

from pipelines.conversation import Message as Turn
from pipelines.conversation import Request, Text
from pipelines.dialects import sse
from pipelines.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from pipelines.events import Event, assemble

EVENT: TypeAdapter[Any] = TypeAdapter(BetaRawMessageStreamEvent)
MESSAGE: TypeAdapter[Any] = TypeAdapter(BetaMessage)
REQUEST = Request("claude", (Turn("user", (Text("hi"),)),), stream=True)


def wire(*events: dict[str, Any]) -> bytes:
    """These events as the provider sends them."""
    return b"".join(sse.frame(json.dumps(event).encode(), event["type"]) for event in events)


def start(identity: str = "msg_1", **usage: int) -> dict[str, Any]:
    message: dict[str, Any] = {
        "id": identity, "type": "message", "role": "assistant", "model": "claude", "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 3, "output_tokens": 1, **usage},
    }  # fmt: skip
    return {"type": "message_start", "message": message}


def block(index: int, content: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": content},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def words(index: int, *texts: str) -> list[dict[str, Any]]:
    deltas = ({"type": "text_delta", "text": text} for text in texts)
    return block(index, {"type": "text", "text": ""}, *deltas)


def ending(reason: str = "end_turn", **usage: Any) -> list[dict[str, Any]]:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return [{"type": "message_delta", "delta": delta, "usage": {"output_tokens": 5, **usage}}, {"type": "message_stop"}]


def decoded(data: bytes, size: int = 0) -> list[Event]:
    """All events of a stream that comes in pieces of `size` bytes (0: at once)."""
    decoder = ANTHROPIC_MESSAGES.decoder()
    events: list[Event] = []
    for at in range(0, len(data), size or len(data) or 1):
        events += decoder.feed(data[at : at + (size or len(data))])
    return events if decoder.done else events + decoder.close()


def encoded(events: list[Event], request: Request = REQUEST) -> bytes:
    encoder = ANTHROPIC_MESSAGES.encoder(request)
    return b"".join(encoder.encode(event) for event in events)


def shown(data: bytes) -> list[dict[str, Any]]:
    """The events of a stream, each checked strictly against the vendor's types (but pings, which have none)."""
    framer = sse.Framer()
    events = []
    for frame in framer.feed(data):
        event = json.loads(frame.data)
        assert frame.event == event["type"]
        if event["type"] not in ("ping", "error"):
            EVENT.validate_json(frame.data, strict=True)
        events.append(event)
    assert not framer.close()
    return events


def answered(events: list[Event]) -> dict[str, Any]:
    """The same answer without a stream, checked strictly."""
    answer: dict[str, Any] = ANTHROPIC_MESSAGES.write_answer(assemble(events), REQUEST)
    MESSAGE.validate_json(json.dumps(answer), strict=True)
    return answer


def sequential(events: list[dict[str, Any]]) -> bool:
    """Whether blocks come one after the other, numbered from 0, between the message's start and its end."""
    kinds = [event["type"] for event in events if event["type"] != "ping"]
    current, count = None, 0
    for event in events[1:-2]:
        match event["type"]:
            case "content_block_start":
                if current is not None or event["index"] != count:
                    return False
                current, count = event["index"], count + 1
            case "content_block_delta" | "content_block_stop":
                if event["index"] != current:
                    return False
                current = None if event["type"] == "content_block_stop" else current
    return current is None and kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"]
