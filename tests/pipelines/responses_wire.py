"""Helpers of the tests of the Responses wire: strict validation by OpenAI's own types, and whole decodes."""

from typing import Any

import msgspec
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from pipelines.conversation import Request
from pipelines.dialects import sse
from pipelines.dialects.openai_responses import OPENAI_RESPONSES
from pipelines.errors import PenstockError
from pipelines.events import Event

EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
RESPONSES: TypeAdapter[Any] = TypeAdapter(Response)

ASKED = Request(model="m", messages=())


def decode(body: bytes, size: int = 0) -> list[Event]:
    """A whole stream, in chunks of `size` bytes (0: all at once)."""
    decoder = OPENAI_RESPONSES.decoder()
    events: list[Event] = []
    for start in range(0, len(body), size or max(len(body), 1)):
        events += decoder.feed(body[start : start + (size or len(body))])
    return events + decoder.close()


def outcome(body: bytes, size: int = 0) -> list[Event] | tuple[type, str]:
    """The events of a stream, or the error that it ends in."""
    try:
        return decode(body, size)
    except PenstockError as error:
        return type(error), error.message


def encode(events: list[Event], request: Request = ASKED) -> bytes:
    encoder = OPENAI_RESPONSES.encoder(request)
    return b"".join(encoder.encode(event) for event in events)


def payloads(stream: bytes) -> list[dict[str, Any]]:
    """The JSON of each frame."""
    return [msgspec.json.decode(frame.data) for frame in sse.Framer().feed(stream) if frame.data]


def validate_stream(stream: bytes) -> list[dict[str, Any]]:
    """Each event is strictly valid, and so is what the types do not say: numbers, ids, order."""
    events = payloads(stream)
    for number, event in enumerate(events):
        EVENTS.validate_python(event, strict=True)
        assert event["sequence_number"] == number
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[0]["response"]["output"] == []
    opened: dict[int, str] = {}
    for event in events:
        if event["type"] == "response.output_item.added":
            assert event["output_index"] == len(opened)
            opened[event["output_index"]] = event["item"]["id"]
        elif "output_index" in event:
            assert opened[event["output_index"]] == event.get("item_id", event.get("item", {}).get("id"))
    return events
