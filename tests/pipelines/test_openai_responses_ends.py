"""How answers of the Responses wire fail, and which frames of a relayed stream are looked at."""

import json
from typing import Any, Literal

import pytest
from hypothesis import given

from pipelines.conversation import Request
from pipelines.dialects import sse
from pipelines.dialects.openai_responses import OPENAI_RESPONSES
from pipelines.errors import (
    Overloaded,
    PenstockError,
    ProtocolError,
    RateLimited,
    StreamBroken,
    TimedOut,
    UpstreamError,
)
from pipelines.events import (
    Event,
    Finished,
    FinishReason,
    PartDelta,
    PartEnded,
    PartKind,
    PartStarted,
    Started,
    assemble,
)
from tests.pipelines.responses_wire import EVENTS, decode, encode, payloads, validate_stream
from tests.strategies import event_streams

RAW: dict[FinishReason, str] = {
    "stop": "completed",
    "tool_calls": "completed",
    "length": "max_output_tokens",
    "content_filter": "content_filter",
}

STREAMS = event_streams(raw_reasons=RAW, adjacent=True, empty=True)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StreamBroken("cut"), "server_error"),
        (RateLimited("slow"), "rate_limit_exceeded"),
        (Overloaded("full"), "rate_limit_exceeded"),
        (TimedOut("late", phase="idle"), "server_error"),
        (UpstreamError("no", upstream_code="invalid_image"), "invalid_image"),
        (PenstockError("bug"), "server_error"),
    ],
)
@pytest.mark.parametrize("begun", [0, 1, 3, 4])
def test_an_error_ends_the_stream_as_failed(error: PenstockError, code: str, begun: int) -> None:
    events: list[Event] = [
        Started(id="r"),
        PartStarted(0, "tool_call", "c", "f"),
        PartDelta(0, "{"),
        PartEnded(0),
        Finished("stop"),
    ]
    encoder = OPENAI_RESPONSES.encoder(Request("m", ()))
    wire = b"".join(encoder.encode(event) for event in events[:begun]) + encoder.error(error)
    told = validate_stream(wire) if begun else [EVENTS.validate_python(payloads(wire)[0]).to_dict()]
    assert told[-1]["type"] == "response.failed"
    assert len(told) > 1 or not begun
    assert payloads(wire)[-1]["response"]["error"] == {"code": code, "message": error.message}
    assert "response.output_item.done" not in [event["type"] for event in told]
    assert encoder.encode(events[-1]) == b""
    assert encoder.error(error) == b""
    with pytest.raises(UpstreamError, match=error.message):
        decode(wire)


@given(STREAMS)
def test_only_deltas_are_not_telling(events: list[Event]) -> None:
    for raw in sse.Framer().cut(encode(events)):
        kind = sse.parse(raw).event
        assert bool(OPENAI_RESPONSES.telling.search(raw)) != kind.endswith(".delta")


@pytest.mark.parametrize(
    "raw",
    [
        b": ping\n\n",
        b'data: {"x":1}\n\n',
        b"",
        b"\r\n: ping\r\n\r\n",
        b"data: [DONE]\n\n",
        b'data: {"error":{"message":"x"}}\n\n',
    ],
)
def test_comments_sentinels_and_bare_errors_are_telling(raw: bytes) -> None:
    delta = b'event: response.output_text.delta\ndata: {"delta":"a"}\n\n'
    assert OPENAI_RESPONSES.telling.search(raw)
    assert not OPENAI_RESPONSES.telling.search(delta + delta)
    assert OPENAI_RESPONSES.telling.search(delta + raw + delta) or not raw


@pytest.mark.parametrize("status", ["failed", "cancelled", "in_progress", "queued", None])
def test_an_answer_that_is_not_whole_is_an_error(status: str | None) -> None:
    body: dict[str, Any] = {
        "id": "r",
        "status": status,
        "output": [],
        "error": {"code": "server_error", "message": "Sorry."},
    }
    with pytest.raises(UpstreamError):
        OPENAI_RESPONSES.read_answer(json.dumps(body).encode())


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"null"])
def test_an_answer_that_is_no_response_is_a_protocol_error(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        OPENAI_RESPONSES.read_answer(body)


def test_an_error_body_with_status_200_is_an_error() -> None:
    with pytest.raises(RateLimited, match="Slow down"):
        OPENAI_RESPONSES.read_answer(b'{"error": {"message": "Slow down: rate limit", "code": "rate_limit_exceeded"}}')


@pytest.mark.parametrize("kind", ["", "text", "tool_call", "reasoning", "refusal"])
def test_an_answer_that_a_refusal_broke_off_is_not_whole(kind: PartKind | Literal[""]) -> None:
    said: list[Event] = [PartStarted(0, kind, "c", "f"), PartDelta(0, "{"), PartEnded(0)] if kind else []
    events: list[Event] = [Started("anthropic", "claude", "msg_1"), *said, Finished("refusal", "refusal")]
    whole = OPENAI_RESPONSES.write_answer(assemble(events), Request("m", ()))
    streamed = validate_stream(encode(events))[-1]
    told = kind == "refusal"
    for response in (whole, streamed["response"]):
        assert response["status"] == ("completed" if told else "incomplete")
        assert response["incomplete_details"] == (None if told else {"reason": "content_filter"})
        assert response["output"] == whole["output"]
    assert streamed["type"] == f"response.{whole['status']}"


def _search(number: int, status: str = "completed", **action: Any) -> dict[str, Any]:
    return {"type": "web_search_call", "id": f"ws_{number}", "status": status, **action}


SEARCHES = [
    _search(0, action={"type": "search", "query": "tides"}),
    _search(1, action={"type": "open_page", "url": "https://example.org"}),
    _search(2, action={"type": "find_in_page", "pattern": "tide"}),
    _search(3),
    _search(4, status="failed", action={"type": "search", "query": "moon"}),
    {"type": "file_search_call", "id": "fs_0", "status": "completed", "queries": []},
]


@pytest.mark.parametrize("told", ["by events and at the end", "by events", "at the end", "whole"])
def test_each_search_of_the_provider_is_counted_once(told: str) -> None:
    output = [] if told == "by events" else SEARCHES
    response = {"status": "completed", "output": output, "usage": {"input_tokens": 1, "output_tokens": 1}}
    if told == "whole":
        events = OPENAI_RESPONSES.read_answer(json.dumps(response).encode())
    else:
        frames: list[dict[str, Any]] = []
        for place, item in enumerate(SEARCHES if "events" in told else []):
            begun = {name: value for name, value in item.items() if name != "action"} | {"status": "in_progress"}
            frames.append({"type": "response.output_item.added", "output_index": place, "item": begun})
            frames.append({"type": "response.output_item.done", "output_index": place, "item": item})
        frames.append({"type": "response.completed", "response": response})
        events = decode(b"".join(b"data: " + json.dumps(frame).encode() + b"\n\n" for frame in frames))
    assert isinstance(events[-1], Finished)
    assert events[-1].usage is not None
    assert events[-1].usage.searches == 2


def test_a_search_that_did_not_end_is_not_counted() -> None:
    begun = {"type": "response.output_item.added", "output_index": 0, "item": _search(0, status="in_progress")}
    response = {"output": [], "usage": {"input_tokens": 1, "output_tokens": 1}}
    end = {"type": "response.incomplete", "response": response}
    events = decode(b"".join(b"data: " + json.dumps(frame).encode() + b"\n\n" for frame in (begun, end)))
    assert isinstance(events[-1], Finished)
    assert events[-1].usage is not None
    assert events[-1].usage.searches == 0
