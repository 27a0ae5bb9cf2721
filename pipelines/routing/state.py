"""The router's state: who is there, how they do, and the table that says so.

Stimuli come in with `now`, in seconds since 1970, because a table's times are read on other machines. `table`
is asked at regular intervals and gives a new version only where something changed: at once where the change
decides who can be asked (`urgent`), every STATISTICS_INTERVAL where it is only numbers.

Above it: `actors.routing.router`. Below it: `roster`, `statistics`, `breaker`, `table`. Outside it: clocks, processes.
"""

from collections import Counter

import msgspec

from pipelines.routing.breaker import Breaker, step, stimulus
from pipelines.routing.roster import Roster
from pipelines.routing.statistics import Statistics
from pipelines.routing.table import Announcement, Outcome, Performance, Report, Table

SETTLING = 2.5
"""Seconds in which a router that follows another one hears every provider (each speaks every two, and at once where it
notices)."""

STATISTICS_INTERVAL = 0.5
"""Seconds between two tables that differ in numbers only."""

DECAY_INTERVAL = 5.0
"""Seconds between two tables that differ by the passing of time only."""

REPORTER_LIFETIME = 5.0
"""Seconds after which what a silent reporter has under way is forgotten."""

HELD_UP = 1.0
"""Seconds between two calls of `expire` that mean that the router itself stood still."""

MAXIMUM_MODELS = 500
"""Models with statistics; beyond it the longest unused is forgotten (some providers take any name)."""

PROBE_TURN = 1.0
"""Seconds for which one reporter alone may probe a half-open breaker."""

PROBE_TURNS = 4
"""Turns after which anyone may: those whose turn it was had nothing to ask."""


class _Reporter(msgspec.Struct):
    """What one gateway has under way, and when it was last heard (seconds)."""

    in_flight: dict[str, dict[str, int]]
    heard: float
    active: float


class _Model(msgspec.Struct):
    """What is known of one model: statistics, breaker, and who reported of it last."""

    statistics: Statistics = Statistics()
    breaker: Breaker = Breaker()
    reporter: str = ""


class RouterState:
    """The pure core of the router actor.

    epoch: this incarnation's name. preceded: another one was there before, whose table gateways still hold; the
    tables of the first SETTLING seconds then say that they are not settled.
    """

    def __init__(self, epoch: str, now: float, *, preceded: bool = False) -> None:
        self.epoch = epoch
        self._settled_at = now + SETTLING if preceded else now
        self._roster = Roster()
        self._reporters: dict[str, _Reporter] = {}
        self._models: dict[tuple[str, str], _Model] = {}
        self._urgent = False
        self._changed = False
        self._built = now
        self._looked = now
        self._table = Table(epoch, 0, not preceded)

    def announce(self, announcement: Announcement, now: float) -> None:
        """A provider's replica speaks."""
        self._urgent |= self._roster.announce(announcement, now)
        self._changed = True
        self.hear(announcement.replica, now)

    def hear(self, reporter: str, now: float) -> None:
        """A reporter is alive, and has under way what it last said."""
        if reporter in self._reporters:
            self._reporters[reporter].heard = now

    def report(self, report: Report, now: float) -> None:
        """A gateway says how its attempts went and what it has under way."""
        before = self._reporters.get(report.reporter)
        active = now if report.outcomes or not before else before.active
        if report.outcomes or not before or before.in_flight != report.in_flight:
            self._changed = True
        self._reporters[report.reporter] = _Reporter(report.in_flight, now, active)
        for outcome in report.outcomes:
            self._learn(outcome, report.reporter, now)

    def expire(self, now: float) -> None:
        """Time passes: silent replicas and reporters go, open breakers become half-open.

        It is called every fraction of a second. If it was not, the router itself was held up, and what was said
        meanwhile has not been read yet: that time counts against nobody.
        """
        gap, self._looked = now - self._looked, now
        if gap > HELD_UP:
            self._roster.excuse(gap)
            for reporter in self._reporters.values():
                reporter.heard += gap
        if self._roster.expire(now):
            self._urgent = True
            known = [key for key in self._models if key[0] in self._roster]
            self._models = {key: self._models[key] for key in known}
        for name, reporter in list(self._reporters.items()):
            if now - reporter.heard > REPORTER_LIFETIME:
                del self._reporters[name]
                self._changed = True
        for model in self._models.values():
            self._move(model, step(model.breaker, "time", now))
            self._changed |= model.breaker.state == "half_open"
        self._urgent |= self._table.settled != self.settled(now)

    def settled(self, now: float) -> bool:
        """Whether every provider has had the time to speak."""
        return now >= self._settled_at

    def table(self, now: float) -> Table:
        """The latest table: a new version if there is something new that is due."""
        elapsed = now - self._built
        due = self._urgent or elapsed >= (STATISTICS_INTERVAL if self._changed else DECAY_INTERVAL)
        if due:
            providers = self.snapshot(now).providers
            changed = providers != self._table.providers or self._table.settled != self.settled(now)
            if changed:
                self._table = Table(self.epoch, self._table.version + 1, self.settled(now), providers)
            self._urgent, self._changed, self._built = False, False, now
        return self._table

    def snapshot(self, now: float) -> Table:
        """All that is known at this moment, under the version that was last published."""
        performances = self._performances(now)
        providers = tuple(
            msgspec.structs.replace(entry, performance=performances.get(entry.name, {}))
            for entry in self._roster.entries()
        )
        return Table(self.epoch, self._table.version, self.settled(now), providers)

    def _learn(self, outcome: Outcome, reporter: str, now: float) -> None:
        key = (outcome.provider, outcome.model)
        model = self._models.get(key)
        if model is None:
            if outcome.reason == "not_found":
                return
            model = self._models[key] = _Model()
        model.reporter = reporter
        if not outcome.begun:
            model.statistics = model.statistics.after(outcome, now)
        event = stimulus(model.breaker, outcome, now)
        if event is not None:
            self._move(model, step(model.breaker, event, now))
        if len(self._models) > MAXIMUM_MODELS:
            del self._models[min(self._models, key=lambda name: self._models[name].statistics.used)]

    def _move(self, model: _Model, breaker: Breaker) -> None:
        """Set a model's breaker; a provider that is back begins with a clean slate."""
        if breaker.state != model.breaker.state:
            self._urgent = True
            if breaker.state == "closed":
                model.statistics = model.statistics.forgiven()
        model.breaker = breaker

    def _performances(self, now: float) -> dict[str, dict[str, Performance]]:
        """How every model does, by provider and model."""
        under_way: Counter[tuple[str, str]] = Counter()
        for reporter in self._reporters.values():
            for provider, counts in reporter.in_flight.items():
                for name, count in counts.items():
                    under_way[provider, name] += count
        result: dict[str, dict[str, Performance]] = {}
        for key in sorted({*self._models, *(key for key, count in under_way.items() if count)}):
            model = self._models.get(key) or _Model()
            performance = msgspec.structs.replace(
                model.statistics.performance(now, under_way[key]),
                breaker=model.breaker.state,
                open_until=round(model.breaker.open_until, 3) if model.breaker.state != "closed" else 0.0,
                prober=self._prober(model, now) if model.breaker.state == "half_open" else "",
            )
            result.setdefault(key[0], {})[key[1]] = performance
        return result

    def _prober(self, model: _Model, now: float) -> str:
        """Whose turn it is to probe: first who asked this model last, then each active reporter, then anyone."""
        turn = int(max(0.0, now - model.breaker.open_until) / PROBE_TURN)
        active = [
            name
            for name, reporter in sorted(self._reporters.items())
            if now - reporter.active <= REPORTER_LIFETIME and name != model.reporter
        ]
        if model.reporter in self._reporters:
            active.insert(0, model.reporter)
        return active[turn % len(active)] if active and turn < PROBE_TURNS else ""
