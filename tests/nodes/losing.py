"""A machine that dies under streams, and one that is cut off and comes back.

Above it: `__main__`. Below it: `cluster`, `load`. Outside it: the head (`heads`), processes that die alone
(`tests.faults`).
"""

import asyncio
import re
import time
from collections.abc import Sequence

from pipelines.routing.table import ANNOUNCEMENT_LIFETIME
from tests.faults.table import Sheet
from tests.nodes.cluster import Cluster, cluster, configuration
from tests.nodes.load import LATE, PATH, Asked, Door, Streams, Trickle, doors, lies, listeners, recovered, ways
from tests.nodes.machines import Machine, ip
from tests.upstream import Fault

CROWD = 200
NAMES = ("ends in an error", "may be gone on with")
END_LIMIT, NEW_LIMIT = 2.0, 5.0
"""Seconds after we know of it: to the last stream's end; to the first new request from which on all succeed."""

SHORT, LONG = 3.0, 20.0
"""Seconds for which a machine is cut off: less than anybody notices, and more than Serve waits for a replica."""

_SOCKET = re.compile(r"^\S+\s+\S+\s+(\S+):(\d+)\s+(\S+):\d+\s+.*pid=(\d+)")


def crossings(penstock: Cluster) -> tuple[int, int]:
    """Connections of the hop right now: within a machine, and from one to another."""
    within = across = 0
    for machine in penstock.workers:
        providers = {*machine.replicas("alpha"), *machine.replicas("beta")}
        listening = _ports(machine, providers)
        said = ip("netns", "exec", machine.name, "ss", "-Htnp", "state", "established")
        for found in filter(None, map(_SOCKET.match, said.splitlines())):
            if int(found[4]) in providers and int(found[2]) in listening:
                within += found[3].endswith(machine.address)
                across += not found[3].endswith(machine.address)
    return within, across


def _ports(machine: Machine, pids: set[int]) -> set[int]:
    """Ports on the machine's own address at which these processes listen: those of the hop."""
    said = ip("netns", "exec", machine.name, "ss", "-Htlnp", "src", machine.address)
    return {
        int(found[1])
        for line in said.splitlines()
        if (found := re.search(r":(\d+)\s", line)) and any(f"pid={pid}," in line for pid in pids)
    }


def crowd(penstock: Cluster, addresses: Sequence[str], seconds: float) -> list[Streams]:
    """Half of the streams may be gone on with by `beta`, half may not."""
    penstock.upstream.plan("long", Fault.answer(int(seconds / 0.1), gap=0.1), times=None)
    penstock.upstream.plan("rest", Fault.answer(int(seconds / 0.1), gap=0.005), times=None)
    continued = {"penstock": {"recovery": "continue"}, "models": ["beta/rest"]}
    return [
        Streams(doors(addresses), CROWD // 2, named="long", timeout=120.0, max_tokens=1000, **more)
        for more in ({}, continued)
    ]


def told(sheet: Sheet, name: str, asked: Sequence[Asked], since: float, limit: float) -> None:
    """A line on how streams ended, and by when those did that did not end whole."""
    late = [each.ended - since for each in asked if not each.served]
    wrong = [f"the last broken one ended after {max(late):.1f} s"] if late and max(late) > limit else []
    figure = f"{max(late):.2f} s" if late else "-"
    sheet.row([name, ways(asked), figure], wrong, lies(asked))


def trickle_at(places: Sequence[Door], patience: float = LATE) -> Trickle:
    """Short requests there."""
    return Trickle(places, 0.5, patience, named="short")


async def death(penstock: Cluster, sheet: Sheet) -> None:
    """SIGKILL to everything on a worker, while streams run through all of them."""
    victim = penstock.workers[-1]
    living = [worker for worker in penstock.workers if worker is not victim]
    places = doors([worker.address for worker in living], ingress=True, direct=True)
    places += listeners([worker.address for worker in living if worker.replicas("alpha")])
    halves = crowd(penstock, penstock.gateways(), 30.0)
    await asyncio.sleep(6.0)
    within, across = await asyncio.to_thread(crossings, penstock)
    wrong = [] if across else ["no hop crosses machines"]
    sheet.row(["hops from machine to machine", f"{across} of {within + across} connections", f"{across}"], wrong)
    trickle = trickle_at(places)
    await asyncio.sleep(3.0)
    at = time.monotonic()
    victim.kill()
    for name, streams in zip(NAMES, halves, strict=True):
        told(sheet, f"a machine dies: {name}", await streams.ended(), at, END_LIMIT)
    await asyncio.sleep(5.0)
    fresh(sheet, "  new requests", await trickle.stop(), at)
    again = time.monotonic()
    await asyncio.to_thread(penstock.boot, victim)
    await _whole(penstock)
    seen = "its node is alive, every application runs"
    sheet.figure(["  the machine is back", seen, f"{time.monotonic() - again:.1f} s"])


def fresh(sheet: Sheet, name: str, asked: Sequence[Asked], since: float) -> None:
    """A line for each door on the new requests there."""
    for place in dict.fromkeys(each.door for each in asked):
        mine = [each for each in asked if each.door == place]
        seconds = recovered(mine, since)
        late = [f"new requests fail until {seconds:.1f} s"] if seconds > NEW_LIMIT else []
        where = place.url.removeprefix("http://") + place.path.removesuffix(PATH)
        slow = [each for each in mine if not each.served or each.heard.seconds > LATE]
        when = ", ".join(f"{each.at - since:.1f}+{each.heard.seconds:.1f}" for each in slow)
        seen = ways(mine) + (f"; late or failed, asked at + took: {when} s" if when else "")
        sheet.row([f"{name}, {where}", seen, f"{seconds:.2f} s"], late, lies(mine))


async def _whole(penstock: Cluster) -> None:
    """Until Ray has all nodes, and Serve all that it should have."""
    await asyncio.to_thread(penstock.until, lambda: penstock.nodes() == len(penstock.workers) + 1, "all nodes")
    await asyncio.to_thread(penstock.settled)


async def partition(penstock: Cluster, sheet: Sheet, seconds: float) -> None:
    """The link of a worker with both kinds of replicas is cut for so long; nobody is told."""
    kinds = ("gateway", "alpha")
    victim = next(worker for worker in penstock.workers if all(map(worker.replicas, kinds)))
    living = [worker.address for worker in penstock.workers if worker is not victim and worker.replicas("gateway")]
    halves = crowd(penstock, living, 40.0)
    inside = Streams(doors([victim.address]), 20, named="long", timeout=120.0, max_tokens=1000)
    await asyncio.sleep(6.0)
    trickle = trickle_at(doors(living), patience=15.0)
    await asyncio.sleep(2.0)
    at = time.monotonic()
    victim.link(False)
    await asyncio.sleep(seconds)
    victim.link(True)
    name = f"cut off for {seconds:g} s"
    for kind, streams in zip(NAMES, halves, strict=True):
        told(sheet, f"{name}: {kind}", await streams.ended(), at + ANNOUNCEMENT_LIFETIME, END_LIMIT)
    kept = await inside.ended()
    wrong = [] if seconds > SHORT or all(each.served for each in kept) else ["a short cut breaks streams"]
    sheet.row(["  streams through the cut", ways(kept), f"{seconds:g} s"], wrong, lies(kept))
    fresh(sheet, "  new requests elsewhere", await trickle.stop(), at + ANNOUNCEMENT_LIFETIME)
    await _whole(penstock)
    back = await Streams(doors(await asyncio.to_thread(penstock.gateways)), 12, named="short").ended()
    wrong = [] if all(each.served for each in back) else ["not all gateways serve after it"]
    sheet.row(["  requests everywhere after it", ways(back), f"{time.monotonic() - at - seconds:.1f} s"], wrong)


async def run(penstock: Cluster, sheet: Sheet) -> None:
    """The one after the other."""
    await death(penstock, sheet)
    await partition(penstock, sheet, SHORT)
    await partition(penstock, sheet, LONG)


def main(sheet: Sheet) -> None:
    """Three workers, each with a gateway and most of them with both providers."""
    with cluster(3, configuration(simulated=False, patient=False, gateway=3, alpha=3, beta=2)) as penstock:
        asyncio.run(run(penstock, sheet))
