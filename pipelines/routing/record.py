"""One decision as it is kept: enough to learn from what becomes of it, and to make the same decision again.

Above it: the gateway (makes it), `learning.decisions` (keeps it). Below it: `choose`, `estimate`. Outside it: storage.
"""

from random import Random

import msgspec

from pipelines.routing.ask import Ask, Decision
from pipelines.routing.choose import choose
from pipelines.routing.estimate import Estimate, Known
from pipelines.routing.learning.view import View
from pipelines.routing.table import Table
from pipelines.routing.tasks import Profile, Task


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One decision and who answered.

    ask, seed (of the random numbers), at (seconds since 1970): what was decided upon; table, view: the epoch and
    version of what was known then; explored: whether qualities were drawn. task and features (packed): of the request;
    model: `provider/model` that answered; expected: its expected quality, None where nobody asked.
    """

    ask: Ask
    seed: int
    at: float
    table: tuple[str, int]
    view: tuple[str, int]
    task: Task
    features: bytes
    model: str
    expected: float | None = None
    explored: bool = False


def reproduced(record: Record, table: Table, view: View) -> Decision:
    """The decision again, from the table and the view that the record names. Raises as `choose` does."""
    known = Known(Profile(record.task), record.features)
    estimate = Estimate(view, lambda: known, explores=record.explored)
    return choose(table, record.ask, record.at, Random(record.seed).random, estimate)


def without_unused(ask: Ask) -> Ask:
    """The same question with no more aliases than its names lead to."""
    if not ask.aliases:
        return ask
    used: set[str] = set()
    waiting = list(ask.wanted)
    while waiting:
        name = waiting.pop()
        if name in ask.aliases and name not in used:
            used.add(name)
            plan = ask.plans.get(name)
            waiting += [*ask.aliases[name], *([plan.canary] if plan else [])]
    return msgspec.structs.replace(
        ask,
        aliases={name: ask.aliases[name] for name in sorted(used)},
        plans={name: plan for name, plan in ask.plans.items() if name in used},
    )
