"""The circuit breaker of one model at one provider, as a table.

    closed     requests pass; failures in a row and the recent failure rate are watched
    open       requests go elsewhere, for a time that doubles with every opening
    half-open  one request at a time finds out whether the provider is back

| stimulus | closed | open | half-open |
|---|---|---|---|
| success | counted | half-open: it was asked as the last candidate, and answered | closed |
| begun   | nothing | as a success | closed, but the next failure in a row opens it again |
| failure | counted; open if it trips | nothing: known already | open, for longer |
| time    | nothing | half-open once its time is over | nothing |

Sources: M. Nygard, "Release It!" (the pattern); Envoy's outlier detection (`consecutive_5xx` of 5, an ejection
time that grows with each ejection up to a maximum); gRPC A50 (a failure percentage counts from a minimum number
of requests). `choose` does Envoy's `max_ejection_percent`: the last candidate is asked whatever its breaker says.

What is a failure is said by `statistics.BLAME`; an attempt without blame is no stimulus at all, nor is one that
began before the breaker opened: it says nothing of how the provider is since.

Above it: `state`. Below it: `statistics`, `table`. Outside it: clocks (`now` is an argument, in seconds) and who
may probe (`choose`).
"""

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from pipelines.routing.statistics import BLAME, Average
from pipelines.routing.table import BreakerState, Outcome

Stimulus = Literal["success", "begun", "failure", "time"]
"""begun: of a stream that goes on, and may break yet, in the middle of a caller's answer."""

FAILURES_IN_A_ROW = 5
"""As many open it."""

FAILURE_RATE = 0.5
"""This share of recent attempts opens it too."""

MINIMUM_ATTEMPTS = 10.0
"""Recent attempts below which no rate is taken."""

WINDOW = 10.0
"""Half-life in seconds of what is recent."""

OPEN_SECONDS = 0.5
"""How long the first opening lasts; each further one lasts twice as long."""

REPORT_DELAY = OPEN_SECONDS
"""Seconds that an outcome may be under way to here. Probes begin later than that after an opening."""

LONGEST_OPEN_SECONDS = 4.0
"""The longest opening: with reports, publication and the probe itself, recovery is noticed within 5 s."""

HEALTHY_SECONDS = 30.0
"""After so long without an opening the next one is a first one again."""


class Breaker(msgspec.Struct, frozen=True):
    """The state of one breaker.

    failures: in a row; recent: 1 for a failure and 0 for a success; opened: when it last did; open_until: when an
    open one may be probed; openings: how often it opened of late.
    """

    state: BreakerState = "closed"
    failures: int = 0
    recent: Average = Average(WINDOW)
    opened: float = 0.0
    open_until: float = 0.0
    openings: int = 0


def stimulus(breaker: Breaker, outcome: Outcome, now: float) -> Stimulus | None:
    """What an attempt that was reported at `now` means to the breaker; None: nothing.

    It ended up to REPORT_DELAY before it was heard of, so it began at the latest `outcome.seconds` ago.
    """
    if outcome.cancelled:
        return None
    if breaker.state != "closed" and now - outcome.seconds - REPORT_DELAY < breaker.opened:
        return None
    if outcome.reason is None:
        return "begun" if outcome.begun else "success"
    return "failure" if BLAME[outcome.reason].breaker else None


def step(breaker: Breaker, event: Stimulus, now: float) -> Breaker:
    """The breaker after `event`: the table of this module."""
    action = TRANSITIONS.get((breaker.state, event))
    return action(breaker, now) if action else breaker


def _opened(breaker: Breaker, now: float) -> Breaker:
    healthy = now - breaker.open_until > HEALTHY_SECONDS
    openings = 1 if healthy else breaker.openings + 1
    seconds = min(LONGEST_OPEN_SECONDS, OPEN_SECONDS * 2.0 ** min(openings - 1, 10))
    return Breaker("open", 0, Average(WINDOW), now, now + seconds, openings)


def _half_opened(breaker: Breaker, now: float) -> Breaker:
    return msgspec.structs.replace(breaker, state="half_open")


def _closed(breaker: Breaker, now: float) -> Breaker:
    return msgspec.structs.replace(breaker, state="closed", failures=0, recent=Average(WINDOW))


def _closed_on_trial(breaker: Breaker, now: float) -> Breaker:
    return msgspec.structs.replace(_closed(breaker, now), failures=FAILURES_IN_A_ROW - 1)


def _count_success(breaker: Breaker, now: float) -> Breaker:
    return msgspec.structs.replace(breaker, failures=0, recent=breaker.recent.add(0.0, now))


def _count_failure(breaker: Breaker, now: float) -> Breaker:
    failures, recent = breaker.failures + 1, breaker.recent.add(1.0, now)
    rate = recent.mean or 0.0
    if failures >= FAILURES_IN_A_ROW or (recent.weight >= MINIMUM_ATTEMPTS and rate >= FAILURE_RATE):
        return _opened(breaker, now)
    return msgspec.structs.replace(breaker, failures=failures, recent=recent)


def _half_open_in_time(breaker: Breaker, now: float) -> Breaker:
    return _half_opened(breaker, now) if now >= breaker.open_until else breaker


TRANSITIONS: Mapping[tuple[BreakerState, Stimulus], Callable[[Breaker, float], Breaker]] = {
    ("closed", "success"): _count_success,
    ("closed", "failure"): _count_failure,
    ("open", "success"): _half_opened,
    ("open", "begun"): _half_opened,
    ("open", "time"): _half_open_in_time,
    ("half_open", "success"): _closed,
    ("half_open", "begun"): _closed_on_trial,
    ("half_open", "failure"): _opened,
}
"""The table of this module; a pair that is not in it changes nothing."""
