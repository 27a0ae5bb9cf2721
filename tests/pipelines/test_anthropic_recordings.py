"""Every recording of the Messages API: decoded however it is split, encoded again, cut off anywhere."""

import json
import re

import msgspec
import pytest

from pipelines.conversation import Part, ToolCall, Usage
from pipelines.dialects import sse
from pipelines.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from pipelines.errors import PenstockError, StreamBroken
from pipelines.events import Event, Finished, assemble
from tests.pipelines.anthropic_wire import answered, decoded, encoded, sequential, shown
from tests.recordings import Recording, own, shared

RECORDINGS = [
    recording
    for recording in (*shared(), *own())
    if "anthropic-messages/" in recording.name or "/v1/messages" in recording.path
]
SPLICED = [recording for recording in RECORDINGS if "spliced" in recording.name]
STREAMS = [recording for recording in RECORDINGS if recording.streaming and recording not in SPLICED]
WHOLE = [r for r in RECORDINGS if r.status == 200 and not r.streaming]
ERRORS = [recording for recording in RECORDINGS if recording.status != 200]
ASKED = [recording for recording in RECORDINGS if recording.request and recording.status == 200]


def named(recordings: list[Recording]) -> list[str]:
    return [recording.name for recording in recordings]


def read(recording: Recording) -> list[Event]:
    return decoded(recording.body) if recording.streaming else ANTHROPIC_MESSAGES.read_answer(recording.body)


def compact(part: Part) -> Part:
    """Arguments of a call without the white space that the model wrote between them."""
    if not isinstance(part, ToolCall):
        return part
    return msgspec.structs.replace(part, arguments=json.dumps(json.loads(part.arguments)))


def kept(events: list[Event]) -> tuple[object, ...]:
    """An answer without the provider's own usage object and the reason's own words."""
    whole = assemble(events)
    usage = whole.finished.usage
    assert usage is not None
    counts = Usage(usage.input, usage.output, usage.cached_read, usage.cache_write, usage.reasoning)
    messages = [[compact(part) for part in message.parts] for message in whole.messages]
    return whole.started, messages, whole.finished.reason, whole.finished.raw_reason, counts


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("recording", STREAMS, ids=named(STREAMS))
def test_a_stream_decodes_however_it_is_split(recording: Recording, end: bytes) -> None:
    data = recording.body.replace(b"\n", end)
    expected = read(recording)
    assert assemble(expected).finished.raw_reason
    for size in (1, 2, 3, 7):
        assert decoded(data, size) == expected
    if len(data) < 4000 and end != b"\r":
        for at in range(0, len(data), 1 if end == b"\n" else 5):
            decoder = ANTHROPIC_MESSAGES.decoder()
            events = decoder.feed(data[:at]) + decoder.feed(data[at:])
            assert events == expected


@pytest.mark.parametrize("recording", [*STREAMS, *WHOLE], ids=named([*STREAMS, *WHOLE]))
def test_what_was_decoded_is_valid_when_encoded_again(recording: Recording) -> None:
    events = read(recording)
    told = encoded(events)
    assert sequential(shown(told))
    assert kept(decoded(told)) == kept(events)
    again = json.dumps(answered(events)).encode()
    assert kept(ANTHROPIC_MESSAGES.read_answer(again)) == kept(events)


@pytest.mark.parametrize("recording", STREAMS, ids=named(STREAMS))
def test_a_stream_that_is_cut_off_is_no_answer(recording: Recording) -> None:
    frames = sse.Framer().cut(recording.body)
    reason = next(at for at, frame in enumerate(frames) if b'"stop_reason":"' in frame.replace(b" ", b""))
    for cut in range(reason + 1):
        with pytest.raises(StreamBroken):
            decoded(b"".join(frames[:cut]) + frames[cut][:-20])
    assert isinstance(decoded(b"".join(frames[: reason + 1]))[-1], Finished)


@pytest.mark.parametrize("recording", SPLICED, ids=named(SPLICED))
def test_two_generations_in_one_stream_are_no_answer(recording: Recording) -> None:
    for size in (0, 1, 7):
        with pytest.raises(StreamBroken):
            decoded(recording.body, size)


@pytest.mark.parametrize("recording", STREAMS, ids=named(STREAMS))
def test_content_passes_and_everything_else_is_told(recording: Recording) -> None:
    decoder = ANTHROPIC_MESSAGES.decoder()
    for raw in sse.Framer().cut(recording.body):
        told = ANTHROPIC_MESSAGES.telling.search(raw) is not None
        kind = re.search(rb'"type": ?"(\w+)"', raw)
        assert kind is not None
        if b"content_block_delta" in raw:
            assert not told
        elif b"content_block_stop" not in raw:
            assert told
        if told:
            decoder.frame(sse.parse(raw))
    assert decoder.done
    assert decoder.finished == read(recording)[-1]


@pytest.mark.parametrize("recording", ERRORS, ids=named(ERRORS))
def test_errors_keep_the_providers_words(recording: Recording) -> None:
    error = ANTHROPIC_MESSAGES.read_error(recording.status, recording.headers, recording.body)
    said = json.loads(recording.body)["error"]
    assert error.message == said["message"]
    assert error.upstream_status == recording.status
    assert ANTHROPIC_MESSAGES.write_error(error)["error"] == {"type": said["type"], "message": said["message"]}
    reasons = {401: "authentication", 404: "not_found", 400: "invalid_request", 529: "overloaded", 429: "rate_limited"}
    too_long = "too long" in said["message"]
    assert error.reason == ("context_too_long" if too_long else reasons[recording.status])


@pytest.mark.parametrize("recording", ASKED, ids=named(ASKED))
def test_requests_survive_reading_and_writing(recording: Recording) -> None:
    request = ANTHROPIC_MESSAGES.read_request(recording.request)
    written = ANTHROPIC_MESSAGES.write_request(request)
    assert written.dropped == ()
    assert ANTHROPIC_MESSAGES.read_request(written.body) == request


@pytest.mark.parametrize(
    ("status", "body", "reason", "said"),
    [
        (529, b'{"type":"error","error":{"type":"overloaded_error","message":"full"}}', "overloaded", "full"),
        (429, b'{"type":"error","error":{"type":"rate_limit_error","message":"slow"}}', "rate_limited", "slow"),
        (413, b'{"type":"error","error":{"type":"request_too_large","message":"big"}}', "invalid_request", "big"),
        (
            400, b'{"type":"error","error":{"type":"invalid_request_error","message":"credit balance is too low"}}',
            "rate_limited", "credit balance",
        ),
        (502, b"<html><title>502 Bad Gateway</title></html>", "server_error", "502 Bad Gateway"),
        (500, b"", "server_error", "500"),
        (503, b"\xff\xfe", "overloaded", ""),
    ],
)  # fmt: skip
def test_errors_by_the_vendors_documentation(status: int, body: bytes, reason: str, said: str) -> None:
    error = ANTHROPIC_MESSAGES.read_error(status, {"retry-after": "7", "request-id": "req_1"}, body)
    assert (error.reason, error.retry_after) == (reason, 7.0)
    assert said in error.message


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{", b'{"type":"message"}', b'{"type":"message","content":[],"stop_reason":null}',
        b'{"type":"message","content":["x"],"stop_reason":"end_turn"}',
        b'{"type":"error","error":{"type":"api_error","message":"x"}}',
    ],
)  # fmt: skip
def test_what_is_no_answer(body: bytes) -> None:
    with pytest.raises(PenstockError):
        ANTHROPIC_MESSAGES.read_answer(body)
