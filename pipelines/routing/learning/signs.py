"""What answers and callers show without a verdict: the form of an answer, and whether the same was asked again.

A sign says little of how good an answer is, so it teaches the regression nothing. It moves a model's expected quality
at that one task, by a bounded amount, and only as far as the model differs from the others:

    offset(model, task) = sum over signs of WORTH * (share of good ones - that of the other models)

Both shares are posterior means: that of the others starts at USUAL with HELD observations, the model's own at theirs
with PRIOR. At most LATEST observations count, so that a model whose answers become malformed is soon seen as it is.

Above it: `state`, `view`. Below it: `tally`. Outside it: clocks; `now` is an argument, in seconds since 1970.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from pipelines.routing.learning.tally import Tally
from pipelines.routing.tasks import Task

Sign = Literal["tool_call", "parsed", "retry"]
"""A tool call has the form that was asked for; so has an answer in JSON; an answer was not asked for again."""

SIGNS: frozenset[str] = frozenset(get_args(Sign))

WORTH: Mapping[Sign, float] = {"tool_call": 0.5, "parsed": 0.5, "retry": 0.2}
"""Quality that is lost where every sign is a bad one. A malformed call is of no use, but well-formed ones may be wrong;
who asks again has other reasons too."""

USUAL = 0.95
"""The share of good signs where nobody else was seen."""

HELD = 20.0
PRIOR = 10.0
LATEST = 100.0

Signs = Mapping[Sign, Mapping[Task, Tally]]


def noticed(tally: Tally, value: float, count: float, now: float) -> Tally:
    """With `count` more observations of `value` in [0, 1]."""
    tally = tally.add(value, min(count, LATEST), now)
    return tally.scaled(min(1.0, LATEST / max(LATEST, tally.count(now))))


def offsets(models: Sequence[Signs], task: Task, now: float) -> list[float]:
    """What signs add to each model's expected quality at a task."""
    found = [0.0] * len(models)
    for sign, worth in WORTH.items():
        tallies = [one.get(sign, {}).get(task) for one in models]
        seen = [one.faded(now) if one is not None else (0.0, 0.0) for one in tallies]
        good, bad = HELD * USUAL + sum(one for one, _ in seen), HELD * (1.0 - USUAL) + sum(one for _, one in seen)
        for index, (own_good, own_bad) in enumerate(seen):
            count = own_good + own_bad
            if count:
                others = (good - own_good) / (good + bad - count)
                found[index] += worth * ((PRIOR * others + own_good) / (PRIOR + count) - others)
    return found
