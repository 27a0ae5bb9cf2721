"""Ollama's lines: what each becomes, what breaks, and what is passed over."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.conversation import Reasoning, Text, ToolCall
from pipelines.dialects import ndjson
from pipelines.dialects.ollama_chat import OLLAMA_CHAT
from pipelines.errors import ProtocolError, StreamBroken, UpstreamError
from pipelines.events import Completion, Event, assemble
from tests.pipelines.ollama_wire import END, call, completion, decode, line, lines
from tests.strategies import event_streams


def test_thinking_words_and_calls_are_parts_in_their_order() -> None:
    answer = completion(
        line({"thinking": "Well"}),
        line({"thinking": ".", "content": "I "}),
        line({"content": "look"}),
        line({"tool_calls": [call("f", {"a": [1]}, "call_9"), call("g")]}),
        line({"content": "after"}),
        END,
    )
    first, second = answer.message.tool_calls
    assert answer.message.parts == (
        Reasoning("Well."),
        Text("I look"),
        ToolCall("call_9", "f", '{"a":[1]}'),
        second,
        Text("after"),
    )
    assert first.name == "f"
    assert (second.name, second.arguments) == ("g", "{}")
    assert second.id == "call_ollama-202601020304055_1"
    assert answer.finished.reason == "tool_calls"
    assert answer.finished.raw_reason == "stop"


@pytest.mark.parametrize(
    ("members", "reason"),
    [({}, "stop"), ({"done_reason": "length"}, "length"), ({"done_reason": "load"}, "other")],
)
def test_why_it_stopped(members: dict[str, Any], reason: str) -> None:
    finished = completion(line({"content": "a"}), line({}, done=True, **members)).finished
    assert finished.reason == reason
    assert finished.raw_reason == members.get("done_reason", "")
    assert finished.usage is None


def test_counts_and_durations() -> None:
    usage = completion(line({}, done=True, prompt_eval_count=5, eval_count=7, load_duration=9)).finished.usage
    assert usage is not None
    assert (usage.input, usage.output) == (5, 7)
    assert usage.raw == {"prompt_eval_count": 5, "eval_count": 7, "load_duration": 9}
    odd = completion(line({}, done=True, prompt_eval_count="many", eval_count=-1)).finished.usage
    assert odd is not None
    assert (odd.input, odd.output) == (0, 0)


@pytest.mark.parametrize(
    ("text", "seconds", "identity"),
    [
        ("1970-01-02T00:00:00Z", 86400, "ollama-19700102000000"),
        ("1970-01-02T01:30:00.25+01:30", 86400, "ollama-19700102013000250130"),
        ("1970-01-01T23:00:00-01:00", 86400, "ollama-197001012300000100"),
        ("1970-13-01T00:00:00Z", 0, ""),
        ("0000-01-01T00:00:00Z", 0, ""),
        ("yesterday", 0, ""),
        ("", 0, ""),
    ],
)
def test_the_time_names_the_answer(text: str, seconds: int, identity: str) -> None:
    started = completion(line({}, done=True, created_at=text)).started
    assert (started.created, started.id, started.model) == (seconds, identity, "m")


def test_an_end_without_done_is_broken() -> None:
    for cut in ((), (b"",), (line({"content": "a"}),), (line({"tool_calls": [call("f")]}), b"\n")):
        with pytest.raises(StreamBroken):
            decode(*cut)
    # What a proxy holds `done` to be is not what Ollama says.
    with pytest.raises(StreamBroken):
        decode(line({"content": "a"}, done="true"))


def test_malformed_lines_are_skipped_and_counted() -> None:
    decoder = OLLAMA_CHAT.decoder()
    told: list[Event] = decoder.feed(line({"content": "a"}) + b'{"half":\n\n[1]\n\xff\n' + line({"content": "b"}) + END)
    assert assemble(told).message.text == "ab"
    assert decoder.skipped == 3
    assert decoder.feed(line({"content": "late"})) == []
    assert decode(b'{"status": "loading"}\n', END)[-1] == decode(END)[-1]


@pytest.mark.parametrize(
    "message",
    [
        7,
        {"content": 7},
        {"thinking": ["a"]},
        {"tool_calls": 1},
        {"tool_calls": [1]},
        {"tool_calls": [{}]},
        {"tool_calls": [{"function": 3}]},
        {"tool_calls": [{"function": {"name": ""}}]},
        {"tool_calls": [{"id": 3, "function": {"name": "f"}}]},
    ],
)
def test_wrong_types_are_a_fault_of_the_provider(message: Any) -> None:
    with pytest.raises(ProtocolError):
        decode(json.dumps({"message": message, "done": False}).encode() + b"\n", END)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("server busy, please try again.  maximum pending requests exceeded", "server_error"),
        ("the input length exceeds the context length", "context_too_long"),
        ("model 'x' not found", "not_found"),
    ],
)
def test_an_error_in_mid_stream(words: str, reason: str) -> None:
    with pytest.raises(UpstreamError) as raised:
        decode(line({"content": "a"}), json.dumps({"error": words}).encode() + b"\n", END)
    assert raised.value.message == words
    assert raised.value.reason == reason
    with pytest.raises(UpstreamError):
        OLLAMA_CHAT.read_answer(json.dumps({"error": words}).encode())


def test_a_line_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ndjson, "MAX_FRAME", 10)
    framer = ndjson.Framer()
    assert [frame.data for frame in framer.feed(b"12345678\n1234567890")] == [b"12345678"]
    with pytest.raises(ProtocolError):
        framer.feed(b"1")


@given(st.lists(st.binary(max_size=6).map(lambda data: data.replace(b"\n", b"")), max_size=5), st.data())
def test_lines_are_the_same_however_they_are_cut(texts: list[bytes], data: st.DataObject) -> None:
    stream = b"\n".join(texts)
    at = data.draw(st.integers(0, len(stream)))
    framer = ndjson.Framer()
    frames = [*framer.feed(stream[:at]), *framer.feed(stream[at:]), *framer.close()]
    assert [frame.data for frame in frames] == [text.strip() for text in texts if text.strip()]


def said(answer: Completion) -> Any:
    """What the wire can carry of an answer; arguments as values, for they are written anew."""
    parts = answer.message.parts
    return [(type(part), getattr(part, "text", ""), json.loads(getattr(part, "arguments", "0"))) for part in parts]


@given(event_streams(kinds=("text", "reasoning", "tool_call")), st.data())
def test_what_a_server_says_is_heard_and_a_cut_stream_is_no_answer(events: list[Event], data: st.DataObject) -> None:
    written = lines(events)
    heard, meant = completion(*written), assemble(events)
    assert said(heard) == said(meant)
    assert heard.finished.reason == meant.finished.reason
    with pytest.raises(StreamBroken):
        decode(*written[: data.draw(st.integers(0, len(written) - 1))])
