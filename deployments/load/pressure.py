"""How a provider bears its load: what its answers tell sets the limiter.

Above it: `provider_replica`. Below it: `limiter`, `pipelines.concurrency`. Outside it: the provider, retries.
"""

import time

from deployments.load.limiter import Limiter
from pipelines.calls import Answer, Call
from pipelines.concurrency import AdaptiveLimit
from pipelines.errors import Reason
from pipelines.options import TimeoutOptions

OVERLOAD: frozenset[Reason] = frozenset(("overloaded", "rate_limited", "timeout"))
"""Reasons that say that a provider has more to do than it can."""


class Pressure:
    """Keeps the limiter between `least` and what it was made with. Times are `time.monotonic()`, in seconds."""

    def __init__(self, limiter: Limiter, least: int) -> None:
        self._limiter = limiter
        self._limit = AdaptiveLimit(least, limiter.concurrent)

    def failed(self, call: Call, reason: Reason | None, began: float) -> None:
        """A call that was sent at `began` got no answer, or lost it. A caller's own short patience tells nothing."""
        if reason in OVERLOAD and not (reason == "timeout" and call.options.timeouts != TimeoutOptions()):
            self._limit.refused(began=began, now=time.monotonic())
            self._set()

    def answered(self, call: Call, answer: Answer, began: float) -> None:
        """A call that was sent at `began` has an answer: as a stream, its first output is there now.

        An answer that took several tries tells nothing: its time is that of the waits between them.
        """
        streams = answer.frames is not None and answer.outcome is None
        if streams and "x-penstock-tries" not in answer.headers:
            self._told(call, time.monotonic() - began)
        answer.on_close(lambda: self._ended(call, answer, began, told=streams))

    def _ended(self, call: Call, answer: Answer, began: float, *, told: bool) -> None:
        outcome = answer.outcome
        if outcome is None:
            return
        self.failed(call, outcome.reason, began)
        if not told and outcome.reason is None and not outcome.cancelled and outcome.tries == 1:
            self._told(call, outcome.first_output)

    def _told(self, call: Call, first_output: float | None) -> None:
        # An answer that came whole tells nothing of how long its prompt was read.
        prompt = 0 if first_output is None else sum(len(message.text) for message in call.request.messages)
        self._limit.answered(
            call.request.model, prompt, first_output, now=time.monotonic(), in_flight=self._limiter.in_flight
        )
        self._set()

    def _set(self) -> None:
        if self._limit.limit != self._limiter.concurrent:
            self._limiter.resize(self._limit.limit)
