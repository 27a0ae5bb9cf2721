"""What a provider says when it refuses, in the many shapes of this wire, and our errors in the shape callers know.

`read_error` reads a response, `stream_failure` an error in mid-stream, `write_error` writes. The Responses wire has
the same error bodies and shares them.

Sources: OpenAI, "Error codes"; Azure OpenAI, "Content filtering"; OpenRouter, "Errors" (`metadata.raw`, 402, 403 for
moderation); vLLM and Mistral (`object: "error"`); FastAPI (`detail`); Cloudflare (`errors`); AWS (`Message`); MiniMax,
"Error Codes" (`base_resp`); Google, `google.rpc.RetryInfo` (`retryDelay`); RFC 9110, section 10.2.3 (Retry-After).

Above it: `dialect`, `decoder`, `openai_responses`. Below it: `meaning`, `errors`. Outside it: HTTP.
"""

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import msgspec

from pipelines.conversation import Json
from pipelines.dialects.openai_chat.meaning import meaning
from pipelines.errors import PenstockError, RateLimited, Reason, UpstreamError

QUOTA_WAIT = 60.0
"""Seconds before a provider whose quota is used up is worth asking again, where it names no wait itself."""

MOST_WORDS, MOST_WORD = 16_384, 200
"""Characters that are read of what a provider says, and of its type or code: callers can make both long."""

_STATUS: dict[Reason, int] = {
    "invalid_request": 400,
    "context_too_long": 400,
    "content_policy": 400,
    "permission": 403,
    "not_found": 404,
    "rate_limited": 429,
    "overloaded": 503,
    "timeout": 504,
}
"""The caller's status for a failure that came without one of its own, in mid-stream for instance; else 502."""

_OWN_STATUS = {
    1001: 504,
    1002: 429,
    1004: 401,
    1008: 402,
    1026: 400,
    1027: 400,
    1039: 429,
    1041: 429,
    2013: 400,
    2049: 401,
    2056: 429,
}
"""MiniMax's statuses, which come in `base_resp` with a 200, as those of HTTP; the others are faults of its own."""

_SENSITIVE = (1026, 1027)
"""Those of a question or an answer that its filter has stopped."""

_CODES: dict[Reason, str] = {"context_too_long": "context_length_exceeded", "content_policy": "content_filter"}

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}

_TAG = re.compile(r"(?is)<(script|style|head)\b.*?</\1>|<[^>]*>")
_TITLE = re.compile(r"(?is)<title[^>]*>(.*?)</title>")


class _Words(NamedTuple):
    """What an error body says. `more` is text that counts for the meaning only."""

    message: str = ""
    type: str = ""
    code: str = ""
    param: str = ""
    status: int = 0
    more: str = ""


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
    """A provider's error response (header names in lower case). RateLimited for a limit, else UpstreamError."""
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        words = _Words(_plain(body[:MOST_WORDS].decode("utf-8", "replace")))
    else:
        words = _words(decoded)
        if "retry-after" not in headers:
            headers = {**headers, "retry-after": _retry_delay(decoded)}
    return _error(words, status, _wait(headers))


def stream_failure(chunk: dict[str, Json]) -> UpstreamError:
    """An error that came in place of an answer, or in the middle of one, after a 200."""
    words = _words(chunk)
    reason = chunk.get("finish_reason")
    if not words.message and isinstance(reason, str):
        words = words._replace(message=f"the provider stopped with finish reason {reason!r}", type=reason)
    return _error(words, words.status, None)


def is_refusal(answer: Mapping[str, Json]) -> bool:
    """Whether what came with a 200, whole or as a chunk, tells of an error."""
    return bool(answer.get("error")) or answer.get("object") == "error" or _own_status(answer.get("base_resp")) != 0


def write_error(error: PenstockError) -> dict[str, Json]:
    """OpenAI's error body. A provider's own type and code are handed on where it gave them."""
    kind = _TYPES.get(error.status, "server_error" if error.status >= 500 else "invalid_request_error")
    code = error.code
    if isinstance(error, UpstreamError):
        kind = error.upstream_type or kind
        own = error.upstream_code or ""
        # A number says no more than the status does (llama.cpp, OpenRouter).
        code = (own if not own.isdigit() else "") or _CODES.get(error.reason) or error.code
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": code}}


def _error(words: _Words, status: int, wait: float | None) -> UpstreamError:
    # What it means stands at the beginning or the end of a message, that of a server which quotes the prompt too.
    message = words.message
    if len(message) > MOST_WORDS:
        message = f"{message[: MOST_WORDS // 2]} {message[-MOST_WORDS // 2 :]}"
    said = f"{words.type} {words.code} {message} {words.more}"
    reason, quota = meaning(status, said)
    if quota and wait is None:
        wait = QUOTA_WAIT
    kind = RateLimited if reason == "rate_limited" else UpstreamError
    code = kind.code if reason == "rate_limited" else _CODES.get(reason, UpstreamError.code)
    return kind(
        words.message or f"the provider answered with status {status}",
        reason=reason,
        upstream_status=status,
        upstream_type=words.type or None,
        upstream_code=words.code or None,
        status=status if 400 <= status < 600 else _STATUS.get(reason, 502),
        code=code,
        param=words.param or None,
        retry_after=wait,
    )


def _words(body: Json) -> _Words:
    """The words of a decoded body, whatever object they stand in."""
    while isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, dict):
        return _Words(str(body) if body else "")
    errors = body.get("errors")
    if not body.get("error") and isinstance(errors, list) and errors:
        # Cloudflare: several, of which the first is the reason.
        words = _words(errors[0])
        if words.message:
            return words
    own = body.get("base_resp")
    if (code := _own_status(own)) and isinstance(own, dict):
        more = _CODES["content_policy"] if code in _SENSITIVE else ""
        return _Words(str(own.get("status_msg") or ""), code=str(code), status=_OWN_STATUS.get(code, 500), more=more)
    error = body.get("error")
    if isinstance(error, dict):
        return _object_words({"status_code": body.get("status_code"), **error})
    if isinstance(error, str):
        return _object_words({**body, "message": body.get("message") or error})
    return _object_words(body)


def _own_status(said: Json) -> int:
    """The status in `base_resp`, 0 where there is none: all is well."""
    code = said.get("status_code") if isinstance(said, dict) else 0
    return code if isinstance(code, int) else 0


def _object_words(error: dict[str, Json]) -> _Words:
    message, more = _message(error), ""
    metadata = error.get("metadata")
    if isinstance(metadata, dict):
        raw = _raw(metadata.get("raw"))
        message = f"{message}: {raw}" if raw else message
        reasons = metadata.get("reasons")
        more = " ".join(map(str, reasons))[:MOST_WORDS] if isinstance(reasons, list) else ""
    inner = error.get("innererror")
    if isinstance(inner, dict):
        more += f" {inner.get('code')}"
    code = error.get("code")
    candidates: list[Json] = [error.get("status_code"), error.get("status"), code]
    numbers = [value for value in candidates if _is_status(value)]
    return _Words(
        message=message,
        type=_word(error.get("type")),
        code=_word(code),
        param=_word(error.get("param")),
        status=int(numbers[0]) if numbers else 0,
        more=more,
    )


def _message(error: dict[str, Json]) -> str:
    names = ("message", "detail", "error_message", "Message")
    message = next((error[name] for name in names if error.get(name)), "")
    if isinstance(message, str):
        return message
    if isinstance(message, dict) and message.get("detail"):
        message = message["detail"]
    if isinstance(message, list):
        # FastAPI: one object for each field that is wrong.
        return "; ".join(_field(entry) for entry in message)
    return msgspec.json.encode(message).decode()


def _field(entry: Json) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    location = entry.get("loc")
    place = ".".join(map(str, location)) if isinstance(location, list) else ""
    return f"{place}: {entry.get('msg')}" if place else str(entry.get("msg"))


def _raw(raw: Json) -> str:
    """OpenRouter's `metadata.raw`: what the provider behind it said, as text or as JSON in text."""
    if isinstance(raw, str):
        try:
            decoded = msgspec.json.decode(raw)
        except msgspec.DecodeError:
            return raw
        return _words(decoded).message or raw
    return _words(raw).message if isinstance(raw, dict) else ""


def _is_status(value: Json) -> bool:
    if isinstance(value, str):
        return len(value) == 3 and value.isascii() and value.isdigit() and 400 <= int(value) < 600
    return isinstance(value, int) and not isinstance(value, bool) and 400 <= value < 600


def _word(value: Json) -> str:
    return "" if value is None or isinstance(value, dict | list) else str(value)[:MOST_WORD]


def _plain(text: str) -> str:
    """The words of a page that a proxy sent in place of JSON: its title, or all of its text."""
    title = _TITLE.search(text)
    words = title.group(1) if title else _TAG.sub(" ", text)
    return " ".join(words.split())[:500]


def _wait(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by `retry-after-ms` or `retry-after`; a date counts from the response's own `date`."""
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        try:
            seconds = float(text) / scale
        except ValueError:
            seconds = _until(text, headers.get("date", "")) if name == "retry-after" else -1.0
        if 0.0 <= seconds < float("inf"):
            return seconds
    return None


def _retry_delay(body: Json) -> str:
    """The seconds of Google's `retryDelay` ("3.5s", as JSON has a `Duration`), "" where there is none."""
    while isinstance(body, list) and body:
        body = body[0]
    error = body.get("error") if isinstance(body, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    for detail in details if isinstance(details, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(delay, str) and delay.endswith("s"):
            return delay[:-1]
    return ""


def _until(text: str, now: str) -> float:
    """Seconds from one HTTP date to another, 0 where it has passed; -1 where either is none."""
    try:
        return max(0.0, (parsedate_to_datetime(text) - parsedate_to_datetime(now)).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return -1.0
