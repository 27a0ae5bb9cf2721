"""Errors of the Messages API: `{"type": "error", "error": {"type": …, "message": …}}`, and ours in that shape.

Sources: Anthropic API reference, "Errors" (status and type words, 529, errors in mid-stream, `retry-after`).
Bodies of proxies in front of it are read as the chat dialect reads them.

Above it: `dialect`, `decoder`, `answers`. Below it: `openai_chat.failures`, `errors`. Outside it: HTTP.
"""

import re
from collections.abc import Mapping

from pipelines.conversation import Json
from pipelines.dialects.openai_chat import failures
from pipelines.errors import PenstockError, RateLimited, UpstreamError

_TYPES: dict[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}

_WORDS = frozenset(_TYPES.values()) | {"api_error"}

_NO_MONEY = re.compile(r"(?i)credit balance is too low|billing_error|spend limit|usage limits")
"""Anthropic says so with a 400 and `invalid_request_error`; another provider may still serve."""


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
    """A provider's error response (header names in lower case) to an error: reason, words, wait in seconds."""
    error = failures.read_error(status, headers, body)
    return _without_money(error) or error


def stream_failure(event: dict[str, Json]) -> UpstreamError:
    """An `error` event in mid-stream, or an error body that came with a 200."""
    error = failures.stream_failure(event)
    return _without_money(error) or error


def write_error(error: PenstockError) -> dict[str, Json]:
    """The error body for a caller. A provider's own type is handed on where it is a word of this dialect."""
    default = "api_error" if error.status >= 500 else "invalid_request_error"
    kind = _TYPES.get(error.status, default)
    if isinstance(error, UpstreamError):
        if error.upstream_type in _WORDS:
            kind = error.upstream_type or kind
        elif error.reason == "overloaded":
            kind = "overloaded_error"
    message = error.message
    if error.param and error.param not in message:
        message = f"{error.param}: {message}"
    return {"type": "error", "error": {"type": kind, "message": message}}


def _without_money(error: UpstreamError) -> RateLimited | None:
    if error.reason == "rate_limited" or not _NO_MONEY.search(f"{error.upstream_type} {error.message}"):
        return None
    return RateLimited(
        error.message,
        upstream_status=error.upstream_status,
        upstream_type=error.upstream_type,
        upstream_code=error.upstream_code,
        retry_after=error.retry_after or failures.QUOTA_WAIT,
    )
