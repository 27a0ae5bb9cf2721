"""Who is preferred: Bradley-Terry ratings with their uncertainty, updated comparison by comparison.

    P(a is preferred to b) = 1 / (1 + exp(-(rating_a - rating_b) / c))     c^2 = 2 BETA^2 + variance_a + variance_b

The update is the Bradley-Terry "full pair" rule of R. Weng and C.-J. Lin, "A Bayesian Approximation Method for Online
Ranking", JMLR 12 (2011), algorithm 1, for two players. Between comparisons the variance grows back towards that
of a newcomer, so that an old rating can be overturned.

Above it: `state`. Below it: msgspec. Outside it: clocks; `now` is an argument, in seconds.
"""

import math

import msgspec

BETA = 1.0
"""Standard deviation of one answer's performance: it makes a rating's unit about one logit."""

NEWCOMER = 2.0
"""Variance of the rating of a model that was never compared."""

FORGETTING = 30 * 86_400.0
"""Seconds in which a certain rating's variance grows back to a newcomer's."""

LEAST_SHRINKING = 1e-4
"""A comparison leaves at least this share of the variance (kappa of the paper)."""


class Rating(msgspec.Struct, frozen=True):
    """A model's strength at one task, as of `at`; a newcomer's is 0."""

    value: float = 0.0
    variance: float = NEWCOMER
    at: float = 0.0

    def aged(self, now: float) -> "Rating":
        """The rating at `now`: as strong, less certain."""
        elapsed = max(0.0, now - self.at)
        return Rating(self.value, min(NEWCOMER, self.variance + NEWCOMER * elapsed / FORGETTING), now)

    @property
    def certainty(self) -> float:
        """0 for a newcomer, towards 1 with many comparisons."""
        return 1.0 - self.variance / NEWCOMER


def expected(first: Rating, second: Rating) -> float:
    """The probability that `first` is preferred to `second`."""
    return 1.0 / (1.0 + math.exp(-(first.value - second.value) / _scale(first, second)))


def compared(first: Rating, second: Rating, result: float, now: float, weight: float = 1.0) -> tuple[Rating, Rating]:
    """Both ratings after a comparison: `result` is 1 if `first` was preferred, 0 if `second`, 0.5 for a tie."""
    first, second = first.aged(now), second.aged(now)
    scale, chance = _scale(first, second), expected(first, second)
    surprise = weight * (result - chance)
    return _moved(first, surprise, scale, chance, weight), _moved(second, -surprise, scale, chance, weight)


def _scale(first: Rating, second: Rating) -> float:
    return math.sqrt(2.0 * BETA * BETA + first.variance + second.variance)


def _moved(rating: Rating, surprise: float, scale: float, chance: float, weight: float) -> Rating:
    share = rating.variance / (scale * scale)
    gamma = math.sqrt(rating.variance) / scale
    shrinking = max(LEAST_SHRINKING, 1.0 - weight * gamma * share * chance * (1.0 - chance))
    return Rating(rating.value + rating.variance / scale * surprise, rating.variance * shrinking, rating.at)
