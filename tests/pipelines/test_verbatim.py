"""Calls that are no conversation: what passes, what is withheld, what is an error, what is never called whole."""

from typing import Any

import msgspec
import pytest

from pipelines.calls import Call, Caller
from pipelines.conversation import Request
from pipelines.errors import ProtocolError, StreamBroken, UpstreamError
from pipelines.verbatim import Verbatim

DONE = b"data: [DONE]\n\n"
OVERLOADED = {"error": {"message": "overloaded", "code": 503}}


def verbatim(operation: str = "/completions", dialect: str = "openai_chat", **body: Any) -> Verbatim:
    body = {"model": "m", **body}
    request = Request("m", (), stream=body.get("stream") is True)
    return Verbatim(Call("1", dialect, body, request, Caller("me"), "direct", operation=operation))


def streamed(**body: Any) -> Verbatim:
    return verbatim(prompt="p", stream=True, **body)


def said(text: str, reason: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    choice = {"text": text, "index": index, "logprobs": None, "finish_reason": reason}
    return {"id": "c", "object": "text_completion", "created": 1, "model": "m-1", "choices": [choice], **more}


USAGE = {**said(""), "choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 2, "total_tokens": 1002}}


def frames(*chunks: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + msgspec.json.encode(chunk) + b"\n\n" for chunk in chunks)


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_a_completion_passes_byte_for_byte_however_it_is_cut(step: int) -> None:
    way = streamed(stream_options={"include_usage": True})
    data = frames(said("a"), said("b", "stop"), USAGE) + DONE
    out = b"".join(way.feed(data[at : at + step]) for at in range(0, len(data), step))
    assert (out, way.done) == (data, True)
    assert (way.usage.input, way.usage.output, way.usage.estimated) == (1000, 2, False)
    assert way.answered == "m-1"


def test_a_streams_usage_is_asked_for_and_only_handed_on_to_who_asked() -> None:
    way = streamed(models=["other"])
    assert way.body == {"model": "m", "prompt": "p", "stream": True, "stream_options": {"include_usage": True}}
    assert way.feed(frames(said("a", "stop"), USAGE) + DONE) == frames(said("a", "stop")) + DONE
    assert way.usage.input == 1000
    assert "stream_options" not in verbatim(prompt="p").body


def test_a_last_frame_without_its_blank_line_is_part_of_the_answer() -> None:
    way = streamed()
    data = frames(said("a"), said("b", "stop"))
    assert way.feed(data[:-2]) + way.close() == data + DONE


def test_an_error_in_a_stream_is_the_providers_own() -> None:
    first = streamed()
    with pytest.raises(UpstreamError, match="overloaded") as raised:
        first.feed(frames(OVERLOADED))
    assert (first.committed, raised.value.reason, raised.value.status) == (False, "overloaded", 503)
    later = streamed()
    later.feed(frames(said("a")))
    with pytest.raises(UpstreamError, match="overloaded"):
        later.feed(frames(OVERLOADED))
    with pytest.raises(UpstreamError, match="abort"):
        streamed().feed(frames(said("", "abort")))


def test_what_stands_before_a_failure_in_the_same_bytes_is_handed_on() -> None:
    way = streamed()
    way.feed(frames(said("a")))
    assert way.feed(frames(said("b"), OVERLOADED)) == frames(said("b"))
    with pytest.raises(UpstreamError, match="overloaded"):
        way.feed(b"")
    with pytest.raises(UpstreamError, match="overloaded"):
        streamed().feed(frames(said("b"), OVERLOADED))


@pytest.mark.parametrize("operation", ["/completions", "/embeddings"])
def test_an_error_in_a_200_is_an_error(operation: str) -> None:
    with pytest.raises(UpstreamError, match="overloaded") as raised:
        verbatim(operation).whole(msgspec.json.encode(OVERLOADED))
    assert raised.value.reason == "overloaded"


@pytest.mark.parametrize("asked", [{"n": 2}, {"prompt": ["p", "q"]}, {"prompt": [[1], [2]]}])
@pytest.mark.parametrize("second", [(), (said("b", index=1),)])
def test_every_answer_that_was_asked_for_must_end(asked: dict[str, Any], second: tuple[dict[str, Any], ...]) -> None:
    way = verbatim(stream=True, **{"prompt": "p", **asked})
    way.feed(frames(said("a", "stop"), *second))
    assert way.finished is None
    with pytest.raises(StreamBroken):
        way.close()
    way.feed(frames(said("c", "length", 1)))
    assert way.finished is not None
    assert way.close() == DONE


def test_tokens_are_one_prompt() -> None:
    way = verbatim(prompt=[1, 2, 3], stream=True)
    way.feed(frames(said("a", "stop")))
    assert way.close() == DONE


def test_the_sentinel_alone_is_no_end() -> None:
    way = streamed()
    way.feed(frames(said("a")))
    with pytest.raises(StreamBroken):
        way.feed(DONE)


def test_a_whole_answer_in_place_of_a_stream_becomes_one() -> None:
    way = streamed()
    whole = said("abc", "stop")
    assert way.whole(msgspec.json.encode(whole)) == frames(whole) + DONE
    assert way.done


@pytest.mark.parametrize(
    ("operation", "answer", "counts"),
    [
        ("/completions", said("a", "stop", usage={"prompt_tokens": 5, "completion_tokens": 1}), (5, 1, None)),
        ("/embeddings", {"data": [], "usage": {"prompt_tokens": 8, "total_tokens": 8, "cost": 0.5}}, (8, 0, 0.5)),
        ("/messages/count_tokens", {"input_tokens": 12}, (12, 0, None)),
    ],
)
def test_a_whole_answer_passes_and_is_counted(operation: str, answer: dict[str, Any], counts: Any) -> None:
    dialect = "anthropic_messages" if "count" in operation else "openai_chat"
    way = verbatim(operation, dialect, n=2)
    body = msgspec.json.encode(answer)
    assert way.whole(body) == body
    assert (way.usage.input, way.usage.output, way.usage.cost) == counts
    assert not way.usage.estimated


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b"\xff"])
def test_what_is_no_json_object_is_no_answer(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        verbatim().whole(body)
