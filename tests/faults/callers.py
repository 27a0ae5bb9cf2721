"""Part 2, the caller: who leaves in whatever phase leaves nothing behind.

Above it: `__main__`. Below it: `slow`, `odd`, `hearing`, `measure`. Outside it: faults of providers.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from tests.clients import BrokenBody, Caller, request_bytes
from tests.cluster.doors import NAMES, Door, authorized, client, door
from tests.faults import odd, slow
from tests.faults.measure import MEGABYTE, Size, megabytes, sizes, total
from tests.faults.scene import LONG, Options, Scene, scene
from tests.faults.table import Sheet, percentile
from tests.upstream import Fault

COLUMNS = (("case", 44), ("where", 16), ("count", -7), ("what was seen", 78), ("seconds", -8))

TOGETHER = 50
"""Callers at once."""

BATCH = 1000
"""Callers between two looks at the upstream."""

SILENT, ENDLESS, SHORT = "silent", "endless", "short"
"""Models: one that says nothing, one without end, one of eight words."""

CLOSED_WITHIN = 2.0
"""Seconds from the last caller's leaving to the end of the last upstream connection that is busy."""

POOLED = 32.0
"""Seconds after which idle connections to providers are closed (`transport.KEEPALIVE_SECONDS`)."""

SETTLED_WITHIN = 30.0
"""Seconds more until descriptors are back."""

SPARE = 4
"""Descriptors that a process may hold more: a poll or an announcement that is under way."""

HAPROXY_SPARE = 50
"""HAProxy keeps idle connections to its servers and pipes between sockets: as many as were ever in use at once."""

MEMORY = 20 * MEGABYTE
"""Growth of one process over all disconnects."""

GAUGES = ("penstock_provider_in_flight", "penstock_provider_queued")

Leave = Callable[[Caller, Door, random.Random], Awaitable[None]]


async def in_headers(caller: Caller, at: Door, source: random.Random) -> None:
    """Leaves before the headers are whole."""
    raw = request_bytes("POST", at.chat, headers=authorized(), length=500)
    await caller.send(raw[: source.randrange(1, len(raw) - 2)])


async def in_body(caller: Caller, at: Door, source: random.Random) -> None:
    """Leaves before the body is whole."""
    raw = request_bytes("POST", at.chat, headers=authorized(), body=b'{"model": "m"', length=5000)
    await caller.send(raw)
    await asyncio.sleep(source.uniform(0, 0.01))


async def at_once(caller: Caller, at: Door, source: random.Random) -> None:
    """Leaves right behind the request, before anybody has read it."""
    await caller.request("POST", at.chat, at.body(source.choice((SILENT, ENDLESS))), headers=authorized())


async def in_silence(caller: Caller, at: Door, source: random.Random) -> None:
    """Leaves while the first token is waited for, streamed or not."""
    stream = source.random() < 0.7
    await caller.request("POST", at.chat, at.body(SILENT, stream=stream), headers=authorized())
    await asyncio.sleep(source.uniform(0.005, 0.1))


async def in_stream(caller: Caller, at: Door, source: random.Random) -> None:
    """Leaves after a few words."""
    await at.ask(caller, ENDLESS)
    for _ in range(source.randrange(1, 6)):
        await caller.frame()


async def at_the_end(caller: Caller, at: Door, source: random.Random) -> None:
    """Leaves about the time at which the answer ends."""
    await at.ask(caller, SHORT, stream=source.random() < 0.5)
    await asyncio.sleep(source.uniform(0, 0.005))


PHASES: dict[str, Leave] = {
    "in its headers": in_headers,
    "in its body": in_body,
    "right behind the request": at_once,
    "before the first token": in_silence,
    "in mid-stream": in_stream,
    "at the end": at_the_end,
}


async def leave(scene: Scene, number: int, seen: Counter[str]) -> None:
    """One caller who comes and leaves; its number decides how."""
    source = random.Random(number)
    at = door(scene.running, NAMES[number % len(NAMES)], source.choice(("primary", "second")))
    phase = source.choice(list(PHASES))
    seen[phase] += 1
    try:
        async with await Caller.connect(at.url) as caller:
            await PHASES[phase](caller, at, source)
            if source.random() < 0.3:
                caller.reset()
    except (BrokenBody, OSError, TimeoutError) as error:
        seen[f"failed: {type(error).__name__}"] += 1


def plan(scene: Scene) -> None:
    """What the upstream does with the models here."""
    scene.upstream.reset()
    scene.upstream.plan(SILENT, Fault.never_answer(), times=None)
    scene.upstream.plan(ENDLESS, Fault.without_end(gap=0.05), times=None)


async def closed(scene: Scene) -> float:
    """Seconds until no upstream connection is busy; CLOSED_WITHIN and more if it never happens."""
    began = time.monotonic()
    while time.monotonic() - began < 3 * CLOSED_WITHIN:
        if not scene.upstream.log().busy_connections:
            return time.monotonic() - began
        await asyncio.sleep(0.02)
    return 3 * CLOSED_WITHIN


async def disconnects(scene: Scene, sheet: Sheet, count: int) -> None:
    """So many callers who leave; then nothing of them may be left anywhere."""
    plan(scene)
    await _batch(scene, range(200), Counter())
    before, memory = await settled(scene, {}), sizes(scene)
    seen: Counter[str] = Counter()
    waits, began = [], time.monotonic()
    for start in range(0, count, BATCH):
        plan(scene)
        await _batch(scene, range(start, min(count, start + BATCH)), seen)
        waits.append(await closed(scene))
    seconds = time.monotonic() - began
    wrong = [f"{n} callers {what}" for what, n in seen.items() if what.startswith("failed")]
    late = [f"an upstream connection outlives its caller by {max(waits):.1f} s"] if max(waits) > CLOSED_WITHIN else []
    text = f"the last upstream connection closed after {percentile(waits, 0.5):.2f} s, at most {max(waits):.2f} s"
    sheet.row(["callers leave", "everywhere", count, text, f"{seconds:.1f}"], wrong, late)
    for phase in PHASES:
        sheet.figure([f"  {phase}", "", seen[phase], "", ""])
    await _left(scene, sheet, before, memory)


async def _batch(scene: Scene, numbers: range, seen: Counter[str]) -> None:
    waiting = iter(numbers)

    async def worker() -> None:
        for number in waiting:
            await leave(scene, number, seen)

    await asyncio.gather(*(worker() for _ in range(TOGETHER)))


async def settled(scene: Scene, before: dict[int, int]) -> dict[int, int]:
    """The descriptors of each process, once idle connections are closed and they are no more than before."""
    await asyncio.sleep(POOLED)
    end = time.monotonic() + SETTLED_WITHIN
    last: dict[int, int] = {}
    while time.monotonic() < end:
        now = {pid: size.descriptors for pid, size in sizes(scene).items()}
        if now == last and all(count <= before.get(pid, count) + SPARE for pid, count in now.items()):
            break
        last = now
        await asyncio.sleep(4.0)
    return last


async def _left(scene: Scene, sheet: Sheet, before: dict[int, int], memory: dict[int, Size]) -> None:
    """Descriptors, memory and calls that are left over, a line a process that callers reach."""
    began = time.monotonic()
    after = await settled(scene, before)
    grown = sizes(scene)
    for pid, count in after.items():
        size = grown.get(pid)
        if size is None or size.role not in {*scene.running._ports, "haproxy", "RouterActor", "Router"}:
            continue
        text = f"{before.get(pid, 0)} descriptors before, {count} after; {megabytes(size.memory)} of memory"
        spare = HAPROXY_SPARE if size.role == "haproxy" else SPARE
        left = [f"{count - before[pid]} descriptors too many"] if count > before.get(pid, count) + spare else []
        if pid in memory and size.memory > memory[pid].memory + MEMORY:
            left.append(f"grown by {megabytes(size.memory - memory[pid].memory)}")
        wrong = [f"{size.role}: {text}" for text in left]
        sheet.row([f"what is left in {size.role}", str(pid), "", text, f"{time.monotonic() - began:.1f}"], [], wrong)
    flying = await in_flight(scene)
    wrong = [f"{name} says {value}" for name, value in flying.items() if value]
    seen = f"{sum(flying.values()):g} in flight or queued at {len(flying) // 2} providers"
    sheet.row(["calls in flight by /metrics", "", "", seen, ""], [], wrong)


async def in_flight(scene: Scene) -> dict[str, float]:
    """What the metrics say of calls that run or wait, by metric and provider, once it is all zero or 5 s later."""
    found: dict[str, float] = {}
    async with client(scene.running.listener()) as http:
        for _ in range(25):
            lines = (await http.get("/metrics")).text.splitlines()
            wanted = [
                line for line in lines if line.startswith(("penstock_provider_in_flight", "penstock_provider_queued"))
            ]
            found = {name: float(value) for name, _, value in (line.rpartition(" ") for line in wanted)}
            if not any(found.values()):
                break
            await asyncio.sleep(0.2)
    return {name.removeprefix("penstock_provider_"): value for name, value in found.items()}


async def run(scene: Scene, sheet: Sheet, only: str, quick: bool) -> None:
    """All cases whose name holds `only`."""
    if only in "disconnects":
        await disconnects(scene, sheet, 1000 if quick else 10_000)
    await odd.run(scene, sheet, only)
    await slow.run(scene, sheet, only, quick)
    sheet.figure(["memory of all processes at the end", "", "", megabytes(total(scene)), ""])


def main(given: Options) -> bool:
    """Part 2. quick: a tenth of the disconnects."""
    with scene(given, timeouts=LONG) as built:
        sheet = Sheet("Callers that misbehave", COLUMNS)
        asyncio.run(run(built, sheet, given.only, given.quick))
    return sheet.end()
