"""What the tests of the chat dialect share: chunks, streams, and OpenAI's own types as judges."""

import json
from typing import Any

from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import TypeAdapter

from pipelines.dialects import sse
from pipelines.dialects.openai_chat import OPENAI_CHAT
from pipelines.errors import PenstockError
from pipelines.events import Completion, Event, assemble
from tests import recordings
from tests.pipelines.whole_stream import decoded_by
from tests.recordings import Recording

CHUNK: TypeAdapter[ChatCompletionChunk] = TypeAdapter(ChatCompletionChunk)
ANSWER: TypeAdapter[ChatCompletion] = TypeAdapter(ChatCompletion)

DONE = b"data: [DONE]\n\n"


def of_this_wire() -> list[Recording]:
    """Every recording of `/chat/completions`, our own and the shared ones."""
    return [r for r in [*recordings.own(), *recordings.shared()] if "chat/completions" in r.path]


def chunk(*choices: dict[str, Any], **members: Any) -> bytes:
    """One chunk as a frame."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return sse.frame(json.dumps({**head, "choices": list(choices), **members}).encode())


def choice(delta: Any = None, reason: str | None = None, index: int = 0, **members: Any) -> dict[str, Any]:
    """One choice of a chunk."""
    return {"index": index, "delta": {} if delta is None else delta, "finish_reason": reason, **members}


def call(name: str | None, arguments: str | None, index: int | None = 0, identity: str | None = None) -> dict[str, Any]:
    """A delta with one tool call; members that are None are left out."""
    said = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    entry: dict[str, Any] = {"function": said}
    if index is not None:
        entry["index"] = index
    if identity is not None:
        entry["id"] = identity
    return {"tool_calls": [entry]}


def decode(*pieces: bytes) -> list[Event]:
    """All events of a stream. Checks the grammar; raises what the decoder raises."""
    return decoded_by(OPENAI_CHAT, pieces)


def completion(*pieces: bytes) -> Completion:
    """The answer of a stream."""
    return assemble(decode(*pieces))


def outcome(data: bytes, size: int) -> Any:
    """The answer, or the error, of `data` fed in pieces of `size` bytes."""
    return outcome_of(*[data[start : start + size] for start in range(0, len(data), size)])


def outcome_of(*pieces: bytes) -> Any:
    """The answer, or the error, of a stream in these pieces."""
    try:
        return completion(*pieces)
    except PenstockError as error:
        return type(error), error.message
