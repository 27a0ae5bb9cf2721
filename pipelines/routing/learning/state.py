"""All that was learned, as one value: `Learning.update(evidence, now)` gives the next one.

It holds at most MAXIMUM_MODELS models with what is known of each at every task, so that it is bounded in size; it is
a msgspec struct, so that it can be kept (`encode`, `decode`) and an older one read. What is old counts less and
less (`tally.HALF_LIFE`), and a model that is seen to have changed (`change`) keeps only CHANGED of its past.

Above it: `view`, the router actor. Below it: `regression`, `tally`, `rating`, `change`, `evidence`. Outside it:
clocks; `now` is an argument, in seconds since 1970.
"""

import math
from collections.abc import Mapping
from typing import cast

import msgspec

from pipelines.routing.learning.change import Change
from pipelines.routing.learning.evidence import WEIGHT, Compared, Evidence, Rated, unpack
from pipelines.routing.learning.rating import Rating, compared
from pipelines.routing.learning.regression import Sums
from pipelines.routing.learning.signs import SIGNS, Sign, noticed
from pipelines.routing.learning.tally import HALF_LIFE, Interval, Tally, wilson
from pipelines.routing.tasks import TASKS, Task

MAXIMUM_MODELS = 50
"""Models that are known at once; beyond it the longest unused is forgotten."""

CHANGED = 0.1
"""What a model's past still counts after it has changed."""

ESTABLISHED = 30.0
"""Observations of a model below which nothing is called a change: its prior may have been wrong."""

FADING_STEP = HALF_LIFE / 200.0
"""Seconds after which the sums of the regression are faded anew."""

DEFAULT_QUALITY = 0.7
"""The prior of a model that nobody described."""


class Knowledge(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of one model, as of `at`.

    wins counts how often it was preferred; signs: what its answers showed without a verdict; changed: when it last
    changed.
    """

    sums: Sums = Sums()
    tallies: dict[Task, Tally] = {}
    wins: dict[Task, Tally] = {}
    ratings: dict[Task, Rating] = {}
    signs: dict[Sign, dict[Task, Tally]] = {}
    change: Change = Change()
    changed: float = 0.0
    faded: float = 0.0
    at: float = 0.0

    def rated(self, evidence: Rated, now: float) -> "Knowledge":
        """With one more rating."""
        if evidence.kind in SIGNS:
            return self._noticed(evidence, now)
        weight = WEIGHT[evidence.kind] * max(0.0, min(1.0, evidence.weight))
        value = max(0.0, min(1.0, evidence.value))
        tally = self.tallies.get(evidence.task, Tally(at=now))
        known = self.faded_to(now)
        sums = known.sums.add(unpack(evidence.features), value, weight) if evidence.features else known.sums
        tallies = known.tallies | {evidence.task: tally.add(value, weight, now)}
        known = msgspec.structs.replace(known, sums=sums, tallies=tallies, at=now)
        if sum(one.count(now) for one in self.tallies.values()) < ESTABLISHED:
            return known
        expected = tally.interval(0.5, now).share if evidence.expected is None else evidence.expected
        spread = math.sqrt(max(0.05, expected * (1.0 - expected)))
        change = known.change.after(weight * (value - expected) / spread)
        return known.forgotten(now) if change.alarm else msgspec.structs.replace(known, change=change)

    def _noticed(self, evidence: Rated, now: float) -> "Knowledge":
        sign, task = cast(Sign, evidence.kind), evidence.task
        of_sign = self.signs.get(sign, {})
        value, count = max(0.0, min(1.0, evidence.value)), max(0.0, evidence.weight)
        tally = noticed(of_sign.get(task, Tally(at=now)), value, count, now)
        return msgspec.structs.replace(self, signs=self.signs | {sign: of_sign | {task: tally}}, at=now)

    def forgotten(self, now: float) -> "Knowledge":
        """After a change: the past counts little, and preferences and signs begin anew."""
        return msgspec.structs.replace(
            self,
            sums=self.sums.scaled(CHANGED),
            tallies={task: tally.scaled(CHANGED) for task, tally in self.tallies.items()},
            wins={},
            ratings={},
            signs={},
            change=Change(),
            changed=now,
        )

    def faded_to(self, now: float) -> "Knowledge":
        """With the sums of the regression faded, if that is due."""
        elapsed = max(0.0, now - self.faded)
        if self.faded and elapsed < FADING_STEP:
            return self
        factor = 0.5 ** (elapsed / HALF_LIFE) if self.faded else 1.0
        return msgspec.structs.replace(self, sums=self.sums.scaled(factor), faded=now)

    def preferred(self, task: Task, rating: Rating, result: float, now: float) -> "Knowledge":
        """With one more comparison, after which the rating is `rating`."""
        wins = self.wins.get(task, Tally(at=now)).add(result, 1.0, now)
        ratings, both = self.ratings | {task: rating}, self.wins | {task: wins}
        return msgspec.structs.replace(self, ratings=ratings, wins=both, at=now)


class WinRate(msgspec.Struct, frozen=True):
    """How one model does at one task.

    quality: the share of good answers by verdicts; wins: the share of comparisons won, None where it was never
    compared; rating in logits with its standard deviation; changed: when the model last changed (seconds; 0: never);
    signs: the share of good ones of each sign that was seen.
    """

    model: str
    task: Task
    quality: Interval
    wins: Interval | None
    rating: float
    rating_deviation: float
    changed: float
    signs: dict[Sign, Interval] = {}


class Learning(msgspec.Struct, frozen=True):
    """What is known of every model, by `provider/model`. width: features of a vector; others are not learned from."""

    width: int
    models: dict[str, Knowledge] = {}

    def update(self, evidence: Evidence, now: float) -> "Learning":
        """With one more piece of evidence."""
        if isinstance(evidence, Compared):
            return self._compared(evidence, now)
        if evidence.features and len(evidence.features) != 2 * self.width:
            evidence = msgspec.structs.replace(evidence, features=b"")
        known = self.models.get(evidence.model, Knowledge())
        return self._with({evidence.model: known.rated(evidence, now)})

    def _compared(self, evidence: Compared, now: float) -> "Learning":
        if evidence.first == evidence.second:
            return self
        first = self.models.get(evidence.first, Knowledge())
        second = self.models.get(evidence.second, Knowledge())
        task, result = evidence.task, max(0.0, min(1.0, evidence.result))
        weight = max(0.0, min(1.0, evidence.weight))
        ratings = first.ratings.get(task, Rating(at=now)), second.ratings.get(task, Rating(at=now))
        one, other = compared(*ratings, result, now, weight)
        return self._with(
            {
                evidence.first: first.preferred(task, one, result, now),
                evidence.second: second.preferred(task, other, 1.0 - result, now),
            }
        )

    def _with(self, changed: Mapping[str, Knowledge]) -> "Learning":
        models = self.models | dict(changed)
        while len(models) > MAXIMUM_MODELS:
            del models[min(models, key=lambda name: models[name].at)]
        return Learning(self.width, models)

    def win_rates(self, priors: Mapping[str, float], now: float) -> tuple[WinRate, ...]:
        """How every known model does at every task that it was seen at. priors: expected quality by model."""
        return tuple(
            _win_rate(name, task, known, priors.get(name, DEFAULT_QUALITY), now)
            for name, known in sorted(self.models.items())
            for task in TASKS
            if task in known.tallies or task in known.ratings or any(task in seen for seen in known.signs.values())
        )


def _win_rate(name: str, task: Task, known: Knowledge, prior: float, now: float) -> WinRate:
    rating = known.ratings.get(task, Rating(at=now)).aged(now)
    wins = known.wins.get(task)
    return WinRate(
        name,
        task,
        known.tallies.get(task, Tally(at=now)).interval(prior, now),
        None if wins is None else wins.interval(0.5, now),
        rating.value,
        math.sqrt(rating.variance),
        known.changed,
        {sign: wilson(*_shares(seen[task], now)) for sign, seen in known.signs.items() if task in seen},
    )


def _shares(tally: Tally, now: float) -> tuple[float, float]:
    """What was good, and how much there was."""
    good, bad = tally.faded(now)
    return good, good + bad


_decoder = msgspec.msgpack.Decoder(Learning)


def encode(learning: Learning) -> bytes:
    """The value as it is kept."""
    return msgspec.msgpack.encode(learning)


def decode(data: bytes, width: int) -> Learning:
    """The value again; sums of vectors of another width (another version's features) are left out.

    Raises msgspec.DecodeError if it is none.
    """
    learning = _decoder.decode(data)
    if learning.width == width:
        return learning
    models = {name: msgspec.structs.replace(one, sums=Sums()) for name, one in learning.models.items()}
    return Learning(width, models)
