"""Why an answer ended: the words of chat completions and of the servers that imitate it, and our own.

Sources: OpenAI API reference, "The chat completion object"; Mistral (`model_length`), Together (`eos`), DeepSeek
(`insufficient_system_resource`), vLLM and SGLang (`abort`), OpenRouter (`error`).

Above it: the decoder, the encoder and the answers of this package. Below it: `events`, `errors`.
"""

from pipelines.errors import Reason
from pipelines.events import FinishReason

_READ: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "complete": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "refusal": "refusal",
    "pause_turn": "pause",
}

_WRITTEN: dict[FinishReason, str] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "pause": "length",
    "other": "stop",
}

FAILURES: dict[str, Reason] = {
    "error": "server_error",
    "abort": "broken",
    "insufficient_system_resource": "overloaded",
}
"""Finish reasons that tell of a failure: the answer was cut off by the server and is none."""


def read_reason(raw: str, *, calls: bool) -> FinishReason:
    """Our reason for the provider's word. `calls`: the answer asks for tools, which some servers call "stop"."""
    reason = _READ.get(raw.lower(), "other")
    return "tool_calls" if calls and reason == "stop" else reason


def write_reason(reason: FinishReason) -> str:
    """The word of the wire. "pause" has none: "length" at least says that the answer is not whole."""
    return _WRITTEN[reason]
