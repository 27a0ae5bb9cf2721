"""Part 4: a long load of everything at once; memory and descriptors of every process must stand still.

Of all requests 5 % are left by their callers and 2 % meet a fault; the others are streams and whole answers in two
dialects over four ways in.

Above it: `__main__`. Below it: `lean`, `hearing`, `measure`, `callers`. Outside it: speed, which is only printed.
"""

import asyncio
import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import uvloop

from bench.upstream import text_of as text_of_swift
from pipelines.routing.learning.decisions import MOST
from tests.clients import BrokenBody, Caller
from tests.cluster.running import KEY
from tests.faults.callers import SPARE, closed, in_flight, settled
from tests.faults.hearing import ask
from tests.faults.judge import truthful
from tests.faults.lean import Line, request
from tests.faults.measure import MEGABYTE, Size, megabytes, sizes
from tests.faults.scene import PRIMARY, PROVIDERS, Options, Provider, Scene, scene, swift_upstream
from tests.faults.table import Sheet
from tests.faults.watch import DOORS
from tests.faults.ways import LANES, Dialect, Way
from tests.upstream import Fault, text_of

COLUMNS = (
    ("process", 24),
    ("pid", -8),
    ("at 20 %", -10),
    ("most", -10),
    ("at the end", -10),
    ("growth", -8),
    ("descriptors", 24),
)

REQUESTS = 200_000
CALLERS = 32
LEAVING, FAULTY = 0.05, 0.02
WARM = 0.2
"""Share of the requests after which memory is to stand still."""

GROWTH, LEAST = 0.05, 2 * MEGABYTE
"""How much a process may grow after that: a share, or so many bytes."""

EVERY = 10.0
"""Seconds between two measurements."""

SWIFT = Provider("swift", PRIMARY.wire_path)
STREAMS, WHOLES = ("s-8-0", "s-16-2", "s-3-1-400"), ("u-100", "u-2000")
SLOW = "s-200-20-16-100"
"""What callers leave: 4 seconds long, the first word after 100 ms."""

FAULTS = (
    Fault.rate_limited(),
    Fault.server_error(),
    Fault.overloaded(),
    Fault.reset_before_headers(),
    Fault(name="cut", cut="close", cut_after=3),
    Fault.malformed(),
    Fault.sentinel(0),
    Fault.error_inside(),
    Fault.no_usage(),
    Fault.context_too_long(),
)


class Sample(NamedTuple):
    """Every process at one moment; share: of the requests that were made by then."""

    share: float
    found: dict[int, Size]


class Soak:
    """One soak: its counts, its samples, what went wrong."""

    def __init__(self, scene: Scene, requests: int) -> None:
        self.scene = scene
        self.requests = requests
        self.begun = 0
        self.counts: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self.lies: list[str] = []
        self.samples: list[Sample] = []
        self._source = random.Random(4)

    async def run(self) -> None:
        """All requests, measured meanwhile."""
        for number, fault in enumerate(FAULTS):
            self.scene.upstream.plan(f"faulty-{number}", fault, times=None)
        measuring = asyncio.create_task(self._measure())
        await asyncio.gather(*(self._caller() for _ in range(CALLERS)))
        measuring.cancel()
        self.samples.append(Sample(1.0, await asyncio.to_thread(sizes, self.scene)))

    async def _measure(self) -> None:
        began = time.monotonic()
        while True:
            await asyncio.sleep(EVERY)
            share, seconds = self.begun / self.requests, time.monotonic() - began
            found = await asyncio.to_thread(sizes, self.scene)
            self.samples.append(Sample(share, found))
            memory = megabytes(sum(size.memory for size in found.values()))
            print(f"  {self.begun:>8} requests, {self.begun / seconds:.0f}/s, {memory}", flush=True)
            # The log of the upstream holds every body: without this it would be what grows.
            await asyncio.to_thread(self._forget)

    def _forget(self) -> None:
        self.scene.upstream.reset()
        for number, fault in enumerate(FAULTS):
            self.scene.upstream.plan(f"faulty-{number}", fault, times=None)

    async def _caller(self) -> None:
        lines: dict[str, Line] = {}
        while self.begun < self.requests:
            self.begun += 1
            chance = self._source.random()
            way = self._source.choice(DOORS)
            if chance < LEAVING:
                await self._leave(way)
            elif chance < LEAVING + FAULTY:
                await self._faulty(way)
            else:
                await self._whole(way, lines)
        for line in lines.values():
            line.close()

    async def _whole(self, way: Way, lines: dict[str, Line]) -> None:
        dialect: Dialect = self._source.choice(("chat", "chat", "messages"))
        stream = self._source.random() < 0.5
        way = way._replace(dialect=dialect, provider=SWIFT, stream=stream)
        model = self._source.choice(STREAMS if stream else WHOLES)
        url = way.url(self.scene.running)
        line = lines.setdefault(url, Line(url))
        wrong = await line.ask(
            request(url, way.path(), way.body(model)), dialect, stream=stream, text=text_of_swift(model).encode()
        )
        self.counts["streams" if stream else "whole answers"] += 1
        if wrong:
            self.wrong[f"{way.port} {way.lane} {dialect} {model}: {wrong}"] += 1

    async def _leave(self, way: Way) -> None:
        way = way._replace(provider=SWIFT)
        self.counts["left"] += 1
        try:
            async with await Caller.connect(way.url(self.scene.running)) as caller:
                body = way.body(SLOW, stream_options={"include_usage": True})
                await caller.request("POST", way.path(), body, headers={"authorization": f"Bearer {KEY}"})
                await asyncio.sleep(self._source.uniform(0, 0.2))
                if self._source.random() < 0.3:
                    caller.reset()
        except (BrokenBody, OSError, TimeoutError) as error:
            self.wrong[f"a caller who leaves: {type(error).__name__}"] += 1

    async def _faulty(self, way: Way) -> None:
        number = self._source.randrange(len(FAULTS))
        dialect: Dialect = self._source.choice(("chat", "messages"))
        lane = self._source.choice(LANES)
        way = Way(dialect, self._source.choice(PROVIDERS), lane, way.port, self._source.random() < 0.5)
        heard = await ask(way.url(self.scene.running), way.path(), dialect, way.body(f"faulty-{number}", "steady"))
        self.counts["faulty"] += 1
        self.counts["faulty and whole" if heard.complete else "faulty and refused or broken"] += 1
        self.lies += [f"{FAULTS[number].name}: {lie}" for lie in truthful(heard, text_of(Fault()))]


def judged(sheet: Sheet, samples: Sequence[Sample], before: dict[int, int], after: dict[int, int]) -> None:
    """A line a process that lived through it all."""
    memory: dict[int, list[int]] = defaultdict(list)
    for sample in samples:
        if sample.share >= WARM:
            for pid, size in sample.found.items():
                memory[pid].append(size.memory)
    for pid, values in memory.items():
        if pid not in samples[-1].found or len(values) < 2:
            continue
        size = samples[-1].found[pid]
        few = max(1, min(3, len(values) // 3))
        first, last = statistics.median(values[:few]), statistics.median(values[-few:])
        grown = last - first
        wrong = []
        if grown > max(LEAST, GROWTH * first):
            wrong.append(f"{size.role} has grown by {megabytes(round(grown))} after the warm-up")
        held = before.get(pid, size.descriptors)
        if after.get(pid, 0) > held + SPARE:
            wrong.append(f"{size.role} holds {after[pid]} descriptors, {held} before")
        cells = [size.role, pid, megabytes(round(first)), megabytes(max(values)), megabytes(round(last))]
        sheet.row([*cells, f"{grown / first:+.1%}", f"{held} before, {after.get(pid, 0)} after"], [], wrong)


async def filled(scene: Scene) -> None:
    """As many decisions as the router remembers at the most: that memory would grow for half an hour by itself.

    A bound on quality makes the gateway read every one of them; otherwise it reads some ten a second.
    """
    left = MOST + CALLERS
    model, way = WHOLES[0], Way("chat", SWIFT, "routed", "listener", stream=False)
    url = way.url(scene.running)

    async def caller() -> None:
        nonlocal left
        line = Line(url)
        while left > 0:
            left -= 1
            body = way.body(model, prompt=f"Say words, and {left} of them", penstock={"route": {"min_quality": 0.01}})
            wrong = await line.ask(
                request(url, way.path(), body), "chat", stream=False, text=text_of_swift(model).encode()
            )
            if wrong:
                raise RuntimeError(wrong)
        line.close()

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


async def run(scene: Scene, sheet: Sheet, requests: int) -> None:
    """The soak and its table."""
    warm = Soak(scene, 500)
    await warm.run()
    await filled(scene)
    before = await settled(scene, {})
    soak, began = Soak(scene, requests), time.monotonic()
    await soak.run()
    seconds = time.monotonic() - began
    left = await closed(scene)
    after = await settled(scene, before)
    judged(sheet, soak.samples, before, after)
    said = ", ".join(f"{count} {what}" for what, count in soak.counts.most_common())
    print(f"\n  {requests} requests in {seconds:.0f} s, {requests / seconds:.0f}/s: {said}")
    flying = {name: value for name, value in (await in_flight(scene)).items() if value}
    wrong = [f"{count}: {what}" for what, count in soak.wrong.most_common(10)]
    gone = [f"calls are in flight after the end: {flying}"] if flying else []
    sheet.row(["requests", "", "", "", "", "", f"{left:.1f} s to close"], wrong, [*soak.lies, *gone])


def main(given: Options) -> bool:
    """Part 4. quick: a tenth of the requests."""
    with swift_upstream() as swift, scene(given, swift=swift) as built:
        sheet = Sheet("Soak", COLUMNS)
        uvloop.run(run(built, sheet, given.requests // 10 if given.quick else given.requests))
    return sheet.end()
