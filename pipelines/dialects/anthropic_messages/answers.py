"""Whole answers (`stream: false`): a message object to events, and a completion to a message object.

Source: Anthropic API reference, "Messages".

Above it: `dialect`. Below it: `decoder`, `encoder`, `blocks`.
"""

from pipelines.conversation import Json, Refusal, Request
from pipelines.dialects import lenient
from pipelines.dialects.anthropic_messages.blocks import answer_blocks
from pipelines.dialects.anthropic_messages.decoder import MessagesDecoder
from pipelines.dialects.anthropic_messages.encoder import start_message
from pipelines.dialects.anthropic_messages.failures import stream_failure
from pipelines.dialects.anthropic_messages.opaque import ended
from pipelines.dialects.anthropic_messages.reasons import write_reason
from pipelines.dialects.anthropic_messages.usage import write_usage
from pipelines.dialects.base import our_members
from pipelines.errors import ProtocolError
from pipelines.events import Completion, Event

_ENDING = ("stop_reason", "stop_sequence", "stop_details", "container")
_BESIDE = ("context_management",)


def read_answer(body: bytes) -> list[Event]:
    """A provider's message to the events of a whole stream.

    Raises ProtocolError where it is no whole message, UpstreamError for an error body that came with a 200.
    """
    message = lenient.read(body)
    if isinstance(message, dict) and (message.get("type") == "error" or "error" in message):
        raise stream_failure(message)
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(message, dict) or not isinstance(content, list):
        raise ProtocolError("the provider's answer is no message")
    if not isinstance(message.get("stop_reason"), str):
        raise ProtocolError("the provider's answer has no stop reason")
    decoder = MessagesDecoder()
    delta, beside = ({key: message.pop(key) for key in keys if key in message} for keys in (_ENDING, _BESIDE))
    events = decoder.take({"type": "message_start", "message": message})
    for index, block in enumerate(content):
        events += decoder.take({"type": "content_block_start", "index": index, "content_block": block})
        events += decoder.take({"type": "content_block_stop", "index": index})
    events += decoder.take({**beside, "type": "message_delta", "delta": delta})
    return events + decoder.take({"type": "message_stop"})


def write_answer(completion: Completion, request: Request) -> dict[str, Json]:
    """A whole answer to the caller's message object. Answers after the first (n > 1) have no form here."""
    finished = completion.finished
    parts = completion.message.parts
    delta, beside = ended(finished.opaque)
    refused = any(isinstance(part, Refusal) for part in parts)
    return {
        **start_message(completion.started, request.model),
        "content": [block for part in parts for block in answer_blocks(part)],
        "stop_reason": write_reason(finished, refused=refused),
        "stop_sequence": None,
        **delta,
        **beside,
        "usage": write_usage(finished.usage),
        **our_members(finished.opaque),
    }
