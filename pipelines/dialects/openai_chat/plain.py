"""Plain whole answers, which nearly all are: one choice, text, a reason, usage. What is told of them is read without
making events of them, at a fifth of the cost; of whatever is not plain `answers` makes events.

Above it: `dialect`. Below it: `usage`, `reasons`.
"""

from typing import Any

import msgspec

from pipelines.dialects.base import Plain
from pipelines.dialects.openai_chat.reasons import is_failure, read_reason, said_reason
from pipelines.dialects.openai_chat.usage import read_usage
from pipelines.events import Finished

_WORDS = frozenset(("role", "content"))


class _Choice(msgspec.Struct):
    message: dict[str, Any]
    finish_reason: str
    error: Any = None


class _Answer(msgspec.Struct):
    choices: list[_Choice]
    usage: dict[str, Any]
    model: str = ""
    object: str = ""
    error: Any = None
    base_resp: Any = None
    service_tier: str | None = None


_DECODER = msgspec.json.Decoder(_Answer)


def read_plain(body: bytes) -> Plain | None:
    """What a plain answer tells of itself; None for one that is not plain, or no answer."""
    try:
        body.decode()  # members that are passed over are not looked at otherwise
        answer = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if not answer.usage or len(answer.choices) != 1:
        return None
    if answer.error or answer.base_resp or answer.object == "error":
        return None
    choice = answer.choices[0]
    message, raw = choice.message, said_reason(choice.finish_reason)
    content = message.get("content")
    if choice.error or not raw or is_failure(raw) or not content or type(content) is not str:
        return None
    if len(message) > 2 and any(value for name, value in message.items() if name not in _WORDS):
        return None
    usage = read_usage(answer.usage, answer.model)
    if usage is not None and answer.service_tier:
        usage = msgspec.structs.replace(usage, tier=answer.service_tier)
    return Plain(answer.model, Finished(read_reason(raw, calls=False), raw, usage))
