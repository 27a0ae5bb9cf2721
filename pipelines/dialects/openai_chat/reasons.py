"""Why an answer ended: the words of chat completions and of the servers that imitate it, and our own.

A word that the table does not hold is read by what it speaks of (an error, a filter, a limit); one that speaks of none
is "other": the server ended its answer itself, so it is handed out as whole.

Sources: OpenAI API reference, "The chat completion object"; Mistral (`model_length`), Together (`eos`), DeepSeek
(`insufficient_system_resource`), vLLM and SGLang (`abort`, `repetition`), OpenRouter (`error`), text-generation-
inference and watsonx (`eos_token`, `time_limit`), Cohere (`COMPLETE`, `ERROR_TOXIC`), Z.ai (`sensitive`,
`network_error`, `model_context_window_exceeded`), Bedrock (`guardrail_intervened`, `content_filtered`), Gemini's
`FinishReason` and its compatible endpoint (`content_filter: PROHIBITED_CONTENT`,
`function_call_filter: MALFORMED_FUNCTION_CALL`), DashScope (the text `null` while it goes on).

Above it: the decoders, the encoder and the answers. Below it: `events`.
"""

import re
from typing import Literal

from pipelines.events import FinishReason

_Meaning = FinishReason | Literal["failure"]

_READ: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end": "stop",
    "end_of_text": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "complete": "stop",
    "completed": "stop",
    "finished": "stop",
    "normal": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_call": "tool_calls",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "refusal": "refusal",
    "pause_turn": "pause",
}

_BY_STEM: tuple[tuple[re.Pattern[str], _Meaning], ...] = (
    (re.compile(r"malformed|unexpected_tool|too_many_tool|function_call_filter|missing_thought"), "failure"),
    (
        re.compile(
            r"filter|safety|sensitive|prohibit|block|recitation|spii|guardrail|toxic|moderat|policy|violat|harm|language"
        ),
        "content_filter",
    ),
    (re.compile(r"refus"), "refusal"),
    (re.compile(r"length|max|limit|exceed|context|trunc|repetition|incomplete|unfinished|not_finished"), "length"),
    (re.compile(r"error|fail|abort|cancel|time_?out|timed_out|interrupt|overload|insufficient|unavailable"), "failure"),
)
"""What a word speaks of, where the table does not hold it; the first that is found counts."""

_PREFIX = re.compile(r"\Afinish_?reason_")
_BETWEEN = re.compile(r"[\s.-]+")

_WRITTEN: dict[FinishReason, str] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "pause": "length",
    "other": "stop",
}


def said_reason(raw: str) -> str:
    """The provider's word; "" for the text `null`, with which some servers say that they go on."""
    return "" if raw in ("null", "None") else raw


def is_failure(raw: str) -> bool:
    """Whether the word tells of a failure: the answer was cut off by the server and is none."""
    return _meaning(raw) == "failure"


def read_reason(raw: str, *, calls: bool) -> FinishReason:
    """Our reason for the provider's word. `calls`: the answer asks for tools, which some servers call "stop"."""
    reason = _meaning(raw)
    if reason == "failure":
        return "other"
    return "tool_calls" if calls and reason == "stop" else reason


def write_reason(reason: FinishReason) -> str:
    """The word of the wire. "pause" has none: "length" at least says that the answer is not whole."""
    return _WRITTEN[reason]


def _meaning(raw: str) -> _Meaning:
    """What a word of any server means; behind a colon stands only more of the same (Gemini)."""
    if raw in _READ:
        return _READ[raw]
    word = _PREFIX.sub("", _BETWEEN.sub("_", raw.strip().lower()))
    known = _READ.get(word.partition(":")[0].strip("_"))
    if known is not None:
        return known
    return next((meaning for pattern, meaning in _BY_STEM if pattern.search(word)), "other")
