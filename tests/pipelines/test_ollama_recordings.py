"""Recorded traffic of Ollama's own wire: every split, every truncation, every whole answer and refusal."""

import pytest

from pipelines.dialects.ollama_chat import OLLAMA_CHAT
from pipelines.errors import PenstockError, StreamBroken, UpstreamError
from pipelines.events import assemble
from tests.pipelines.ollama_wire import decode, of_this_wire, outcome
from tests.recordings import Recording

ALL = of_this_wire()
STREAMS = [r for r in ALL if r.streaming]
WHOLE = [r for r in STREAMS if "mid_stream_error" not in r.features]
ANSWERS = [r for r in ALL if r.status == 200 and not r.streaming]
REFUSALS = [r for r in ALL if r.status >= 400]


def name(recording: Recording) -> str:
    return recording.name


def test_there_are_recordings() -> None:
    assert WHOLE
    assert len(STREAMS) > len(WHOLE)
    assert REFUSALS


@pytest.mark.parametrize("recording", STREAMS, ids=name)
def test_every_split_decodes_the_same(recording: Recording) -> None:
    body = recording.body
    expected = outcome(body)
    for size in (1, 2, 3, 7, 1000):
        assert outcome(*(body[at : at + size] for at in range(0, len(body), size))) == expected
    if len(body) <= 4096:
        for place in range(1, len(body)):
            assert outcome(body[:place], body[place:]) == expected


@pytest.mark.parametrize("recording", STREAMS, ids=name)
def test_other_line_ends_and_a_missing_last_one_decode_the_same(recording: Recording) -> None:
    expected = outcome(recording.body)
    assert outcome(recording.body.replace(b"\n", b"\r\n")) == expected
    assert outcome(recording.body.replace(b"\n", b"\n\n")) == expected
    assert outcome(recording.body.rstrip(b"\n")) == expected


@pytest.mark.parametrize("recording", WHOLE, ids=name)
def test_a_truncated_stream_is_never_an_answer(recording: Recording) -> None:
    body = recording.body.rstrip(b"\n")
    for place in range(0, len(body), max(1, len(body) // 3000)):
        with pytest.raises(StreamBroken):
            decode(body[:place])


@pytest.mark.parametrize("recording", ANSWERS, ids=name)
def test_a_whole_answer_is_read(recording: Recording) -> None:
    answer = assemble(OLLAMA_CHAT.read_answer(recording.body))
    assert answer.message.parts
    assert answer.started.model
    assert answer.finished.raw_reason == "stop"
    assert answer.finished.usage is not None
    assert answer.finished.usage.output > 0
    calls = answer.message.tool_calls
    assert bool(calls) == ("tool_call" in recording.features)
    assert answer.finished.reason == ("tool_calls" if calls else "stop")
    assert len({call.id for call in calls}) == len(calls)
    for place in (0, 1, len(recording.body) // 2, len(recording.body) - 2):
        with pytest.raises(UpstreamError):
            OLLAMA_CHAT.read_answer(recording.body[:place])


@pytest.mark.parametrize("recording", REFUSALS, ids=name)
def test_a_refusal_keeps_its_words_and_its_meaning(recording: Recording) -> None:
    error = OLLAMA_CHAT.read_error(recording.status, recording.headers, recording.body)
    assert error.status == error.upstream_status == recording.status
    assert error.reason == {404: "not_found", 400: "invalid_request"}[recording.status]
    assert error.message in recording.body.decode().replace('\\"', '"')


def test_an_error_in_mid_stream_says_what_the_server_said() -> None:
    broken = next(r for r in STREAMS if "mid_stream_error" in r.features)
    with pytest.raises(PenstockError, match="while running the model"):
        decode(broken.body)
