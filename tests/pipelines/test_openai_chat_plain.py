"""What is told of a plain answer without events is what its events tell; what is not plain is left to them."""

import json
from typing import Any

import pytest

from pipelines.dialects.openai_chat import OPENAI_CHAT
from pipelines.errors import PenstockError
from pipelines.events import Finished, PartDelta, Started
from tests.pipelines.chat_wire import of_this_wire
from tests.recordings import Recording

ANSWERS = [r for r in of_this_wire() if r.status == 200 and not r.streaming]
USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11, "prompt_tokens_details": {"cached_tokens": 4}}


def answer(message: dict[str, Any] | None = None, choice: dict[str, Any] | None = None, **more: Any) -> bytes:
    said = {"role": "assistant", "content": "Hello", **(message or {})}
    one = {"index": 0, "finish_reason": "stop", "message": said, **(choice or {})}
    whole = {"id": "c", "object": "chat.completion", "model": "m-1", "choices": [one], "usage": USAGE, **more}
    return json.dumps({name: value for name, value in whole.items() if value is not ...}).encode()


def by_events(body: bytes) -> tuple[str, Finished, int]:
    events = OPENAI_CHAT.read_answer(body)
    started = next(event for event in events if isinstance(event, Started))
    finished = next(event for event in events if isinstance(event, Finished))
    return started.model, finished, sum(isinstance(event, PartDelta) for event in events)


def same(body: bytes) -> None:
    plain = OPENAI_CHAT.read_plain(body)
    assert plain is not None
    model, finished, pieces = by_events(body)
    assert plain.answered == model
    assert plain.finished.usage == finished.usage
    assert (plain.finished.reason, plain.finished.raw_reason) == (finished.reason, finished.raw_reason)
    assert pieces == 1


@pytest.mark.parametrize("recording", ANSWERS, ids=lambda recording: recording.name)
def test_a_recorded_answer_that_is_plain_tells_the_same(recording: Recording) -> None:
    if OPENAI_CHAT.read_plain(recording.body) is not None:
        same(recording.body)


def test_many_recorded_answers_are_plain() -> None:
    assert sum(OPENAI_CHAT.read_plain(recording.body) is not None for recording in ANSWERS) > len(ANSWERS) / 5


@pytest.mark.parametrize(
    "body",
    [
        answer(),
        b"\n " + answer() + b"\r\n",
        answer({"refusal": None, "annotations": [], "tool_calls": None, "audio": None}),
        answer(choice={"finish_reason": "max_tokens", "logprobs": None}),
        answer(service_tier="flex", system_fingerprint="f", timings={"predicted_ms": 1.0}),
        answer(unknown={"deep": [1, {"x": None}]}),
    ],
)
def test_a_plain_answer(body: bytes) -> None:
    same(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        answer()[:-1],
        b"[]",
        answer(choices=[]),
        answer(choices=...),
        answer(usage=...),
        answer(usage={}),
        answer(usage=None),
        answer(object="error"),
        answer(error={"message": "no"}),
        answer(model=None),
        answer({"content": None}),
        answer({"content": ""}),
        answer({"content": [{"type": "text", "text": "Hello"}]}),
        answer({"refusal": "No."}),
        answer({"reasoning_content": "Hm."}),
        answer({"tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]}),
        answer({"function_call": {"name": "f", "arguments": "{}"}}),
        answer({"annotations": [{"type": "url_citation"}]}),
        answer(choice={"finish_reason": None}),
        answer(choice={"finish_reason": ""}),
        answer(choice={"finish_reason": "null"}),
        answer(choice={"finish_reason": "error"}),
        answer(choice={"finish_reason": "network_error"}),
        answer(choice={"error": {"message": "no"}}),
        answer(choice={"message": "Hello"}),
        answer(choices=json.loads(answer())["choices"] * 2),
    ],
)
def test_what_is_not_plain_is_left_to_the_events(body: bytes) -> None:
    assert OPENAI_CHAT.read_plain(body) is None


def test_no_bytes_make_it_fail() -> None:
    whole = answer()
    for place in range(len(whole)):
        for wrong in (b"\xff", b'"', b"{", b"0"):
            body = whole[:place] + wrong + whole[place + 1 :]
            if OPENAI_CHAT.read_plain(body) is None:
                continue
            try:
                same(body)
            except PenstockError:
                pytest.fail(f"plain, and yet no answer: {body!r}")
