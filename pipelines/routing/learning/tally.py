"""How often a model did well at a task: a Beta posterior whose past fades, and intervals.

    quality ~ Beta(PRIOR * q + good, PRIOR * (1 - q) + bad)        q: what was expected beforehand

Conjugate updating with fractional outcomes; `good` and `bad` halve every HALF_LIFE (`statistics.Average` decays so
too). The interval is Wilson's score interval (E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical
Inference", JASA 1927) of the posterior mean over the effective number of observations, prior included.

Above it: `state`. Below it: msgspec. Outside it: clocks; `now` is an argument, in seconds.
"""

import math
from collections.abc import Callable

import msgspec

HALF_LIFE = 14 * 86_400.0
"""Seconds after which an observation counts half."""

PRIOR = 4.0
"""Observations that the prior expectation is worth."""

NOTHING = 1e-9
"""Observations that are as good as none."""

NORMAL_95 = 1.96
"""Standard deviations on either side that hold 95 % of a normal distribution."""


class Interval(msgspec.Struct, frozen=True):
    """A share with its 95 % interval, and how many observations it rests on."""

    share: float
    low: float
    high: float
    count: float


class Tally(msgspec.Struct, frozen=True):
    """Weights of what went well and what went badly, as of `at`."""

    good: float = 0.0
    bad: float = 0.0
    at: float = 0.0

    def add(self, value: float, weight: float, now: float) -> "Tally":
        """With one more observation of `value` in [0, 1]. A clock that steps back fades nothing."""
        factor = self.factor(now)
        return Tally(self.good * factor + weight * value, self.bad * factor + weight * (1.0 - value), now)

    def factor(self, now: float) -> float:
        """What is left at `now` of a weight of 1."""
        return float(0.5 ** (max(0.0, now - self.at) / HALF_LIFE))

    def scaled(self, factor: float) -> "Tally":
        """With everything counting only `factor` as much."""
        return Tally(self.good * factor, self.bad * factor, self.at)

    def count(self, now: float) -> float:
        """How many observations it stands for at `now`, old ones in part."""
        return sum(self.faded(now))

    def faded(self, now: float) -> tuple[float, float]:
        """What is left at `now` of both weights."""
        factor = self.factor(now)
        return self.good * factor, self.bad * factor

    def beta(self, prior: float, now: float) -> tuple[float, float]:
        """The parameters of the posterior; `prior` is the expectation without evidence."""
        good, bad = self.faded(now)
        return PRIOR * prior + good, PRIOR * (1.0 - prior) + bad

    def interval(self, prior: float, now: float) -> Interval:
        """The posterior's mean and its interval."""
        good, bad = self.beta(prior, now)
        return wilson(good, good + bad)

    def draw(self, prior: float, now: float, betavariate: Callable[[float, float], float]) -> float:
        """One draw from the posterior; betavariate is that of `random.Random`."""
        good, bad = self.beta(prior, now)
        return betavariate(max(good, 1e-3), max(bad, 1e-3))


def wilson(good: float, count: float, deviations: float = NORMAL_95) -> Interval:
    """Wilson's interval of `good` out of `count`; everything is possible where nothing was seen, or what is faded."""
    if count <= NOTHING:
        return Interval(0.5, 0.0, 1.0, 0.0)
    share, square = good / count, deviations * deviations
    centre = (share + square / (2.0 * count)) / (1.0 + square / count)
    half = deviations / (1.0 + square / count) * math.sqrt(share * (1.0 - share) / count + square / (4.0 * count**2))
    return Interval(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)), count)
