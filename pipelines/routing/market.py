"""Every model that `auto` may choose, in columns, and what all of them are worth for one request at once.

`worth` says the formula, and says it for one candidate; here it is the same, operation by operation, for fifty in the
time that one takes ten times. What does not depend on the request is worked out once a table (`Table.market`).

Above it: `choose`. Below it: `table`, `worth`, numpy. Outside it: who of them may be asked.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy
from numpy.typing import NDArray

from pipelines.errors import ConfigurationError, Overloaded, PenstockError
from pipelines.routing.ask import Ask, Candidate
from pipelines.routing.table import Performance, ProviderEntry, Table, Target
from pipelines.routing.worth import (
    COST_SCALE,
    TIME_SCALE,
    WEIGHTS,
    usual_first_output,
    usual_output,
    usual_speed,
    waiting,
)

RETRY_AFTER = 1.0
"""Seconds after which a provider without a replica may be asked again."""

Column = NDArray[numpy.float64]

_UNMEASURED = Performance()


class Market:
    """targets: the listed models of all providers that can be asked; unready: why the other providers cannot, by name.

    real: a provider is set up that is not simulated. A simulated one only counts while there is none: when real ones
    fail, an invented answer in their place is worse than an error. shortest is the least context length that is known,
    tersest the least bound of an answer, in tokens (0: none is).
    """

    def __init__(self, table: Table) -> None:
        self.targets: list[Target] = []
        self.unready: dict[str, str] = {}
        queues: list[float] = []
        self.real = any(not entry.simulated and entry.state != "unconfigured" for entry in table.providers)
        for entry in table.providers:
            failure = unready(entry)
            if failure is None and entry.simulated and self.real:
                failure = Overloaded("simulated, while real providers are set up")
            if failure is not None:
                self.unready[entry.name] = failure.message
                continue
            self.targets += entry.targets
            queues += [waiting(entry)] * len(entry.targets)
        cards = [target.card for target in self.targets if target.card is not None]
        measured = [target.entry.performance.get(target.model, _UNMEASURED) for target in self.targets]
        self.names = [target.name for target in self.targets]
        self._providers = [target.entry.name for target in self.targets]
        self._models = [target.model for target in self.targets]
        self.qualities = [card.quality for card in cards]
        self.shortest = min((card.context for card in cards if card.context), default=0)
        self.tersest = min((card.max_output for card in cards if card.max_output), default=0)
        self.broken = {index for index, one in enumerate(measured) if one.breaker != "closed"}
        self._success = 1.0 - _column([one.error_rate for one in measured])
        self._first = _column([usual_first_output(one) for one in measured])
        self._speed = _column([usual_speed(one) for one in measured])
        self._output = _column([usual_output(one) for one in measured])
        self._waiting = 1.0 + _column(queues)
        self._unpriced = [index for index, card in enumerate(cards) if None in (card.input_price, card.output_price)]
        self._input_price = _column([card.input_price or 0.0 for card in cards])
        self._output_price = _column([card.output_price or 0.0 for card in cards])

    def candidates(
        self, ask: Ask, expected: Mapping[str, float], drawn: Mapping[str, float], probed: Sequence[int] = ()
    ) -> list[Candidate]:
        """Every target as a candidate, in their order, valued as by `worth.worth`. probed: those that are probes.

        expected and drawn are by name; a target that is not in `expected` is taken by its card.
        """
        quality = list(map(expected.get, self.names, self.qualities)) if expected else self.qualities
        output = self._output if ask.max_tokens is None else numpy.minimum(self._output, float(ask.max_tokens))
        dollars = (ask.prompt_tokens * self._input_price + output * self._output_price) / 1e6
        seconds = (self._first + output / self._speed) * self._waiting
        cheapness = COST_SCALE / (COST_SCALE + dollars)
        if self._unpriced:
            cheapness[self._unpriced] = 0.5
        success = self._success
        if probed:
            success = success.copy()
            success[list(probed)] = 1.0
        of_quality, of_cost, of_time = WEIGHTS[ask.policy]
        weighed = success * of_quality
        qualities = weighed * quality
        costs = success * of_cost * cheapness
        times = success * of_time * TIME_SCALE / (TIME_SCALE + seconds)
        scores = qualities + costs + times
        explorations = weighed * (_column(list(map(drawn.get, self.names, quality))) - quality) if drawn else None
        if explorations is not None:
            scores += explorations
        amounts: list[float | None] = dollars.tolist()
        for index in self._unpriced:
            amounts[index] = None
        columns = (column.tolist() for column in (scores, qualities, costs, times, seconds))
        found = [
            Candidate(provider, model, score, {"quality": q, "cost": c, "time": t}, good, amount, duration, "", True)
            for provider, model, good, amount, score, q, c, t, duration in zip(
                self._providers, self._models, quality, amounts, *columns, strict=True
            )
        ]
        if explorations is not None:
            for candidate, exploration in zip(found, explorations.tolist(), strict=True):
                candidate.terms["exploration"] = exploration
        return found


def unready(entry: ProviderEntry) -> PenstockError | None:
    """Why nobody of this provider can be asked, if so."""
    if entry.state == "unconfigured":
        return ConfigurationError(f"{entry.name} is not configured: {entry.why or 'no reason given'}")
    if entry.state != "ready" or not entry.replicas:
        why = f": {entry.why}" if entry.why else ""
        state = "has no replica" if entry.state == "ready" else f"is {entry.state}"
        return Overloaded(f"{entry.name} {state}{why}", status=503, retry_after=RETRY_AFTER)
    return None


def _column(values: Sequence[Any]) -> Column:
    return numpy.array(values, numpy.float64)
