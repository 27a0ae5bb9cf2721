"""APGR and CPT, as RouteLLM defines them (arXiv 2406.18665, section 3), with bootstrap intervals.

    PGR(c)  = (quality with a share c of the calls to the strong model - weak quality) / (strong - weak quality)
    APGR    = the area under PGR over c from 0 to 1
    CPT(x)  = the least share of calls to the strong model with which PGR is x
    lift    = quality with half of the calls to the strong model - weak quality

The calls that go to the strong model are those with the highest scores. Equal scores go in no order: the curve is
straight there. The area is exact, over every threshold; RouteLLM's code has ten, which differs by about 0.002.
Where the strong model is no better than the weak one there is no gap to recover: only the lift is a number then.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy
from numpy.typing import NDArray

from bench.routing.outcomes import Floats

RESAMPLES = 400


class Figures(NamedTuple):
    """APGR, CPT(50 %), CPT(80 %), and the lift. The first three are NaN without a gap."""

    apgr: float
    half: float
    most: float
    lift: float


class Estimate(NamedTuple):
    """Figures with the ends of their 95 % intervals."""

    value: Figures
    low: Figures
    high: Figures


def figures(scores: Floats, gains: Floats, weights: Floats | None = None) -> Figures:
    """The figures of a router. gains: strong less weak quality by question; weights: how often each counts."""
    _, group = numpy.unique(-scores, return_inverse=True)
    return _figures(group, gains, numpy.ones(len(scores)) if weights is None else weights)


def estimate(runs: Sequence[Floats], gains: Floats, seed: int = 1) -> Estimate:
    """The mean figures of several runs' scores, with percentile intervals of the bootstrap (B. Efron, 1979).

    Questions are drawn anew for each resample, and runs in turn, so that the interval holds what either brings about.
    """
    groups = [numpy.unique(-scores, return_inverse=True)[1] for scores in runs]
    generator, count = numpy.random.default_rng(seed), len(gains)
    samples = []
    for index in range(RESAMPLES):
        drawn = numpy.bincount(generator.integers(0, count, count), minlength=count).astype(float)
        samples.append(_figures(groups[index % len(groups)], gains, drawn))
    value = numpy.mean([_figures(group, gains, numpy.ones(count)) for group in groups], axis=0)
    ends = [_interval(numpy.array(column), one) for column, one in zip(zip(*samples, strict=True), value, strict=True)]
    low, high = zip(*ends, strict=True)
    return Estimate(Figures(*value.tolist()), Figures(*low), Figures(*high))


def _interval(samples: Floats, value: float) -> tuple[float, float]:
    """Of one figure. Resamples of few questions may have no gap where all of them have one: those say nothing."""
    known = samples[~numpy.isnan(samples)]
    if numpy.isnan(value) or not len(known):
        return numpy.nan, numpy.nan
    low, high = numpy.percentile(known, [2.5, 97.5]).tolist()
    return low, high


def _figures(group: NDArray[numpy.intp], gains: Floats, weights: Floats) -> Figures:
    """group: the rank of each question's score, best first."""
    calls = numpy.bincount(group, weights)
    steps = numpy.bincount(group, weights * gains)
    gap = steps.sum()
    share = numpy.concatenate([[0.0], numpy.cumsum(calls)]) / calls.sum()
    gained = numpy.concatenate([[0.0], numpy.cumsum(steps)])
    lift = float(numpy.interp(0.5, share, gained) / calls.sum())
    if gap <= 0:
        return Figures(numpy.nan, numpy.nan, numpy.nan, lift)
    recovered = gained / gap
    area = float(numpy.sum(numpy.diff(share) * (recovered[1:] + recovered[:-1]) / 2.0))
    return Figures(area, _reached(share, recovered, 0.5), _reached(share, recovered, 0.8), lift)


def _reached(share: Floats, recovered: Floats, level: float) -> float:
    """The least share at which `level` is recovered, between two thresholds in proportion."""
    index = int(numpy.argmax(recovered >= level))
    before, after = recovered[index - 1], recovered[index]
    return float(share[index - 1] + (share[index] - share[index - 1]) * (level - before) / (after - before))
