"""How measurements are spread: a histogram in which old measurements count less and less, and its quantiles.

Buckets grow by a constant factor, so that a quantile is wrong by at most that factor, whatever the scale, and
counts decay as in `statistics.Average`. Source: the log-linear histograms of Prometheus' native histograms and of
DDSketch (C. Masson et al., "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees",
VLDB 2019), with a fixed range.

Above it: `statistics`. Below it: msgspec. Outside it: clocks; `now` is an argument, in seconds.
"""

import math

import msgspec

LEAST = 0.001
"""Seconds of the upper bound of the first bucket."""

GROWTH = 1.2
"""Each further bound is so many times the one before."""

BUCKETS = 76
"""Up to 900 seconds; what is longer counts in the last."""


class Spread(msgspec.Struct, frozen=True):
    """Decaying counts of positive measurements. `counts` is as of `at` and shorter than BUCKETS where the rest is 0."""

    half_life: float
    counts: tuple[float, ...] = ()
    at: float = 0.0

    def add(self, value: float, now: float) -> "Spread":
        """The spread with one more measurement. A clock that steps back decays nothing."""
        factor = 0.5 ** (max(0.0, now - self.at) / self.half_life)
        place = _bucket(value)
        counts = [count * factor for count in self.counts]
        counts += [0.0] * (place + 1 - len(counts))
        counts[place] += 1.0
        return Spread(self.half_life, tuple(counts), now)

    def quantile(self, share: float, least: float, now: float) -> float | None:
        """The value that `share` of the measurements do not exceed; None where fewer than `least` count still."""
        factor = 0.5 ** (max(0.0, now - self.at) / self.half_life)
        total = sum(self.counts)
        if total * factor < least:
            return None
        below = 0.0
        for place, count in enumerate(self.counts):
            if count and below + count >= share * total:
                lower, upper = LEAST * GROWTH ** (place - 1), LEAST * GROWTH**place
                return lower + (upper - lower) * max(0.0, share * total - below) / count
            below += count
        return LEAST * GROWTH ** (len(self.counts) - 1)


def _bucket(value: float) -> int:
    if value <= LEAST:
        return 0
    return min(BUCKETS - 1, math.ceil(math.log(value / LEAST, GROWTH) - 1e-9))
