"""Recorded traffic of many servers: every split, every line end, every truncation; OpenAI's types judge the rest."""

import json
from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from pipelines.conversation import Request, ToolResult
from pipelines.dialects import sse
from pipelines.dialects.openai_chat import OPENAI_CHAT
from pipelines.errors import UpstreamError
from pipelines.events import Completion, PartDelta, PartEnded, PartStarted, Started, assemble
from tests.pipelines.chat_wire import ANSWER, CHUNK, decode, of_this_wire, outcome, outcome_of
from tests.recordings import Recording

ALL = of_this_wire()
STREAMS = [r for r in ALL if r.streaming]
WHOLE = [r for r in STREAMS if "mid_stream_error" not in r.features and not r.name.endswith("error_streaming.00.json")]
ANSWERS = [r for r in ALL if r.status == 200 and not r.streaming]
REFUSALS = [r for r in ALL if r.status >= 400]


def name(recording: Recording) -> str:
    return recording.name


def said(answer: Completion) -> Any:
    """What must survive a round trip through our own encoder: not field names, raw usage, or ids of the provider."""
    parts = [
        [(type(part).__name__, getattr(part, "text", ""), getattr(part, "arguments", "")) for part in message.parts]
        for message in answer.messages
    ]
    usage = answer.finished.usage
    counts = msgspec.structs.replace(usage, raw=None, tier="", input_audio=0, output_audio=0) if usage else None
    return parts, answer.finished.reason, [end.reason for end in answer.finished.choices], counts


def frames_of(data: bytes) -> list[bytes]:
    return sse.Framer().cut(data)


def test_there_are_recordings() -> None:
    assert STREAMS
    assert ANSWERS
    assert REFUSALS


@pytest.mark.parametrize("recording", STREAMS, ids=name)
def test_every_split_decodes_the_same(recording: Recording) -> None:
    expected = outcome(recording.body, len(recording.body))
    for size in (1, 2, 3, 7):
        assert outcome(recording.body, size) == expected
    if len(recording.body) <= 4096:
        for place in range(1, len(recording.body)):
            assert outcome_of(recording.body[:place], recording.body[place:]) == expected


@pytest.mark.parametrize("recording", STREAMS, ids=name)
def test_every_line_end_decodes_the_same(recording: Recording) -> None:
    expected = outcome(recording.body, 1000)
    for end in (b"\r\n", b"\r"):
        assert outcome(recording.body.replace(b"\r\n", b"\n").replace(b"\n", end), 5) == expected


@pytest.mark.parametrize("recording", WHOLE, ids=name)
def test_a_truncated_stream_is_never_an_answer(recording: Recording) -> None:
    whole = said(assemble(decode(recording.body)))
    frames = frames_of(recording.body)
    for count in range(len(frames)):
        held = b"".join(frames[:count])
        try:
            answer = assemble(decode(held))
        except UpstreamError:
            continue
        # Only what comes after the finish reason, usage and the sentinel, may be missing; a server that gives
        # several finish reasons (Together) cannot be told from one that gave its last.
        again = b"".join(frames[count:])
        several = b'"finish_reason":"' in frames[count - 1] and b'"finish_reason":"' in again
        assert said(answer)[:2] == whole[:2] or several


@pytest.mark.parametrize("recording", STREAMS, ids=name)
def test_what_is_not_telling_is_content(recording: Recording) -> None:
    decoder = OPENAI_CHAT.decoder()
    for raw in frames_of(recording.body):
        told = bool(OPENAI_CHAT.telling.search(raw))
        before = decoder.finished
        try:
            events = decoder.frame(sse.parse(raw))
        except UpstreamError:
            assert told
            return
        if not told:
            # It may start the stream too: a relay decodes everything up to the first content.
            assert all(isinstance(event, Started | PartStarted | PartDelta | PartEnded) for event in events)
            assert decoder.finished == before
        if decoder.finished != before or decoder.done:
            assert told


@pytest.mark.parametrize("recording", WHOLE, ids=name)
def test_ordinary_content_is_not_telling(recording: Recording) -> None:
    for raw in frames_of(recording.body):
        data = sse.parse(raw).data
        if data.startswith(b"{"):
            content = json.loads(data)
            plain = (
                not content.get("usage")
                and "x_groq" not in content
                and content["choices"]
                and all(c["index"] == 0 and not c.get("finish_reason") for c in content["choices"])
                and not any(c["delta"].get("tool_calls") for c in content["choices"])
            )
            if plain:
                assert not OPENAI_CHAT.telling.search(raw), raw


@pytest.mark.parametrize("recording", WHOLE, ids=name)
def test_encoded_again_it_is_valid_and_the_same(recording: Recording) -> None:
    events = decode(recording.body)
    encoder = OPENAI_CHAT.encoder(Request("m", (), stream=True, include_usage=True))
    written = b"".join(encoder.encode(event) for event in events)
    assert written.endswith(OPENAI_CHAT.sentinel)
    for raw in frames_of(written)[:-1]:
        CHUNK.validate_json(sse.parse(raw).data, strict=True)
    assert said(assemble(decode(written))) == said(assemble(events))


@pytest.mark.parametrize("recording", [*WHOLE, *ANSWERS], ids=name)
def test_a_whole_answer_is_valid_and_the_same(recording: Recording) -> None:
    events = decode(recording.body) if recording.streaming else OPENAI_CHAT.read_answer(recording.body)
    answer = assemble(events)
    written = msgspec.json.encode(OPENAI_CHAT.write_answer(answer, Request("m", ())))
    ANSWER.validate_json(written, strict=True)
    assert said(assemble(OPENAI_CHAT.read_answer(written))) == said(answer)


@pytest.mark.parametrize("recording", REFUSALS, ids=name)
def test_refusals_are_understood(recording: Recording) -> None:
    error = OPENAI_CHAT.read_error(recording.status, recording.headers, recording.body)
    assert error.upstream_status == recording.status
    assert error.message
    assert not error.message.startswith("{")
    body = OPENAI_CHAT.write_error(error)["error"]
    assert body["message"] == error.message
    assert set(body) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("recording", [r for r in ALL if r.request.get("messages") and r.status == 200], ids=name)
def test_recorded_requests_are_read_and_written_again(recording: Recording) -> None:
    request = OPENAI_CHAT.read_request(recording.request)
    written = OPENAI_CHAT.write_request(request)
    assert written.dropped == ()
    again = OPENAI_CHAT.read_request(written.body)
    assert again.tools == request.tools
    if not any(isinstance(p, ToolResult) and len(p.parts) > 1 for m in request.messages for p in m.parts):
        # Pictures in a tool's result move into a message of the user.
        assert again.messages == request.messages


def test_the_judges_can_say_no() -> None:
    events = decode(next(r for r in WHOLE if r.name == "openai-chat/text.json").body)
    encoder = OPENAI_CHAT.encoder(Request("m", ()))
    good = json.loads(sse.parse(encoder.encode(events[0])).data)
    CHUNK.validate_json(json.dumps(good), strict=True)
    for bad in ({**good, "created": "1"}, {key: value for key, value in good.items() if key != "id"}):
        with pytest.raises(ValidationError):
            CHUNK.validate_json(json.dumps(bad), strict=True)
    answer = OPENAI_CHAT.write_answer(assemble(events), Request("m", ()))
    for bad in ({**answer, "choices": None}, {key: value for key, value in answer.items() if key != "model"}):
        with pytest.raises(ValidationError):
            ANSWER.validate_json(json.dumps(bad), strict=True)
