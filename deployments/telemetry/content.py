"""Text of prompts and answers, for those who have switched it on: in the request log, or in traces.

The form is that of OpenTelemetry's conventions (`gen_ai.input.messages`, `gen_ai.output.messages`; source:
https://github.com/open-telemetry/semantic-conventions-genai, docs/gen-ai/gen-ai-input-messages.json). Of pictures,
sound and files only the kind is told.

Above it: `front`, `spans`, `request_log`. Below it: `pipelines`. Outside it: whether it is switched on.
"""

import contextlib
from collections.abc import AsyncGenerator

import msgspec

from pipelines.calls import Answer, Call
from pipelines.conversation import Json, Message, Part, Reasoning, Refusal, Text, ToolCall, ToolResult
from pipelines.dialects import DIALECTS
from pipelines.errors import PenstockError
from pipelines.events import Event, assemble

MOST = 256 * 1024
"""Bytes of an answer that are listened to."""


def question(call: Call) -> list[Json]:
    """What was asked."""
    return [_told(message) for message in call.request.messages]


class Listener:
    """Hears an answer as it passes."""

    def __init__(self, call: Call, answer: Answer) -> None:
        self._call = call
        self._answer = answer
        self._heard = bytearray()
        if answer.frames is not None:
            answer.frames = self._listening(answer.frames)

    def heard(self) -> list[Json]:
        """What was answered; nothing where it is no conversation, or was not understood to its end."""
        if self._call.operation or self._answer.status != 200:
            return []
        dialect = DIALECTS[self._call.dialect]
        with contextlib.suppress(PenstockError):
            if self._call.stream:
                decoder = dialect.decoder()
                events: list[Event] = decoder.feed(bytes(self._heard))
                events += [] if decoder.done else decoder.close()
            else:
                events = dialect.read_answer(self._answer.body)
            return [_told(assemble(events).message)]
        return []

    async def _listening(self, frames: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async with contextlib.aclosing(frames):
            async for data in frames:
                if len(self._heard) < MOST:
                    self._heard += data
                yield data


def written(messages: list[Json]) -> str:
    """Messages as JSON text."""
    return msgspec.json.encode(messages).decode()


def _told(message: Message) -> Json:
    return {"role": message.role, "parts": [_part(part) for part in message.parts]}


def _part(part: Part) -> Json:
    match part:
        case Text() | Refusal():
            return {"type": "text", "content": part.text}
        case Reasoning():
            return {"type": "reasoning", "content": part.text}
        case ToolCall():
            return {"type": "tool_call", "id": part.id, "name": part.name, "arguments": part.arguments}
        case ToolResult():
            text = "".join(inner.text for inner in part.parts if isinstance(inner, Text))
            return {"type": "tool_call_response", "id": part.call_id, "result": text}
        case _:
            return {"type": type(part).__name__.lower()}
