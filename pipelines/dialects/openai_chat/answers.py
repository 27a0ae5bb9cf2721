"""Whole answers: a provider's `chat.completion` to events, and a `Completion` to a caller's.

A message is read as one delta that holds everything, by the same reader as a stream's.

Above it: `dialect`. Below it: `decoder`, `message_writer`, `events`.
"""

import msgspec

from pipelines.conversation import Json, Message, Reasoning, Request, Text, ToolCall
from pipelines.dialects import lenient
from pipelines.dialects.base import our_members
from pipelines.dialects.openai_chat.decoder import ChatDecoder
from pipelines.dialects.openai_chat.encoder import handed_on
from pipelines.dialects.openai_chat.failures import is_refusal
from pipelines.dialects.openai_chat.legacy import is_legacy
from pipelines.dialects.openai_chat.message_writer import assistant
from pipelines.dialects.openai_chat.reasons import read_reason, said_reason, write_reason
from pipelines.dialects.openai_chat.thoughts import FIELD, own
from pipelines.dialects.openai_chat.usage import write_usage
from pipelines.errors import ProtocolError, StreamBroken
from pipelines.events import OURS, ChoiceEnd, Completion, Event, run_of


def read_answer(body: bytes) -> list[Event]:
    """The events of a whole stream, all choices.

    Raises ProtocolError where the body is no chat completion, or has no finish reason, UpstreamError where it is
    an error that came with a 200 (OpenRouter).
    """
    answer = lenient.read(body)
    if not isinstance(answer, dict):
        raise ProtocolError("the answer is no JSON object")
    decoder = ChatDecoder()
    choices = answer.get("choices")
    if not is_refusal(answer) and not (isinstance(choices, list) and choices):
        raise ProtocolError("the answer has no choices")
    events = decoder.chunk({**answer, "choices": [_delta(choice) for choice in choices or ()]})
    try:
        return events + decoder.close()
    except StreamBroken:
        raise ProtocolError("the answer has no finish reason") from None


def _delta(choice: Json) -> Json:
    """A choice of a whole answer as one of a stream; its calls are numbered, as in a stream.

    Without a message one that was cut off is empty (so Gemini answers a prompt that it refuses); one that is whole is
    no answer.
    """
    said = choice.get("message") if isinstance(choice, dict) else None
    if said is None and isinstance(choice, dict) and not _is_whole(choice.get("finish_reason")):
        said = {}
    if not isinstance(said, dict):
        raise ProtocolError("a choice has no message")
    message = dict(said)
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        message["tool_calls"] = [
            {**call, "index": place} if isinstance(call, dict) else call for place, call in enumerate(calls)
        ]
    return {**choice, "delta": message}


def _is_whole(raw: Json) -> bool:
    """Whether a finish reason, or what stands in its place, says that all is said."""
    return not isinstance(raw, str) or not said_reason(raw) or read_reason(raw, calls=False) in ("stop", "tool_calls")


def write_answer(completion: Completion, request: Request) -> dict[str, Json]:
    """The caller's `chat.completion`, with every choice."""
    started, finished = completion.started, completion.finished
    ends = {end.choice: end for end in finished.choices}
    first = ChoiceEnd(0, finished.reason, finished.raw_reason)
    legacy = is_legacy(request)
    answer: dict[str, Json] = {
        "id": started.id or "chatcmpl-penstock",
        "object": "chat.completion",
        "created": started.created,
        "model": started.model or request.model,
        "choices": [
            _choice(number, message, ends.get(number, first), legacy=legacy)
            for number, message in enumerate(completion.messages)
        ],
    }
    answer.update(handed_on(started.opaque))
    if finished.usage:
        answer["usage"] = write_usage(finished.usage)
    answer.update(our_members(finished.opaque))
    runs = [run for part in completion.message.parts if (run := run_of(part)) is not None]
    if runs:
        answer[OURS] = {**answer.get(OURS, {}), "tools": msgspec.to_builtins(runs)}
    return answer


def _choice(number: int, message: Message, end: ChoiceEnd, *, legacy: bool) -> dict[str, Json]:
    written: dict[str, Json] = {"role": "assistant", "content": None, "refusal": None}
    written.update(assistant(message, answer=True))
    thoughts = "".join(part.text for part in message.parts if isinstance(part, Reasoning))
    written.pop("reasoning", None)
    if thoughts:
        written[FIELD] = thoughts
    reason = write_reason(end.reason)
    if legacy and written.get("tool_calls"):
        written["function_call"] = written.pop("tool_calls")[0]["function"]
        reason = "function_call" if end.reason == "tool_calls" else reason
    return {
        "index": number,
        "message": written,
        "logprobs": _logprobs(message),
        "finish_reason": reason,
    }


def _logprobs(message: Message) -> Json:
    """The log probabilities of all parts, in order; None where there are none."""
    found: dict[str, list[Json]] = {}
    for part in message.parts:
        if isinstance(part, Text | ToolCall):
            for name, values in (own(part.opaque).get("logprobs") or {}).items():
                found.setdefault(name, []).extend(values if isinstance(values, list) else ())
    return {"content": None, "refusal": None, **found} if found else None
