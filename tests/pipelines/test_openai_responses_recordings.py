"""Every recording of the Responses wire: it decodes however it is cut, and what comes of it is valid OpenAI."""

import copy
from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from pipelines.conversation import Reasoning, Request
from pipelines.dialects import sse
from pipelines.dialects.openai_responses import OPENAI_RESPONSES
from pipelines.dialects.openai_responses.opaque import own
from pipelines.errors import BadRequest, PenstockError, StreamBroken, UpstreamError
from pipelines.events import Finished, assemble
from tests import recordings
from tests.pipelines.responses_wire import (
    ASKED,
    EVENTS,
    RESPONSES,
    decode,
    encode,
    outcome,
    payloads,
    validate_stream,
)
from tests.recordings import Recording

ALL = [r for r in [*recordings.own(), *recordings.shared()] if r.path.endswith("/responses")]
STREAMS = [r for r in ALL if r.streaming]
WHOLE = [r for r in STREAMS if "mid_stream_error" not in r.features]
BROKEN = [r for r in STREAMS if "mid_stream_error" in r.features]
UNARY = [r for r in ALL if r.status == 200 and not r.streaming]
REFUSED = [r for r in ALL if r.status >= 400]


def each(found: list[Recording]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("recording", found, ids=[r.name for r in found])


def asked(recording: Recording) -> Request:
    try:
        return OPENAI_RESPONSES.read_request(recording.request)
    except BadRequest as error:
        assert error.param in ("model", "previous_response_id")
        return ASKED


def test_there_are_recordings_of_each_kind() -> None:
    assert STREAMS
    assert BROKEN
    if recordings.shared():
        assert len(STREAMS) > 15
        assert len(UNARY) > 15
        assert len(REFUSED) > 4


@each(STREAMS)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
def test_a_stream_decodes_the_same_however_it_is_cut(recording: Recording, line_end: str) -> None:
    body = recording.body.replace(b"\r\n", b"\n").replace(b"\n", line_end.encode())
    whole = outcome(body)
    for size in (1, 2, 3, 7):
        assert outcome(body, size) == whole
    if len(body) >= 4096:
        return
    for cut in range(1, len(body)):
        decoder = OPENAI_RESPONSES.decoder()
        try:
            parts: Any = [*decoder.feed(body[:cut]), *decoder.feed(body[cut:]), *decoder.close()]
        except PenstockError as error:
            parts = (type(error), error.message)
        assert parts == whole


@each(WHOLE)
def test_a_stream_re_encoded_is_valid_and_says_the_same(recording: Recording) -> None:
    events = decode(recording.body)
    written = encode(events, asked(recording))
    wire = validate_stream(written)
    again = decode(written)
    before, after = assemble(events), assemble(again)
    assert after.messages == before.messages
    assert after.started == before.started
    assert (after.finished.reason, after.finished.raw_reason) == (before.finished.reason, before.finished.raw_reason)
    answer = OPENAI_RESPONSES.write_answer(before, asked(recording))
    RESPONSES.validate_python(answer, strict=True)
    assert answer == wire[-1]["response"]


def final_response(recording: Recording) -> dict[str, Any]:
    response: dict[str, Any] = payloads(recording.body.replace(b"data: [DONE]\n\n", b""))[-1]["response"]
    return response


# Some servers leave the output out of their last event.
@each([recording for recording in WHOLE if final_response(recording)["output"]])
def test_a_stream_says_what_its_last_event_holds(recording: Recording) -> None:
    """The provider's own final response, read as a unary answer, is the answer that the stream made.

    Only encrypted reasoning may differ: OpenAI encrypts it anew for each event.
    """
    final = final_response(recording)
    unary = assemble(OPENAI_RESPONSES.read_answer(msgspec.json.encode(final)))
    streamed = assemble(decode(recording.body))
    for one, other in zip(unary.message.parts, streamed.message.parts, strict=True):
        if isinstance(one, Reasoning) and isinstance(other, Reasoning):
            assert one.text == other.text
            assert own(one.opaque).keys() == own(other.opaque).keys()
            assert own(one.opaque).get("id") == own(other.opaque).get("id")
        else:
            assert one == other
    assert unary.finished == streamed.finished


@each(WHOLE)
def test_a_stream_cut_short_is_never_a_success(recording: Recording) -> None:
    frames = sse.Framer().cut(recording.body)
    last = max(i for i, raw in enumerate(frames) if b"response.completed" in raw or b"response.incomplete" in raw)
    assert isinstance(decode(b"".join(frames[: last + 1]))[-1], Finished)
    for kept in range(last + 1):
        with pytest.raises(StreamBroken):
            decode(b"".join(frames[:kept]))
        cut = frames[kept].rstrip()[:-1]
        with pytest.raises(StreamBroken):
            decode(b"".join(frames[:kept]) + cut)


@each(BROKEN)
def test_an_error_in_mid_stream_is_raised_with_its_words(recording: Recording) -> None:
    with pytest.raises(UpstreamError) as caught:
        decode(recording.body)
    assert caught.value.upstream_code in ("rate_limit_exceeded", "unknown-error", "server_error")
    assert caught.value.message.encode()[:6] in recording.body
    assert caught.value.reason in ("rate_limited", "server_error")


@each(UNARY)
def test_an_answer_re_encoded_is_valid_and_says_the_same(recording: Recording) -> None:
    events = OPENAI_RESPONSES.read_answer(recording.body)
    completion = assemble(events)
    assert completion.message.parts
    answer = OPENAI_RESPONSES.write_answer(completion, asked(recording))
    RESPONSES.validate_python(answer, strict=True)
    assert assemble(OPENAI_RESPONSES.read_answer(msgspec.json.encode(answer))).messages == completion.messages
    assert assemble(decode(encode(events))).messages == completion.messages
    validate_stream(encode(events, asked(recording)))
    given = msgspec.json.decode(recording.body)["usage"]
    assert completion.finished.usage is not None
    assert completion.finished.usage.input + completion.finished.usage.output == given["total_tokens"]


@each(REFUSED)
def test_a_refusal_is_read_with_its_words(recording: Recording) -> None:
    error = OPENAI_RESPONSES.read_error(recording.status, recording.headers, recording.body)
    assert error.upstream_status == recording.status
    assert error.reason in ("authentication", "not_found", "invalid_request")
    written = OPENAI_RESPONSES.write_error(error)["error"]
    assert written["message"] == error.message
    assert len(error.message) > 20


@each([r for r in ALL if r.request])
def test_a_recorded_request_is_read_and_written_again(recording: Recording) -> None:
    request = asked(recording)
    if request is ASKED:
        return
    written = OPENAI_RESPONSES.write_request(request)
    assert written.body["store"] is False
    assert set(written.dropped) <= {"messages.reasoning"}
    again = OPENAI_RESPONSES.read_request(msgspec.json.decode(msgspec.json.encode(written.body)))
    assert again.messages == request.messages or written.dropped
    assert [tool.name for tool in again.tools] == [tool.name for tool in request.tools]


def every_event() -> list[dict[str, Any]]:
    """One event of each type that the encoder writes."""
    found: dict[str, dict[str, Any]] = {}
    for recording in recordings.own():
        if recording in WHOLE:
            found |= {event["type"]: event for event in payloads(encode(decode(recording.body)))}
    return list(found.values())


@pytest.mark.parametrize("event", every_event(), ids=lambda event: str(event["type"]))
def test_the_strict_check_sees_a_wrong_type_and_a_missing_field(event: dict[str, Any]) -> None:
    EVENTS.validate_python(event, strict=True)
    for field in event.keys() & {"sequence_number", "output_index", "content_index", "item_id", "delta", "item"}:
        for harm in ("missing", "wrong"):
            damaged = copy.deepcopy(event)
            if harm == "missing":
                del damaged[field]
            else:
                damaged[field] = ["wrong"]
            with pytest.raises(ValidationError):
                EVENTS.validate_python(damaged, strict=True)
    if "response" in event:
        for field in ("output", "id", "tools", "parallel_tool_calls", "created_at"):
            damaged = copy.deepcopy(event)
            del damaged["response"][field]
            with pytest.raises(ValidationError):
                EVENTS.validate_python(damaged, strict=True)
