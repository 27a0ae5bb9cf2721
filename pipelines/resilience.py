"""How long to wait, and whether and when to ask again: values and pure rules. `now` is always an argument.

Sources: full-jitter backoff: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015. Retry
budget: Finagle's `RetryBudget` (a share of requests and a floor a second, as a token bucket), and "Handling
Overload" in Site Reliability Engineering (O'Reilly, 2016), chapter 21.

Above it: the providers and the gateway. Below it: `errors`.
"""

from typing import NamedTuple

import msgspec

from pipelines.errors import PenstockError, Reason, UpstreamError


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds of patience, by phase.

    connect: until the connection stands; first_event: until the first frame that is no ping or comment (streams
    only); idle: between two such frames; total: for the whole answer.
    """

    connect: float = 5.0
    first_event: float = 30.0
    idle: float = 30.0
    total: float = 600.0


class Rule(NamedTuple):
    """What may be done before the first output when a provider fails for one reason."""

    retry: bool
    """Ask the same provider again."""
    fall_back: bool
    """Ask the next candidate."""


RULES: dict[Reason, Rule] = {
    "rate_limited": Rule(retry=True, fall_back=True),
    "overloaded": Rule(retry=True, fall_back=True),
    "server_error": Rule(retry=True, fall_back=True),
    "broken": Rule(retry=True, fall_back=True),
    "timeout": Rule(retry=False, fall_back=True),
    "protocol": Rule(retry=False, fall_back=True),
    "context_too_long": Rule(retry=False, fall_back=True),
    "content_policy": Rule(retry=False, fall_back=False),
    "invalid_request": Rule(retry=False, fall_back=False),
    "authentication": Rule(retry=False, fall_back=False),
    "permission": Rule(retry=False, fall_back=False),
    "not_found": Rule(retry=False, fall_back=False),
}
"""A fall-back from "context_too_long" goes only to a larger context."""


class RetryPolicy(msgspec.Struct, frozen=True):
    """How often and how soon the same provider is asked again.

    attempts counts the first one; base and cap are seconds of backoff; patience is the longest wait in seconds
    that a provider may ask for: a longer one is no retry but a reason to go elsewhere.
    """

    attempts: int = 3
    base: float = 0.25
    cap: float = 4.0
    patience: float = 10.0

    def wait(self, error: PenstockError, attempt: int, random: float) -> float | None:
        """Seconds to wait before attempt number `attempt` + 1 (the first is 1); None: do not ask again.

        random is uniform in [0, 1). The provider's own `retry_after` is the least wait, with jitter on top, so
        that callers who were refused together do not come back together.
        """
        if attempt >= self.attempts or not _may_retry(error):
            return None
        if error.retry_after is None:
            return self.backoff(attempt, random)
        if error.retry_after > self.patience:
            return None
        return max(error.retry_after, 0.0) + self._jitter(attempt, random)

    def backoff(self, attempt: int, random: float) -> float:
        """Seconds after failure number `attempt` (the first is 1) where no wait was named: never none at all."""
        return max(self._jitter(attempt, random), self.base / 2)

    def _jitter(self, attempt: int, random: float) -> float:
        return random * min(self.cap, self.base * 2.0 ** min(attempt - 1, 60))


def _may_retry(error: PenstockError) -> bool:
    if isinstance(error, UpstreamError):
        return RULES[error.reason].retry
    return error.retryable


class RetryBudget:
    """Keeps retries to a share of all requests, so that they cannot multiply an outage.

    share: retries allowed for each request; floor: retries a second that are always allowed; both fill one
    token bucket that holds what `window` seconds of floor give, and at least one token.
    """

    def __init__(self, now: float, share: float = 0.1, floor: float = 3.0, window: float = 10.0) -> None:
        self._share = share
        self._floor = floor
        self._most = max(1.0, floor * window)
        self._tokens = self._most
        self._filled = now

    def deposit(self, now: float) -> None:
        """A request (not a retry) began."""
        self._fill(now)
        self._tokens = min(self._most, self._tokens + self._share)

    def withdraw(self, now: float) -> bool:
        """Whether one more retry is allowed now; if so it is paid for."""
        self._fill(now)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def _fill(self, now: float) -> None:
        self._tokens = min(self._most, self._tokens + max(0.0, now - self._filled) * self._floor)
        self._filled = now
