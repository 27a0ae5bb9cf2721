"""Part 1, faults: every case on every way, a line for each lane and form.

Above it: `__main__`. Below it: `cases`, `judge`, `outage`. Outside it: callers and processes that fail.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Sequence
from itertools import count, groupby, islice

import msgspec

from tests.faults import judge
from tests.faults.cases import Case, every_case
from tests.faults.hearing import ask
from tests.faults.judge import Run
from tests.faults.outage import outage
from tests.faults.scene import Options, Scene, scene
from tests.faults.table import Sheet, counts, span
from tests.faults.ways import Way, every_way, tools

COLUMNS = (
    ("fault", 40),
    ("lane", 8),
    ("form", 6),
    ("the caller saw", 44),
    ("tries", 5),
    ("spare", 5),
    ("gaps s", 10),
    ("seconds", 11),
)

CLOSED_WITHIN = 2.0
"""Seconds that upstream connections get to close once the last caller has his answer."""

_MARK = re.compile(r"Say words, run-(\d+)")

_NUMBERS = count(1)

BUDGET, FLOOR = 30.0, 3.0
"""A replica's retry budget: so many at once, and so many a second again (`RetryBudget`)."""


class Budget:
    """The retry budgets of the providers' replicas as they must be, so that a case never meets an empty one."""

    def __init__(self) -> None:
        self._left: dict[str, float] = {}
        self._at = time.monotonic()

    def spend(self, retries: Counter[str]) -> None:
        """So many retries were made at each provider."""
        self._refill()
        for provider, spent in retries.items():
            self._left[provider] = max(0.0, self._left.get(provider, BUDGET) - spent)

    async def wait(self, retries: Counter[str]) -> None:
        """Until so many can be made."""
        self._refill()
        lacking = [needed - self._left.get(provider, BUDGET) for provider, needed in retries.items()]
        await asyncio.sleep(max(0.0, *lacking, 0.0) / FLOOR)

    def _refill(self) -> None:
        passed, self._at = time.monotonic() - self._at, time.monotonic()
        self._left = {name: min(BUDGET, left + passed * FLOOR) for name, left in self._left.items()}


async def run_way(scene: Scene, case: Case, way: Way, number: int) -> Run:
    """One way of one case; `number` makes its models and its prompt its own."""
    mark = f"run-{number:06d}"
    model, spare = case.model or f"model-{mark}", case.spare or f"spare-{mark}"
    if not case.model:
        scene.upstream.plan(model, case.fault, times=case.times)
    if case.spare_fault is not None:
        scene.upstream.plan(spare, case.spare_fault, times=None)
    options = {**case.options, **({"tools": tools(way.dialect)} if case.fault.tools else {})}
    body = way.body(model, spare, f"Say words, {mark}", **options)
    heard = await ask(way.url(scene.running), way.path(), way.dialect, body)
    return Run(way, heard)


def fill_in(scene: Scene, runs: dict[int, Run]) -> int:
    """When the providers were asked, from the upstream's log; returns how many of its connections are busy."""
    log = scene.upstream.log()
    for seen in log.requests:
        prompt = msgspec.json.encode(seen.body).decode()
        mark = _MARK.search(prompt)
        if mark and (run := runs.get(int(mark[1]))):
            own = seen.path.startswith(run.way.provider.wire_path)
            (run.asked if own else run.spare_asked).append(seen.at)
    return log.busy_connections


async def run_case(scene: Scene, case: Case, sheet: Sheet, budget: Budget) -> None:
    """All ways of a case, and their lines."""
    ways = [way for way in every_way(*case.lanes) if way.stream in case.forms]
    scene.upstream.reset()
    if case.model:
        scene.upstream.plan(case.model, case.fault, times=None)
    await budget.wait(Counter(way.provider.name for way in ways for _ in range(1, case.want(way).tries)))
    turns = asyncio.Semaphore(case.together)

    async def one(way: Way, number: int) -> Run:
        async with turns:
            return await run_way(scene, case, way, number)

    numbers = list(islice(_NUMBERS, len(ways)))
    runs = dict(zip(numbers, await asyncio.gather(*map(one, ways, numbers)), strict=True))
    busy = fill_in(scene, runs)
    end = time.monotonic() + CLOSED_WITHIN
    while busy and time.monotonic() < end:
        await asyncio.sleep(0.05)
        busy = scene.upstream.log().busy_connections
    budget.spend(Counter(run.way.provider.name for run in runs.values() for _ in run.asked[1:]))
    for (lane, form), some in groupby(runs.values(), key=lambda run: (run.way.lane, run.way.form)):
        line(sheet, case, lane, form, list(some))
    if busy:
        sheet.row([case.name, "", "", "", "", "", "", ""], [], [f"{case.name}: {busy} upstream connections are left"])


def line(sheet: Sheet, case: Case, lane: str, form: str, runs: Sequence[Run]) -> None:
    """One line: the runs of one lane and form."""
    gaps = [gap for run in runs for gap in run.gaps]
    cells = [
        case.name,
        lane,
        form,
        counts(judge.shown(case, runs)),
        counts(len(run.asked) for run in runs),
        counts(len(run.spare_asked) for run in runs) if lane == "fallback" else "",
        span(gaps),
        span(run.heard.seconds for run in runs),
    ]
    wrong = [text for run in runs for text in judge.unexpected(case, run)]
    sheet.row(cells, wrong, [text for run in runs for text in judge.violations(case, run)])


async def run(scene: Scene, sheet: Sheet, only: str, down: float) -> None:
    """Every case whose name holds `only`; down: seconds of the outage."""
    budget = Budget()
    for case in every_case():
        if only in case.name:
            await run_case(scene, case, sheet, budget)
    if only in "outage":
        await outage(scene, sheet, down)


def main(given: Options) -> bool:
    """Part 1. quick: a short outage."""
    with scene(given) as built:
        sheet = Sheet("Faults of providers", COLUMNS)
        asyncio.run(run(built, sheet, given.only, 10.0 if given.quick else 60.0))
    return sheet.end()
