"""Every recorded answer, said again in every dialect, is valid by that vendor's own types.

Strictly: pydantic's `TypeAdapter`, since the SDKs' own `construct` takes anything.
"""

import json
from typing import Any

import msgspec
import pytest
from anthropic.types import Message as AnthropicMessage
from anthropic.types import RawMessageStreamEvent
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter, ValidationError

from pipelines.conversation import Request
from pipelines.dialects import DIALECTS, WIRES, sse
from pipelines.errors import PenstockError
from pipelines.events import Event, assemble
from tests import recordings
from tests.recordings import Recording

STREAMED: dict[str, TypeAdapter[Any]] = {
    "openai_chat": TypeAdapter(ChatCompletionChunk),
    "anthropic_messages": TypeAdapter(RawMessageStreamEvent),
    "openai_responses": TypeAdapter(ResponseStreamEvent),
}
WHOLE: dict[str, TypeAdapter[Any]] = {
    "openai_chat": TypeAdapter(ChatCompletion),
    "anthropic_messages": TypeAdapter(AnthropicMessage),
    "openai_responses": TypeAdapter(Response),
}
ASKED = Request("m", (), stream=True, include_usage=True)

ENDINGS = {
    "/chat/completions": "openai_chat",
    "/messages": "anthropic_messages",
    "/responses": "openai_responses",
    "/api/chat": "ollama_chat",
}

BROKEN = {
    # Two answers in one stream; no SDK reads it either (vercel/ai issues 18331 and 18332).
    "anthropic-messages/anthropic__spliced-message-start.chunks.00.json",
}


def dialect_of(recording: Recording) -> str:
    path = recording.path.partition("?")[0]
    return next((name for ending, name in ENDINGS.items() if path.endswith(ending)), "")


def answers() -> list[Recording]:
    found = [*recordings.own(), *recordings.shared()]
    return [r for r in found if dialect_of(r) and r.status == 200 and r.body and r.name not in BROKEN]


def decoded(recording: Recording) -> list[Event]:
    wire = WIRES[dialect_of(recording)]
    if not recording.streaming:
        return wire.read_answer(recording.body)
    decoder = wire.decoder()
    events = decoder.feed(recording.body)
    return events if decoder.done else events + decoder.close()


def said_again(events: list[Event], name: str) -> list[Any]:
    encoder = DIALECTS[name].encoder(ASKED)
    stream = b"".join(encoder.encode(event) for event in events)
    frames = [frame for frame in sse.Framer().feed(stream) if frame.data and frame.data != b"[DONE]"]
    return [json.loads(frame.data) for frame in frames]


def check(name: str, chunks: list[Any], answer: Any) -> None:
    for chunk in chunks:
        if chunk.get("type") != "ping" and not str(chunk.get("type", "")).startswith("penstock."):
            STREAMED[name].validate_json(json.dumps(chunk), strict=True)
    WHOLE[name].validate_json(json.dumps(answer), strict=True)


@pytest.mark.parametrize("recording", answers(), ids=lambda recording: recording.name)
def test_an_answer_is_valid_in_every_dialect(recording: Recording) -> None:
    try:
        events = decoded(recording)
    except PenstockError as error:
        # Only an answer that says itself that it failed, or that stops before its end, is none.
        assert {"mid_stream_error", "error", "incomplete"} & set(recording.features) or not recording.features, error
        return
    completion = assemble(events)
    for name, dialect in DIALECTS.items():
        chunks = said_again(events, name)
        assert chunks
        check(name, chunks, msgspec.to_builtins(dialect.write_answer(completion, ASKED)))


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_the_judges_are_strict(name: str) -> None:
    """A wrong type and a missing field are found; otherwise the test above would show nothing."""
    recording = next(r for r in recordings.own() if r.status == 200 and r.streaming and dialect_of(r))
    events = decoded(recording)
    chunks = said_again(events, name)
    answer = msgspec.to_builtins(DIALECTS[name].write_answer(assemble(events), ASKED))
    check(name, chunks, answer)
    for wrong in ({**answer, "id": 7}, {key: value for key, value in answer.items() if key != "model"}):
        with pytest.raises(ValidationError):
            check(name, chunks, wrong)
    first = chunks[0]
    field = "id" if name == "openai_chat" else "message" if name == "anthropic_messages" else "response"
    for wrong_chunk in ({**first, field: 7}, {key: value for key, value in first.items() if key != field}):
        with pytest.raises(ValidationError):
            check(name, [wrong_chunk], answer)


def test_every_shared_recording_is_of_a_wire_that_we_speak_or_is_known_not_to_be() -> None:
    others = {r.name.split("/")[0] for r in recordings.shared() if not dialect_of(r)}
    # Telemetry, model lists, token counts, legacy completions.
    known = {"aux", "openai-responses", "openai-chat", "openrouter", "other-openai-compatible", "vllm"}
    assert others <= known, others
