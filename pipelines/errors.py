"""Everything that can go wrong, as one tree.

    PenstockError
    ├── BadRequest                 the caller's request cannot be understood or served as it stands
    │   └── UnknownModel           (also ValueError) no such model
    ├── ConfigurationError         the operator left something out, a provider's key for instance
    ├── Denied                     no key, a wrong key, or a key without this right
    ├── OverBudget                 the key's budget is used up
    ├── OverLimit                  the key's rate, or its number of streams, is used up for now
    ├── Overloaded                 our own queue is full, or nobody is there to serve
    ├── UpstreamError              the provider said no
    │   ├── RateLimited            429, with the provider's own wait
    │   ├── TimedOut               (also TimeoutError) silence; `phase` says which
    │   ├── StreamBroken           the connection ended before the answer did
    │   └── ProtocolError          the provider sent what its wire format does not allow
    └── ToolFailed                 a tool could not be run, or failed

Class attributes give the HTTP status, whether the same provider may be asked again and the metrics label
(`code`); there is no ladder of isinstance anywhere. Every error pickles. No message carries a key or text of
a prompt: `redacted` takes out what looks like a credential from what a provider says.

Above it: everything. Below it: `secret_shapes`.
"""

import re
from typing import Any, ClassVar, Literal

from pipelines.secret_shapes import TAKEN_OUT, without_secrets

Reason = Literal[
    "authentication",
    "permission",
    "not_found",
    "invalid_request",
    "context_too_long",
    "content_policy",
    "rate_limited",
    "overloaded",
    "server_error",
    "timeout",
    "broken",
    "protocol",
]
"""What a provider's refusal means, whatever words and status it used."""

Phase = Literal["connect", "first_event", "idle", "total"]
"""Which of the four timeouts ran out."""

_SHORT = re.compile(
    r"(?i)\b(?:sk|pk|rk|gsk|xai|psk)[-_][A-Za-z0-9_\-*.]{6,}"
    r"|\bBearer\s+[A-Za-z0-9_\-.=+/]{6,}"
    r"|\b(?:AIza|hf_|ghp_)[A-Za-z0-9_\-]{8,}"
    r"|\S{0,80}\*{3,}\S*"
)
"""Keys as providers quote them when they refuse one: short for tests, cut off, or with stars in the middle."""


LEAST_SECRET = 8
"""Characters of a key that is looked for by itself: a shorter one may be a word."""


def redacted(text: str) -> str:
    """`text` without anything that looks like a credential, and at most 2,000 characters of it."""
    return _SHORT.sub(TAKEN_OUT, without_secrets(text[:8192]))[:2000]


def _rebuild(cls: type["PenstockError"], details: dict[str, Any]) -> "PenstockError":
    error = cls.__new__(cls)
    Exception.__init__(error, details["message"])
    error.__dict__.update(details)
    return error


class PenstockError(Exception):
    """The root. `message` is fit to be shown to a caller.

    status: HTTP status for the caller; code: label in metrics and in error bodies; param: the field of the
    request that is wrong, as a path (`messages.0.content`); retry_after: seconds; headers: of the answer that tells it.
    """

    status: int = 500
    code: str = "internal_error"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after
        self.headers: dict[str, str] = {}
        if status is not None:
            self.status = status
        if code is not None:
            self.code = code

    @property
    def label(self) -> str:
        """What it means, in one word: for metrics, logs and the hop."""
        return self.code

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), {**self.__dict__, "message": self.message})


class BadRequest(PenstockError):
    """The request cannot be served as it stands; `param` names the field."""

    status = 400
    code = "invalid_request"


class UnknownModel(BadRequest, ValueError):
    """No provider has this model."""

    status = 404
    code = "model_not_found"


class ConfigurationError(PenstockError):
    """Something that only the operator can mend is missing or wrong."""

    status = 503
    code = "not_configured"


class Denied(PenstockError):
    """No key, a wrong key (401), or a key that may not do this (403)."""

    status = 401
    code = "authentication"


class OverBudget(PenstockError):
    """The key's budget is used up: nothing that another try would mend.

    OpenAI says so with 429 and `insufficient_quota` ("You exceeded your current quota", API reference, "Error codes"),
    which clients tell from a rate limit by the code. The vendors' own clients try every 429 again unless the answer's
    `x-should-retry` says no (openai-python, `_base_client.py`, `_should_retry`; anthropic-sdk-python likewise).
    """

    status = 429
    code = "insufficient_quota"

    def __init__(self, message: str, **more: Any) -> None:
        super().__init__(message, **more)
        self.headers["x-should-retry"] = "false"


class OverLimit(PenstockError):
    """The key's rate, or its number of streams at once, is used up; there is more after `retry_after` seconds."""

    status = 429
    code = "rate_limit_exceeded"
    retryable = True


class Overloaded(PenstockError):
    """We are full, or nobody can serve: try again after `retry_after` seconds."""

    status = 429
    code = "overloaded"
    retryable = True

    @property
    def label(self) -> str:
        """Another word than a provider's own "overloaded"."""
        return "full"


class UpstreamError(PenstockError):
    """A provider refused or failed.

    provider: which; reason: what it means; upstream_status: the status it sent (0: none);
    upstream_type, upstream_code: its own words, handed on to the caller.
    """

    status = 502
    code = "upstream_error"
    reason: Reason = "server_error"

    def __init__(
        self,
        message: str,
        *,
        provider: str = "",
        reason: Reason | None = None,
        upstream_status: int = 0,
        upstream_type: str | None = None,
        upstream_code: str | None = None,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(redacted(message), status=status, code=code, param=param, retry_after=retry_after)
        self.provider = provider
        self.upstream_status = upstream_status
        self.upstream_type = upstream_type
        self.upstream_code = upstream_code
        if reason is not None:
            self.reason = reason

    def conceal(self, secret: str) -> None:
        """Take the key that the provider was sent out of the message, whatever it looks like."""
        if len(secret) >= LEAST_SECRET:
            self.message = self.message.replace(secret, TAKEN_OUT)
            self.args = (self.message,)

    @property
    def label(self) -> str:
        """The provider's reason."""
        return self.reason


class RateLimited(UpstreamError):
    """The provider's rate limit; `retry_after` is what it asked for, in seconds, if it did."""

    status = 429
    code = "rate_limited"
    retryable = True
    reason = "rate_limited"


class TimedOut(UpstreamError, TimeoutError):
    """The provider was silent for too long in `phase`. It is not asked again."""

    status = 504
    code = "timeout"
    reason = "timeout"

    def __init__(self, message: str, *, phase: Phase, provider: str = "") -> None:
        super().__init__(message, provider=provider)
        self.phase = phase


class StreamBroken(UpstreamError):
    """The answer stopped before its end."""

    code = "stream_broken"
    reason = "broken"


class ProtocolError(UpstreamError):
    """The provider sent what its own wire format does not allow."""

    code = "protocol_error"
    reason = "protocol"


class ToolFailed(PenstockError):
    """A tool could not be run, or failed."""

    status = 502
    code = "tool_failed"
