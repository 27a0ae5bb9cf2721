"""What happened, as numbers in a meter: a request's row, an attempt's outcome, a tool's run.

The series of one kind of request are looked up once and kept together, so that a request costs some twenty additions.

Above it: `deployments.money.books`, the replicas. Below it: `meter`, `instruments`, `pipelines.ledger`'s rows.
Outside it: clocks.
"""

from collections.abc import Callable
from typing import NamedTuple

from pipelines.calls import Call
from pipelines.ledger import RequestRow
from pipelines.metering import instruments
from pipelines.metering.meter import Counter, Histogram, Meter
from pipelines.routing.table import Bill, Outcome

Listed = Callable[[str, str], bool]
"""Whether a model is listed at a provider: others are unbounded, and share one label."""

OTHER, NONE = "other", "none"

MOST_WORDS = 64
"""Different outcomes, and different tools, that have labels of their own."""

LOOKING_AGAIN = 1000
"""Requests and attempts after which it is looked up anew whether models are listed."""

OPERATIONS = {
    "": "chat",
    "/completions": "text_completion",
    "/embeddings": "embeddings",
    "/messages/count_tokens": "count_tokens",
}
"""Our operations in the words of OpenTelemetry's conventions, where they have one."""

_KINDS = ("input", "cached_read", "cache_write", "output", "reasoning")


class _Requests(NamedTuple):
    """The series of one kind of request."""

    ended: Counter
    seconds: Histogram
    first: Histogram | None
    queued: Histogram
    overhead: Histogram


class _Attempts(NamedTuple):
    """The series of one kind of attempt."""

    ended: Counter
    seconds: Histogram
    each: Histogram | None
    retries: Counter
    tokens: tuple[Counter, ...]
    cost: Counter
    unknown: Counter
    usage: tuple[Histogram, Histogram]


class Recorder:
    """Counts into `meter`."""

    def __init__(self, meter: Meter, listed: Listed) -> None:
        self._meter = meter
        self._listed = listed
        self._requests: dict[tuple[str, ...], _Requests] = {}
        self._attempts: dict[tuple[str, ...], _Attempts] = {}
        self._words: dict[str, set[str]] = {}
        self._labels: dict[tuple[str, str], str] = {}
        self._looked = 0
        self.ledger_wait = meter.histogram(instruments.LEDGER_WAIT)
        self.decision = meter.histogram(instruments.DECISION)

    def request(self, row: RequestRow, overhead: float | None = None) -> None:
        """A request has ended. overhead: seconds that were ours, where that is known."""
        label = self._label(row.provider, row.model)
        operation = OPERATIONS.get(row.operation, OTHER)
        key = (row.lane, row.dialect, operation, row.provider, label, self._bounded("outcome", row.outcome))
        series = self._requests.get(key)
        if series is None:
            series = self._requests[key] = self._request_series(*key)
        series.ended.value += 1
        series.seconds.observe(row.seconds)
        series.queued.observe(row.queued)
        if series.first is not None and row.first_output is not None:
            series.first.observe(row.first_output)
        if overhead is not None:
            series.overhead.observe(overhead)

    def refused(self, reason: str) -> None:
        """A request was refused before it was understood."""
        self._meter.counter(instruments.REFUSED, self._bounded("reason", reason)).value += 1

    def attempt(self, call: Call, outcome: Outcome) -> None:
        """An attempt at a provider has ended."""
        result = "cancelled" if outcome.cancelled else outcome.reason or "ok"
        label = self._label(outcome.provider, outcome.model)
        key = (outcome.provider, label, call.account.role, result, OPERATIONS.get(call.operation, OTHER))
        series = self._attempts.get(key)
        if series is None:
            series = self._attempts[key] = self._attempt_series(*key)
        series.ended.value += 1
        series.seconds.observe(outcome.seconds)
        series.retries.value += outcome.tries - 1
        if series.each is not None and outcome.first_output is not None and outcome.pieces > 1:
            series.each.observe((outcome.seconds - outcome.first_output) / (outcome.pieces - 1))
        if outcome.bill is not None:
            _charge(series, outcome.bill)

    def tool(self, name: str, seconds: float, error: str = "") -> None:
        """A tool was run. name: of one that is registered; error: one word for why it failed, "" if it did not."""
        labels = self._bounded("tool", name), self._bounded("error", error)
        self._meter.histogram(instruments.TOOL_DURATION, *labels).observe(seconds)

    def lost_replica(self, provider: str) -> None:
        """A provider's replica was lost under a call."""
        self._meter.counter(instruments.LOST_REPLICAS, provider).value += 1

    def _request_series(
        self, lane: str, dialect: str, operation: str, provider: str, model: str, outcome: str
    ) -> _Requests:
        meter = self._meter
        provider = provider or NONE
        about = (operation, provider, model)
        return _Requests(
            meter.counter(instruments.REQUESTS, lane, dialect or OTHER, provider, model, outcome),
            meter.histogram(instruments.REQUEST_DURATION, *about, _error(outcome)),
            meter.histogram(instruments.FIRST_TOKEN, *about) if outcome == "ok" else None,
            meter.histogram(instruments.QUEUE_WAIT, lane),
            meter.histogram(instruments.OVERHEAD, lane),
        )

    def _attempt_series(self, provider: str, model: str, role: str, result: str, operation: str) -> _Attempts:
        meter = self._meter
        named = (provider, model)
        about = (operation, *named)
        return _Attempts(
            meter.counter(instruments.ATTEMPTS, *named, role, result),
            meter.histogram(instruments.OPERATION_DURATION, *about, _error(result)),
            meter.histogram(instruments.EACH_TOKEN, *about) if result == "ok" else None,
            meter.counter(instruments.RETRIES, *named),
            tuple(meter.counter(instruments.TOKENS, *named, kind) for kind in _KINDS),
            meter.counter(instruments.COST, *named),
            meter.counter(instruments.UNKNOWN_COST, *named),
            (
                meter.histogram(instruments.TOKEN_USAGE, *about, "input"),
                meter.histogram(instruments.TOKEN_USAGE, *about, "output"),
            ),
        )

    def _label(self, provider: str, model: str) -> str:
        """The model, if it is listed. That is looked up again now and then, for lists change."""
        if not model:
            return NONE
        self._looked += 1
        if self._looked >= LOOKING_AGAIN or len(self._labels) >= LOOKING_AGAIN:
            self._looked = 0
            self._labels.clear()
        label = self._labels.get((provider, model))
        if label is None:
            label = self._labels[provider, model] = model if self._listed(provider, model) else OTHER
        return label

    def _bounded(self, what: str, word: str) -> str:
        """The word, unless there are too many different ones already."""
        known = self._words.setdefault(what, set())
        if word not in known:
            if len(known) >= MOST_WORDS:
                return OTHER
            known.add(word)
        return word


def _charge(series: _Attempts, bill: Bill) -> None:
    """What it used, and what that costs."""
    for counter, tokens in zip(
        series.tokens, (bill.input, bill.cached_read, bill.cache_write, bill.output, bill.reasoning), strict=True
    ):
        counter.value += tokens
    if bill.cost is None:
        series.unknown.value += 1
    else:
        series.cost.value += bill.cost
    if bill.input or bill.output:
        series.usage[0].observe(bill.input)
        series.usage[1].observe(bill.output)


def _error(result: str) -> str:
    """`error.type` of the conventions: absent where it went well, which Prometheus writes as an empty label."""
    return "" if result == "ok" else result
