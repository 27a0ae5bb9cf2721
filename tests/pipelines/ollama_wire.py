"""What the tests of Ollama's wire share: its lines, streams as a server writes them, and how they are decoded."""

import json
from collections.abc import Iterable
from typing import Any

from pipelines.dialects.ollama_chat import OLLAMA_CHAT
from pipelines.errors import PenstockError
from pipelines.events import Completion, Event, Finished, PartDelta, PartStarted, assemble
from tests import recordings
from tests.pipelines.whole_stream import decoded_by
from tests.recordings import Recording

MEMBERS = {"reasoning": "thinking", "text": "content", "refusal": "content"}


def of_this_wire() -> list[Recording]:
    """Every recording of `/api/chat`, our own and the shared ones."""
    return [r for r in [*recordings.own(), *recordings.shared()] if r.path.endswith("/api/chat")]


def line(message: Any = None, **members: Any) -> bytes:
    """One line of a stream; `message` without its role."""
    head = {"model": "m", "created_at": "2026-01-02T03:04:05.5Z", "done": False}
    said = {} if message is None else {"message": {"role": "assistant", "content": "", **message}}
    return json.dumps({**head, **said, **members}).encode() + b"\n"


def call(name: str, arguments: Any = None, identity: str = "") -> dict[str, Any]:
    """One entry of `tool_calls`."""
    entry: dict[str, Any] = {"function": {"name": name, "arguments": {} if arguments is None else arguments}}
    return {"id": identity, **entry} if identity else entry


END = line({}, done=True, done_reason="stop", prompt_eval_count=3, eval_count=2)
"""The last line of a stream."""


def lines(events: Iterable[Event]) -> list[bytes]:
    """A stream of events as an Ollama server writes it: calls whole, and the reason without word of tools."""
    kinds: dict[int, PartStarted] = {}
    arguments: dict[int, str] = {}
    written: list[bytes] = []
    for event in events:
        match event:
            case PartStarted():
                kinds[event.index] = event
                arguments[event.index] = ""
            case PartDelta() if kinds[event.index].kind == "tool_call":
                arguments[event.index] += event.text
            case PartDelta():
                written.append(line({MEMBERS[kinds[event.index].kind]: event.text}))
            case Finished():
                reason = event.raw_reason.replace("tool_calls", "stop")
                written.append(line({}, done=True, done_reason=reason, eval_count=2, prompt_eval_count=3))
            case _:
                start = kinds.get(getattr(event, "index", -1))
                if start is not None and start.kind == "tool_call":
                    entry = call(start.name, json.loads(arguments[start.index] or "{}"), start.id)
                    written.append(line({"tool_calls": [entry]}))
    return written


def decode(*pieces: bytes) -> list[Event]:
    """All events of a stream. Checks the grammar; raises what the decoder raises."""
    return decoded_by(OLLAMA_CHAT, pieces)


def completion(*pieces: bytes) -> Completion:
    """The answer of a stream."""
    return assemble(decode(*pieces))


def outcome(*pieces: bytes) -> Any:
    """The answer, or the error, of a stream in these pieces."""
    try:
        return completion(*pieces)
    except PenstockError as error:
        return type(error), error.message
