"""How the models stand: win rates with intervals, and which of them nobody beats at once in quality, cost and time.

A model is on the frontier if no other is at least as good in all three and better in one (Pareto). An unknown price
counts as the highest. Cost and time are those of a request of PROMPT_TOKENS and the model's usual answer.

Above it: the router actor, the gateway. Below it: `learning.state`, `worth`, `table`. Outside it: drawing it.
"""

import math
from collections.abc import Iterable
from typing import Literal

import msgspec

from pipelines.routing.ask import Ask
from pipelines.routing.learning.state import Knowledge, Learning, WinRate
from pipelines.routing.learning.tally import Interval, Tally, wilson
from pipelines.routing.table import ModelCard, Performance, Table
from pipelines.routing.tasks import TASKS, Task
from pipelines.routing.worth import expected_cost, expected_output, expected_seconds

PROMPT_TOKENS = 1000
"""Tokens of the prompt that cost and time are told for."""

_USUAL = Ask(("auto",), prompt_tokens=PROMPT_TOKENS)
_UNMEASURED = Performance()


class Point(msgspec.Struct, frozen=True):
    """One model: expected quality, US dollars (None: unknown) and seconds of a request; frontier: nobody beats it."""

    model: str
    quality: Interval
    dollars: float | None
    seconds: float
    frontier: bool = False


class Standing(msgspec.Struct, frozen=True):
    """win_rates of what was seen; tasks: every listed model, over all tasks ("all") and at each that was seen."""

    win_rates: tuple[WinRate, ...] = ()
    tasks: dict[str, tuple[Point, ...]] = {}


def standing(learning: Learning, table: Table, now: float) -> Standing:
    """How they stand at `now`, in seconds since 1970."""
    listed = {
        f"{entry.name}/{card.name}": (card, entry.performance.get(card.name, _UNMEASURED))
        for entry in table.providers
        for card in entry.models
    }
    priors = {name: card.quality for name, (card, _) in listed.items()}
    rates = learning.win_rates(priors, now)
    seen = {rate.task for rate in rates}
    chapters: list[Task | Literal["all"]] = ["all", *(task for task in TASKS if task in seen)]
    return Standing(
        rates,
        {
            chapter: frontier(
                _point(name, chapter, learning.models.get(name, Knowledge()), card, performance, now)
                for name, (card, performance) in listed.items()
            )
            for chapter in chapters
        },
    )


def frontier(points: Iterable[Point]) -> tuple[Point, ...]:
    """The points, best quality first, with those marked that no other one beats."""
    every = sorted(points, key=lambda point: (-point.quality.share, point.model))
    return tuple(
        msgspec.structs.replace(point, frontier=not any(_beats(other, point) for other in every)) for point in every
    )


def _beats(one: Point, other: Point) -> bool:
    mine, yours = _merits(one), _merits(other)
    return mine != yours and all(a >= b for a, b in zip(mine, yours, strict=True))


def _merits(point: Point) -> tuple[float, float, float]:
    return point.quality.share, -math.inf if point.dollars is None else -point.dollars, -point.seconds


def _point(
    name: str, chapter: Task | Literal["all"], known: Knowledge, card: ModelCard, performance: Performance, now: float
) -> Point:
    tallies = known.tallies.values() if chapter == "all" else [known.tallies.get(chapter, Tally(at=now))]
    good, bad = Tally(at=now).beta(card.quality, now)
    for tally in tallies:
        factor = tally.factor(now)
        good, bad = good + tally.good * factor, bad + tally.bad * factor
    output = expected_output(_USUAL, performance)
    dollars = expected_cost(card, PROMPT_TOKENS, output)
    return Point(name, wilson(good, good + bad), dollars, round(expected_seconds(performance, output, 0.0), 3))
