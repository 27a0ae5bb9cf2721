"""Live statistics of one model: averages in which old measurements count less and less.

A measurement that is t seconds old weighs 0.5 ** (t / half-life); an average is the weighted sum over the sum of
weights. It is the exponentially decayed mean of G. Cormode et al., "Forward Decay: A Practical Time Decay Model
for Streaming Systems" (ICDE 2009), and the time-based decay of Finagle's Peak EWMA load balancer
(`exp(-elapsed / decay time)`); unlike an EWMA that decays by count it forgets an idle provider's past too.

Above it: `state`, `breaker`. Below it: `spread`, `table`, `worth`.
Outside it: clocks; `now` is an argument, in seconds.
"""

from collections.abc import Mapping

import msgspec

from pipelines.errors import Reason
from pipelines.routing.spread import Spread
from pipelines.routing.table import Outcome, Performance
from pipelines.routing.worth import UNMEASURED_FIRST_OUTPUT, UNMEASURED_SPEED

HALF_LIFE = 30.0
"""Seconds after which a measurement of speed or failure counts half."""

OUTPUT_HALF_LIFE = 600.0
"""Seconds after which the length of an answer counts half: it depends on the model more than on the hour."""

SPREAD_HALF_LIFE = 600.0
"""Seconds after which a time to the first output counts half for the quantile: a tail needs many measurements."""

FADING = 600.0
"""Seconds without a measurement after which half of what is special about a model's times is forgotten."""

LEAST_LEFT = 1 / 64
"""Below this share of it the model counts as one that was never measured."""

LEAST_MEASUREMENTS = 20.0
"""Measurements below which there is no 95th percentile: one in twenty is beyond it."""

PRIOR_SUCCESSES = 1.0
"""Successful attempts that every model is credited with, so that silence leads an error rate back to zero."""


class Average(msgspec.Struct, frozen=True):
    """A decaying mean. `total` and `weight` are as of `at`."""

    half_life: float = HALF_LIFE
    total: float = 0.0
    weight: float = 0.0
    at: float = 0.0

    def add(self, value: float, now: float, weight: float = 1.0) -> "Average":
        """The average with one more measurement. A clock that steps back decays nothing."""
        factor = self.factor(now)
        return Average(self.half_life, self.total * factor + value * weight, self.weight * factor + weight, now)

    def factor(self, now: float) -> float:
        """What is left at `now` of a weight of 1."""
        return float(0.5 ** (max(0.0, now - self.at) / self.half_life))

    def count(self, now: float) -> float:
        """How many measurements it stands for, old ones in part."""
        return self.weight * self.factor(now)

    @property
    def mean(self) -> float | None:
        """The average; None if nothing was ever measured. It holds while nothing is measured."""
        return self.total / self.weight if self.weight > 0 else None

    def faded(self, unmeasured: float, now: float) -> float | None:
        """The average, nearer to what is expected of an unmeasured model the longer nothing is measured; then None.

        One slow answer (a cold start) would otherwise keep everybody away who could find out that it was the only one.
        It fades a minute at a time, so that an idle model changes the table no more often.
        """
        left = float(0.5 ** (max(0.0, now - self.at) // 60.0 * 60.0 / FADING))
        if self.mean is None or left < LEAST_LEFT:
            return None
        return unmeasured + (self.mean - unmeasured) * left


class Blame(msgspec.Struct, frozen=True):
    """Whether a refusal counts in the model's error rate, and whether it counts for its circuit breaker."""

    rate: bool
    breaker: bool


_NONE, _RATE, _BOTH = Blame(False, False), Blame(True, False), Blame(True, True)

BLAME: Mapping[Reason, Blame] = {
    "invalid_request": _NONE,
    "context_too_long": _NONE,
    "content_policy": _NONE,
    "authentication": _RATE,
    "permission": _RATE,
    "not_found": _RATE,
    "rate_limited": _BOTH,
    "overloaded": _BOTH,
    "server_error": _BOTH,
    "timeout": _BOTH,
    "broken": _BOTH,
    "protocol": _BOTH,
}
"""Whose fault each reason is.

What the caller wrote is nobody's failure. A refused key or a model that is not there lowers the score, so that
`auto` turns away, but opens no breaker: only the operator can mend it, and each probe would cost a caller a
visible error, for these are not retried. A rate limit does open it: asking on would only prolong it.
"""


class Statistics(msgspec.Struct, frozen=True):
    """All that is measured of one model at one provider. attempts counts since the router began."""

    attempts: int = 0
    failures: Average = Average()
    first_output: Average = Average()
    tokens_per_second: Average = Average()
    output_tokens: Average = Average(OUTPUT_HALF_LIFE)
    used: float = 0.0
    first_outputs: Spread = Spread(SPREAD_HALF_LIFE)

    def after(self, outcome: Outcome, now: float) -> "Statistics":
        """The statistics with one more attempt. A cancelled one teaches only the times that it saw."""
        failures, output, speed = self.failures, self.output_tokens, self.tokens_per_second
        first, spread = self.first_output, self.first_outputs
        if not outcome.cancelled and (outcome.reason is None or BLAME[outcome.reason].rate):
            failures = failures.add(0.0 if outcome.reason is None else 1.0, now)
        if outcome.first_output is not None:
            first, spread = first.add(outcome.first_output, now), spread.add(outcome.first_output, now)
        if outcome.reason is None and not outcome.cancelled and outcome.output_tokens > 0:
            output = output.add(outcome.output_tokens, now)
            writing = outcome.seconds - (outcome.first_output or 0.0)
            if outcome.output_tokens > 1 and writing > 0.0:
                # By how long it wrote: all tokens over all seconds. A mean of rates would be that of the short answers.
                speed = speed.add((outcome.output_tokens - 1) / writing, now, writing)
        return Statistics(self.attempts + 1, failures, first, speed, output, now, spread)

    def forgiven(self) -> "Statistics":
        """Without its failures: the provider has shown that it is back."""
        return msgspec.structs.replace(self, failures=Average(self.failures.half_life))

    def error_rate(self, now: float) -> float:
        """Share of attempts that fail, between 0 and 1; it goes back to 0 while nothing is asked."""
        factor = self.failures.factor(now)
        return self.failures.total * factor / (self.failures.weight * factor + PRIOR_SUCCESSES)

    def performance(self, now: float, in_flight: int = 0) -> Performance:
        """The values for the table, rounded so that nothing is published for a change that nobody can use."""
        return Performance(
            in_flight=in_flight,
            attempts=self.attempts,
            error_rate=round(self.error_rate(now), 3),
            first_output=_rounded(self.first_output.faded(UNMEASURED_FIRST_OUTPUT, now), 4),
            slow_first_output=_rounded(self.first_outputs.quantile(0.95, LEAST_MEASUREMENTS, now), 3),
            tokens_per_second=_rounded(self.tokens_per_second.faded(UNMEASURED_SPEED, now), 1),
            output_tokens=_rounded(self.output_tokens.mean, 0),
        )


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
