"""Part 3, Ray: processes that are killed, or stopped like one whose machine hangs.

Above it: `__main__`. Below it: `watch`, `redeploy`. Outside it: faults of providers and callers.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import httpx

from tests.cluster.doors import client
from tests.faults.redeploy import redeploy
from tests.faults.scene import LONG, PRIMARY, PROVIDERS, Options, Scene, scene
from tests.faults.table import Sheet, counts
from tests.faults.watch import DOORS, PORTS, Asked, Trickle, failures, lies, one, recovered, until
from tests.faults.ways import Port, Way
from tests.upstream import Fault

COLUMNS = (("what happens", 48), ("where", 16), ("count", -5), ("what was seen", 84), ("seconds", -8))

REPLICAS = 2
"""Of the gateway and of each provider."""

KILL_LIMIT, STOP_LIMIT = 5.0, 15.0
"""Seconds from a kill, or a stop, to the first new request from which on all succeed."""

STOPPED = 25.0
"""Seconds that a stopped process stays so."""

WATCHED, LONGEST = 8.0, 60.0
"""Seconds of requests after a kill or a stop: at least, and where they fail at most."""

END_LIMIT = 2.0
"""Seconds in which a stream ends whose provider's replica was killed."""

CROWD = 40
"""Streams that are under way."""

EVERY, APART = 0.2, 0.05
"""Seconds between two requests of a trickle on one way in, and of a crowd."""

WAITING = Fault.answer(delay=1.5)
RUNNING = Fault.answer(100, gap=0.05)
LASTING = Fault.answer(400, gap=0.05)


class Target(NamedTuple):
    """A kind of process. unnoticed: its end fails nobody, even at once; ours: an actor, which does not survive a stop;
    keyed: it is only asked where there is an Idempotency-Key."""

    name: str
    find: Callable[[Scene], list[int]]
    unnoticed: bool = False
    ours: bool = False
    keyed: bool = False


def actor(name: str) -> Callable[[Scene], list[int]]:
    """Finds the process of an actor of ours."""
    return lambda scene: [pid for pid in [scene.running.actor(name)] if pid]


TARGETS = (
    Target("a provider's replica", lambda scene: scene.replicas(PRIMARY.name)),
    Target("a gateway's replica", lambda scene: scene.replicas("gateway")),
    Target("the router actor", actor("Router"), unnoticed=True, ours=True),
    Target("the ledger actor", actor("Ledger"), ours=True),
    Target("the replays actor", actor("Replays"), ours=True, keyed=True),
    Target("the Serve controller", lambda scene: scene.named("ray::ServeController"), unnoticed=True),
    Target("HAProxy", lambda scene: scene.holders(scene.running.port)),
)


async def healthy(scene: Scene, seconds: float = 90.0) -> bool:
    """Whether all is there within so many seconds: replicas, in the table too, other processes, the ways in."""

    def complete() -> bool:
        names = [name for name in scene.running._ports if name != "simulator"]
        replicas = all(len(scene.replicas(name)) == REPLICAS for name in names)
        return replicas and all(target.find(scene) for target in TARGETS)

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if await until(complete, end - time.monotonic()) and await listed(scene):
            asked = await asyncio.gather(*(one(scene, way, "steady", 5.0) for way in DOORS * 4))
            if all(each.served for each in asked):
                return True
        await asyncio.sleep(0.5)
    return False


async def listed(scene: Scene) -> bool:
    """Whether the gateway knows of every replica of the providers."""
    try:
        async with client(scene.running.listener()) as http:
            found = {entry["name"]: entry["replicas"] for entry in (await http.get("/v1/providers")).json()["data"]}
    except httpx.HTTPError:
        return False
    return all(found.get(provider.name) == REPLICAS for provider in PROVIDERS)


def struck(scene: Scene, target: Target, number: signal.Signals) -> int:
    """Send a signal to one process of a kind; its id. HAProxy's may be on its way out, for it reloads by a new one."""
    while True:
        for pid in target.find(scene):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
            return pid
        time.sleep(0.05)


async def killed(scene: Scene, sheet: Sheet, target: Target) -> None:
    """SIGKILL under a trickle of requests."""
    trickle = Trickle(scene, EVERY, keyed=target.keyed)
    trickle.start()
    await asyncio.sleep(1.0)
    at, _ = time.monotonic(), struck(scene, target, signal.SIGKILL)
    await asyncio.sleep(WATCHED)
    await until(lambda: trickle.well(WATCHED / 2), LONGEST - WATCHED)
    judge(sheet, f"SIGKILL of {target.name}", target, await trickle.stop(), at, KILL_LIMIT)


async def stopped(scene: Scene, sheet: Sheet, target: Target) -> None:
    """SIGSTOP under a trickle of requests; SIGCONT afterwards, if it is still there."""
    trickle = Trickle(scene, EVERY, keyed=target.keyed)
    trickle.start()
    await asyncio.sleep(1.0)
    at, pid = time.monotonic(), struck(scene, target, signal.SIGSTOP)
    try:
        await asyncio.sleep(STOPPED)
        asked = await trickle.stop()
    finally:
        try:
            os.kill(pid, signal.SIGCONT)
            stayed = True
        except ProcessLookupError:
            stayed = False
    fate = "it was still there" if stayed else "it had been replaced"
    judge(sheet, f"SIGSTOP of {target.name}, {fate}", target, asked, at, STOP_LIMIT, stayed=stayed)


def judge(
    sheet: Sheet, what: str, target: Target, asked: Sequence[Asked], at: float, limit: float, *, stayed: bool = False
) -> None:
    """A line for each way in. stayed: the process survived."""
    for way in DOORS:
        mine = [each for each in asked if (each.way.lane, each.way.port) == (way.lane, way.port)]
        seconds = recovered(mine, at)
        slowest = max((each.heard.seconds for each in mine if each.served), default=0.0)
        seen = f"{failures(mine)}; the slowest of the others took {slowest:.2f} s"
        wrong = [f"new requests fail for {seconds:.1f} s"] if seconds > limit else []
        if not wrong and target.unnoticed and seconds:
            wrong = ["nobody should have noticed"]
        if target.ours and stayed:
            wrong.append("it should have been replaced")
        sheet.row([what, f"{way.port}-{way.lane}", len(mine), seen, f"{seconds:.1f}"], wrong, lies(mine))


async def crowd(
    scene: Scene, port: Port, fault: Fault, victim: int, after: float, number: int = signal.SIGKILL, **options: Any
) -> tuple[list[Asked], float]:
    """CROWD routed requests for `fault`; the signal to `victim` so many seconds behind the last.

    Returns what came of each, and when the signal was sent.
    """
    scene.upstream.reset()
    model = f"crowd-{time.monotonic_ns()}"
    scene.upstream.plan(model, fault, times=None)
    ways = [Way("chat", PRIMARY, "routed", port, stream=bool(n % 4) or fault is not WAITING) for n in range(CROWD)]
    asking = []
    for way in ways:
        asking.append(asyncio.create_task(one(scene, way, model, **options)))
        # Streams begin apart: a burst may all go to the replica that was the less loaded a second ago.
        await asyncio.sleep(0.0 if fault is WAITING else APART)
    await asyncio.sleep(after)
    os.kill(victim, number)
    at = time.monotonic()
    return list(await asyncio.gather(*asking)), at


async def before_output(scene: Scene, sheet: Sheet, port: Port) -> None:
    """A provider's replica dies while its callers wait for the first token."""
    pid = scene.replicas(PRIMARY.name)[0]
    asked, _ = await crowd(scene, port, WAITING, pid, 0.7)
    failed = [each for each in asked if not each.heard.complete]
    wrong = [f"{len(failed)} visible failures"] if failed else []
    longest = max(each.heard.seconds for each in asked)
    cells = [
        "SIGKILL of a provider's replica before output",
        f"{port}-routed",
        CROWD,
        failures(asked),
        f"{longest:.1f}",
    ]
    sheet.row(cells, wrong, lies(asked, WAITING))


async def in_mid_stream(scene: Scene, sheet: Sheet, port: Port, recovery: str) -> None:
    """A provider's replica dies in mid-stream."""
    pid = scene.replicas(PRIMARY.name)[0]
    asked, at = await crowd(scene, port, RUNNING, pid, 0.5, penstock={"recovery": recovery})
    whole = [each for each in asked if each.heard.complete]
    ended = [each for each in asked if not each.heard.complete and each.heard.error]
    rest = len(asked) - len(whole) - len(ended)
    wrong = [f"{rest} ended without an error that is said"] if rest else []
    late = max((each.ended - at for each in ended), default=0.0)
    if late > END_LIMIT:
        wrong.append(f"a terminal error came only after {late:.1f} s")
    if not ended and recovery == "error":
        wrong.append("none was on the killed replica")
    seen = f"{len(whole)} whole, {len(ended)} end in an error ({counts(each.heard.error for each in ended)})"
    what = f"the same in mid-stream, recovery: {recovery}"
    sheet.row([what, f"{port}-routed", CROWD, seen, f"{late:.2f}"], wrong, lies(asked, RUNNING))


async def hung(scene: Scene, sheet: Sheet, port: Port) -> None:
    """A provider's replica stops in mid-stream and stays open: the streams on it end all the same."""
    pid = scene.replicas(PRIMARY.name)[0]
    try:
        asked, at = await crowd(scene, port, LASTING, pid, 0.5, signal.SIGSTOP)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    whole = [each for each in asked if each.heard.complete]
    ended = [each for each in asked if not each.heard.complete and each.heard.error]
    late = max((each.ended - at for each in ended), default=0.0)
    wrong = [f"a terminal error came only after {late:.1f} s"] if late > STOP_LIMIT else []
    rest = len(asked) - len(whole) - len(ended)
    wrong += [f"{rest} ended without an error that is said"] if rest else []
    seen = f"{len(whole)} whole, {len(ended)} end in an error ({counts(each.heard.error for each in ended)})"
    cells = ["SIGSTOP of a provider's replica in mid-stream", f"{port}-routed", CROWD, seen, f"{late:.2f}"]
    sheet.row(cells, wrong if ended else [*wrong, "none was on the stopped replica"], lies(asked, LASTING))


async def socket_holder(scene: Scene, sheet: Sheet, port: Port) -> None:
    """The gateway's replica dies that holds the callers' sockets: visibly broken, never a clean end."""
    pid = scene.replicas("gateway")[0]
    asked, at = await crowd(scene, port, RUNNING, pid, 0.5)
    whole = [each for each in asked if each.heard.complete]
    broken = [each for each in asked if each.heard.broken]
    rest = len(asked) - len(whole) - len(broken)
    wrong = [f"{rest} were neither whole nor visibly broken"] if rest else []
    late = max((each.ended - at for each in broken), default=0.0)
    seen = f"{len(whole)} whole, {len(broken)} transfers are broken ({counts(each.heard.broken for each in broken)})"
    cells = ["SIGKILL of the gateway's replica in mid-stream", f"{port}-routed", CROWD, seen, f"{late:.2f}"]
    sheet.row(cells, wrong if broken else [*wrong, "none was on the killed replica"], lies(asked, RUNNING))


async def run(scene: Scene, sheet: Sheet, only: str, quick: bool) -> None:
    """All cases whose name holds `only`."""

    async def case(name: str, made: Callable[[], Awaitable[None]]) -> None:
        if only not in name:
            return
        if not await healthy(scene):
            sheet.row(
                [f"before {name}", "", "", "not everything is there 90 s after the last case", ""], ["not healthy"]
            )
        scene.upstream.reset()
        await made()

    for port in PORTS:
        await case(f"kill before output {port}", partial(before_output, scene, sheet, port))
        for recovery in ("error", "continue"):
            await case(f"kill mid-stream {port}", partial(in_mid_stream, scene, sheet, port, recovery))
        await case(f"kill socket holder {port}", partial(socket_holder, scene, sheet, port))
    for target in TARGETS:
        await case(f"kill {target.name}", partial(killed, scene, sheet, target))
    for port in PORTS:
        await case(f"stop in mid-stream {port}", partial(hung, scene, sheet, port))
    for target in TARGETS:
        await case(f"stop {target.name}", partial(stopped, scene, sheet, target))
    await case("redeploy", partial(redeploy, scene, sheet, quick))


def main(given: Options) -> bool:
    """Part 3. quick: shorter streams through the redeploy."""
    with scene(given, replicas=REPLICAS, timeouts=LONG) as built:
        sheet = Sheet("Processes that die or hang", COLUMNS)
        asyncio.run(run(built, sheet, given.only, given.quick))
    return sheet.end()
