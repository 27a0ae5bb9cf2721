"""What a candidate is worth for one request, with the quality that was learned for its kind of request.

    score       = quality + cost + time + exploration           each of them a term:
    quality     = s * w_quality * Q      Q = the expected quality of its answer to this request (`learning.view`)
    cost        = s * w_cost    * C      C = COST_SCALE / (COST_SCALE + dollars); 0.5 where a price is unknown
    time        = s * w_time    * T      T = TIME_SCALE / (TIME_SCALE + seconds)
    exploration = s * w_quality * (D - Q)    D = a draw from what Q may be; only for a request that explores

s, dollars, seconds and the weights of each policy are those of `scoring`, of which this is the form with learned
quality. The terms are added, not multiplied: what a point of quality may cost is then the same for every
candidate, and the explanation adds up. Without exploration all terms and the score lie between 0 and 1; with it the
score does, and the last term may be negative.

A bound is no weight: a candidate beyond one comes after all that keep it, whatever its score (`beyond`).

Above it: `choose`. Below it: `scoring`, `table`, `ask`. Outside it: how Q and D are learned.
"""

from typing import NamedTuple

import msgspec

from pipelines.routing.ask import Ask
from pipelines.routing.scoring import COST_SCALE, TIME_SCALE, WEIGHTS, expected_cost, expected_output, expected_seconds
from pipelines.routing.table import ModelCard, Performance

_UNMEASURED = Performance()


class Bounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a request or key demands: US dollars, seconds, expected quality (0 to 1). None: no bound."""

    max_cost: float | None = None
    max_latency: float | None = None
    min_quality: float | None = None


NO_BOUNDS = Bounds()


class Worth(NamedTuple):
    """One candidate's terms, which add up to `score`, and what they were made of; dollars is None where unknown."""

    score: float
    terms: dict[str, float]
    quality: float
    dollars: float | None
    seconds: float


def worth(
    card: ModelCard,
    performance: Performance | None,
    ask: Ask,
    queue: float,
    quality: float,
    drawn: float | None = None,
    *,
    probe: bool = False,
) -> Worth:
    """What the candidate is worth. quality: expected for this request; drawn: the draw where it explores.

    queue is as `scoring.waiting` gives it; a probe is scored as though nothing had failed.
    """
    performance = performance or _UNMEASURED
    weights = WEIGHTS[ask.policy]
    success = 1.0 if probe else 1.0 - performance.error_rate
    output = expected_output(ask, performance)
    dollars = expected_cost(card, ask.prompt_tokens, output)
    seconds = expected_seconds(performance, output, queue)
    cheapness = 0.5 if dollars is None else COST_SCALE / (COST_SCALE + dollars)
    terms = {
        "quality": success * weights.quality * quality,
        "cost": success * weights.cost * cheapness,
        "time": success * weights.time * TIME_SCALE / (TIME_SCALE + seconds),
    }
    score = terms["quality"] + terms["cost"] + terms["time"]
    if drawn is not None:
        terms["exploration"] = success * weights.quality * (drawn - quality)
        score += terms["exploration"]
    return Worth(score, terms, quality, dollars, seconds)


def beyond(one: Worth, bounds: Bounds) -> str | None:
    """Which bound the candidate does not keep, in words; None if it keeps all. An unknown price keeps no `max_cost`."""
    if bounds.max_cost is not None and (one.dollars is None or one.dollars > bounds.max_cost):
        said = "an unknown amount" if one.dollars is None else f"${one.dollars:.6f}"
        return f"costs {said}, more than the bound of ${bounds.max_cost:g}"
    if bounds.max_latency is not None and one.seconds > bounds.max_latency:
        return f"takes {one.seconds:.1f} s, more than the bound of {bounds.max_latency:g} s"
    if bounds.min_quality is not None and one.quality < bounds.min_quality:
        return f"has an expected quality of {one.quality:.2f}, less than the bound of {bounds.min_quality:g}"
    return None
