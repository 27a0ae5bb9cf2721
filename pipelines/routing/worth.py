"""What a candidate is worth for one request: a documented formula whose terms add up.

    score       = quality + cost + time + exploration           each of them a term:
    quality     = s * w_quality * Q      Q = the expected quality of its answer to this request (`learning.view`)
    cost        = s * w_cost    * C      C = COST_SCALE / (COST_SCALE + dollars); 0.5 where a price is unknown
    time        = s * w_time    * T      T = TIME_SCALE / (TIME_SCALE + seconds)
    exploration = s * w_quality * (D - Q)    D = a draw from what Q may be; only for a request that explores

s is the expected share of attempts that succeed (1 - error rate): no value counts unless the attempt succeeds. The
weights of each policy add up to 1. The terms are added, not multiplied: what a point of quality may cost is then the
same for every candidate, and the explanation adds up. Without exploration all terms and the score lie between 0 and
1; with it the score does, and the last term may be negative.

    dollars = (prompt tokens * input price + output tokens * output price) / 1,000,000
    seconds = (first output + output tokens / tokens per second) * (1 + waiting)

waiting is what already waits at the least loaded replica, in units of its concurrency limit: who comes behind one
full limit of others waits about one service time (Little's law: waiting = queue length / throughput).

A bound is no weight: a candidate beyond one comes after all that keep it, whatever its score (`beyond`).

Above it: `choose`, `market`. Below it: `table`, `ask`. Outside it: how Q and D are learned; who may be one at all.
"""

from typing import NamedTuple

import msgspec

from pipelines.routing.ask import Ask, Bounds, Candidate, Policy
from pipelines.routing.table import ModelCard, Performance, ProviderEntry


class Weights(NamedTuple):
    """What counts how much; they add up to 1."""

    quality: float
    cost: float
    time: float


WEIGHTS: dict[Policy, Weights] = {
    "quality": Weights(0.8, 0.1, 0.1),
    "balanced": Weights(0.4, 0.3, 0.3),
    "cheap": Weights(0.2, 0.7, 0.1),
    "fast": Weights(0.2, 0.1, 0.7),
}

COST_SCALE = 0.01
"""US dollars of a request that is worth half of one that costs nothing."""

TIME_SCALE = 10.0
"""Seconds of an answer that is worth half of one that takes no time."""

UNMEASURED_FIRST_OUTPUT = 1.0
"""Seconds to the first output of a model that was never measured."""

UNMEASURED_SPEED = 50.0
"""Tokens a second of a model that was never measured."""

UNMEASURED_OUTPUT = 300.0
"""Tokens of an answer of a model that was never measured."""

SLOWEST = 1e-3
"""Tokens a second that count as slow as can be."""

_UNMEASURED = Performance()


def waiting(entry: ProviderEntry) -> float:
    """How much waits at the provider's least loaded replica, in units of its limit (0: somebody is free)."""
    least = 0.0
    for index, replica in enumerate(entry.replicas):
        load = (replica.in_flight + replica.queued) / replica.limit if replica.limit > 0 else 0.0
        if load <= 1.0:
            return 0.0
        least = load - 1.0 if index == 0 else min(least, load - 1.0)
    return least


def usual_output(performance: Performance) -> float:
    """Tokens of this model's answers of late."""
    tokens = performance.output_tokens
    return UNMEASURED_OUTPUT if tokens is None else tokens


def usual_first_output(performance: Performance) -> float:
    """Seconds to its first output of late."""
    first = performance.first_output
    return UNMEASURED_FIRST_OUTPUT if first is None else first


def usual_speed(performance: Performance) -> float:
    """Tokens a second of late."""
    speed = performance.tokens_per_second
    return UNMEASURED_SPEED if speed is None or speed <= 0 else max(SLOWEST, speed)


def expected_output(ask: Ask, performance: Performance) -> float:
    """Tokens of the answer: as many as this model's answers had of late, within the caller's bound."""
    tokens = usual_output(performance)
    bound = ask.max_tokens
    return tokens if bound is None or tokens < bound else float(bound)


def expected_cost(card: ModelCard, prompt_tokens: int, output_tokens: float) -> float | None:
    """US dollars of the request; None where a price is unknown."""
    if card.input_price is None or card.output_price is None:
        return None
    return (prompt_tokens * card.input_price + output_tokens * card.output_price) / 1e6


def expected_seconds(performance: Performance, output_tokens: float, queue: float) -> float:
    """Seconds to the end of the answer, behind `queue` (see `waiting`)."""
    return (usual_first_output(performance) + output_tokens / usual_speed(performance)) * (1.0 + queue)


class Worth(msgspec.Struct, frozen=True, gc=False):
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

    queue is as `waiting` gives it. A probe of a provider that was down is scored as though it had not failed: that is
    what it is to find out.
    """
    performance = performance or _UNMEASURED
    of_quality, of_cost, of_time = WEIGHTS[ask.policy]
    success = 1.0 if probe else 1.0 - performance.error_rate
    output = expected_output(ask, performance)
    dollars = expected_cost(card, ask.prompt_tokens, output)
    seconds = expected_seconds(performance, output, queue)
    cheapness = 0.5 if dollars is None else COST_SCALE / (COST_SCALE + dollars)
    terms = {
        "quality": success * of_quality * quality,
        "cost": success * of_cost * cheapness,
        "time": success * of_time * TIME_SCALE / (TIME_SCALE + seconds),
    }
    score = terms["quality"] + terms["cost"] + terms["time"]
    if drawn is not None:
        terms["exploration"] = success * of_quality * (drawn - quality)
        score += terms["exploration"]
    return Worth(score, terms, quality, dollars, seconds)


def beyond(one: Worth | Candidate, bounds: Bounds) -> str | None:
    """Which bound the candidate does not keep, in words; None if it keeps all. An unknown price keeps no `max_cost`."""
    if bounds.max_cost is not None and (one.dollars is None or one.dollars > bounds.max_cost):
        said = "an unknown amount" if one.dollars is None else f"${one.dollars:.6f}"
        return f"costs {said}, more than the bound of ${bounds.max_cost:g}"
    if bounds.max_latency is not None and one.seconds > bounds.max_latency:
        return f"takes {one.seconds:.1f} s, more than the bound of {bounds.max_latency:g} s"
    if bounds.min_quality is not None and one.quality < bounds.min_quality:
        return f"has an expected quality of {one.quality:.2f}, less than the bound of {bounds.min_quality:g}"
    return None
