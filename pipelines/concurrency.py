"""How many calls a provider bears at once, as its time to the first output tells, and when to come back if it is full.

`AdaptiveLimit` follows two published rules:
- the gradient: usual time, times a tolerance, over present time. Below 1 the limit shrinks in proportion, else it
  grows by its square root. Netflix's `concurrency-limits` (`Gradient2Limit`: the usual time is a long average, a
  tolerance of 1.5, a gradient of one half at least, no growth while less than half is in use) and Envoy's adaptive
  concurrency filter (`gradient_controller`: the present time is that of a window of samples);
- multiplicative decrease on a refusal: D. Chiu, R. Jain, "Analysis of the Increase and Decrease Algorithms for
  Congestion Avoidance in Computer Networks", 1989; once a round, as TCP does (RFC 5681).

The time to the first output is compared, never the time of the whole answer: that one depends on the answer's length.
It depends on the model and on the prompt's length, so what is usual is known by model and by class of length. Within a
class lengths differ twice at the most, and a time that is proportional to length stays within 1.42 times the class's
geometric mean: hence the tolerance. A provider whose time grows with the calls beyond its capacity is so given between
its capacity and about twice as many calls.

What is usual must not be learned from the overload itself: it is learned while answers are not slow and the limit is
either whole or less than half in use, a window at a time, after the verdict on it. At the floor there is nothing left
to shrink: what is measured there is the provider's own speed, and from then on the usual one. A provider that was
overloaded from the first call on seems usual until fewer calls show what it can do; its refusals are heeded from the
start.

Above it: `deployments.load.pressure`, `deployments.load.limiter`. Below it: nothing. Outside it: clocks; `now` is an
argument, in seconds of any clock that does not step back.
"""

import math
from collections import defaultdict, deque
from collections.abc import Iterable
from itertools import chain
from statistics import fmean, pstdev

TOLERANCE = 1.5
"""Times the usual time to the first output that are still no sign of overload."""

SLACK = 0.25
"""Seconds added to both times before they are compared: a provider that answers at once is not slow after 10 ms."""

LEAST_GRADIENT = 0.5
"""What one window may leave of the limit, at least."""

BACKOFF = 0.8
"""What a refusal leaves of the limit."""

PAUSE = 1.0
"""Seconds between two such decreases, at least: refusals come in swarms."""

WINDOW = 20
"""Answers after which the limit is looked at, at least; else half as many as there are calls in flight."""

CONFIDENCE = 2.0
"""Standard errors by which a window's mean must be slow: prompts that are cached are answered ten times as fast."""

ROUND = 2.0
"""Times to the first output, at present, after a change, until which answers say nothing of it. All that come from then
on count: to take those that began after the change would be to take the quickest."""

LEAST_SAMPLES = 5
"""Times of one model in a window that say something of their own."""

FEWEST = 50
"""Times that a usual time is made of before anything is compared with it, at least; else as many as there were calls
in flight at the first one: of calls that began together the quickest come first."""

MEMORY = 200
"""Times that a usual time remembers."""

MOST_KINDS = 500
"""Usual times that are kept; beyond it the one that came first is forgotten."""

_SHORT_PROMPT = 2047
"""Characters up to which the prompt's length does not show in the time to the first output."""


class _Usual:
    """The usual time of one kind of call: the mean of log(seconds + SLACK) over `count` times; known from `fewest`."""

    def __init__(self, model: str, in_flight: int) -> None:
        self.model = model
        self.fewest = max(FEWEST, in_flight)
        self.mean = 0.0
        self.count = 0

    def learn(self, value: float, memory: int) -> None:
        self.count += 1
        self.mean += (value - self.mean) / min(self.count, memory)


class AdaptiveLimit:
    """A limit between `least` and `most` calls at once; it begins at `most`."""

    def __init__(self, least: int, most: int) -> None:
        self._least = float(min(least, most))
        self._most = float(most)
        self._limit = self._most
        self._usual: dict[tuple[str, int], _Usual] = {}
        self._present = 0.0
        self._eased = -math.inf
        self._since = -math.inf
        self._count = 0
        self._busiest = 0
        self._seconds: list[float] = []
        self._times: list[tuple[_Usual, float]] = []

    @property
    def limit(self) -> int:
        """Calls at once, now."""
        return int(self._limit)

    def answered(self, model: str, prompt: int, first_output: float | None, *, now: float, in_flight: int) -> None:
        """A call was answered, as its first output tells or, where there is none of its own, its end.

        prompt: characters of its prompt; first_output: seconds, None for an answer that came whole; in_flight: calls
        now, this one included.
        """
        if now < self._since:
            return
        self._count += 1
        self._busiest = max(self._busiest, in_flight)
        if first_output is not None:
            seconds = max(first_output, 0.0)
            self._seconds.append(seconds)
            self._compare(self._kind(model, prompt, in_flight), math.log(seconds + SLACK))
        if self._count >= max(WINDOW, self._busiest // 2):
            self._adjust(now)

    def refused(self, *, began: float, now: float) -> None:
        """A call that began at `began` failed for overload. One from before the last decrease is no news."""
        if began < self._eased or now - self._eased < PAUSE:
            return
        self._limit = max(self._least, self._limit * BACKOFF)
        self._eased = now
        self._since = now + ROUND * self._present
        self._renew()

    def _renew(self) -> None:
        self._count = self._busiest = 0
        self._seconds, self._times = [], []

    def _adjust(self, now: float) -> None:
        before = self._limit
        in_use = self._busiest * 2 >= before
        slowness = math.exp(_least_slow(self._times))
        if slowness <= TOLERANCE and in_use:
            self._limit = min(self._most, before + math.sqrt(before))
        elif slowness > TOLERANCE:
            self._limit = max(self._least, before * max(LEAST_GRADIENT, TOLERANCE / slowness))
        if slowness <= TOLERANCE and (before >= self._most or not in_use):
            self._learn()
        elif slowness > TOLERANCE and before <= self._least:
            self._learn(anew=True)
        self._present = fmean(self._seconds or [0.0])
        if self._limit != before:
            self._since = now + ROUND * self._present
        self._renew()

    def _learn(self, *, anew: bool = False) -> None:
        """Take the window's times as usual: as a tenth of what is usual at the most, or anew as all of it."""
        memory = max(MEMORY, 10 * len(self._times))
        if anew:
            for usual, _ in self._times:
                usual.count, usual.fewest = 0, FEWEST
        for usual, value in self._times:
            usual.learn(value, memory)

    def _compare(self, usual: _Usual, value: float) -> None:
        if usual.count < usual.fewest:
            usual.learn(value, MEMORY)
        else:
            self._times.append((usual, value))

    def _kind(self, model: str, prompt: int, in_flight: int) -> _Usual:
        kind = (model, max(prompt, _SHORT_PROMPT).bit_length())
        if kind not in self._usual:
            if len(self._usual) >= MOST_KINDS:
                del self._usual[next(iter(self._usual))]
            self._usual[kind] = _Usual(model, in_flight)
        return self._usual[kind]


def _least_slow(times: Iterable[tuple[_Usual, float]]) -> float:
    """The logarithm of the slowness of the model that is least slow, less what chance explains.

    One slow model is that model's affair and not the provider's. Models with too few times count together where there
    is no other.
    """
    ratios: defaultdict[str, list[float]] = defaultdict(list)
    for usual, value in times:
        ratios[usual.model].append(value - usual.mean)
    telling = [_at_least(some) for some in ratios.values() if len(some) >= LEAST_SAMPLES]
    return min(telling, default=_at_least([*chain(*ratios.values())]))


def _at_least(ratios: list[float]) -> float:
    """The mean, less CONFIDENCE standard errors of it."""
    if not ratios:
        return 0.0
    return fmean(ratios) - CONFIDENCE * pstdev(ratios) / math.sqrt(len(ratios))


SHORTEST_WAIT = 1.0
"""Seconds of a `Retry-After`, at least."""

LONGEST_WAIT = 30.0
"""Seconds of a `Retry-After`, at most."""


class Pace:
    """How fast places come free while all are taken, and so when somebody who is refused should come back.

    By Little's law: those ahead, times the mean interval between the last places that came free.
    """

    def __init__(self) -> None:
        self._freed: deque[float] = deque(maxlen=32)

    def filled(self, now: float) -> None:
        """The last free place was taken: what was before says nothing of now."""
        self._freed.clear()
        self._freed.append(now)

    def freed(self, now: float) -> None:
        """A place came free."""
        self._freed.append(now)

    def wait(self, ahead: int, now: float) -> float:
        """Seconds until a place may be had with so many `ahead`, between SHORTEST_WAIT and LONGEST_WAIT."""
        interval = (now - self._freed[0]) / len(self._freed) if self._freed else 0.0
        return min(LONGEST_WAIT, max(SHORTEST_WAIT, interval * (ahead + 1)))
