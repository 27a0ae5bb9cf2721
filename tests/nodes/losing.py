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
from tests.nodes.load import Asked, Streams, Trickle, doors, lies, listeners, recovered, ways
from tests.nodes.machines import Machine, ip

CROWD = 200
END_LIMIT, NEW_LIMIT = 2.0, 5.0
"""Seconds after we know of it: to the last stream's end; to the first new request from which on all succeed."""

AWAY = 8.0
"""Seconds for which a machine is cut off: less than Ray takes to give a node up."""

_SOCKET = re.compile(r"^\S+\s+\S+\s+(\S+):(\d+)\s+(\S+):\d+\s+.*pid=(\d+)")


def crossings(penstock: Cluster) -> tuple[int, int]:
    """Connections of the hop right now: within a machine, and from one to another."""
    within = across = 0
    for machine in penstock.workers:
        providers = {*machine.replicas("alpha"), *machine.replicas("beta")}
        listening = _ports(machine, providers)
        said = ip("netns", "exec", machine.name, "ss", "-Htnp", "state", "connected")
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


def crowd(addresses: Sequence[str], seconds: float, timeout: float) -> list[Streams]:
    """Half of the streams may be gone on with by `beta`, half may not."""
    settings = {"tokens": int(seconds / 0.1), "gap": 100, "timeout": timeout}
    spare = {"models": [f"beta/fast?tokens={settings['tokens']}&first=20&gap=5"]}
    continued = {"penstock": {"recovery": "continue"}, **spare}
    places = doors(addresses)
    return [Streams(places, CROWD // 2, **settings, **more) for more in ({}, continued)]


def told(sheet: Sheet, name: str, asked: Sequence[Asked], since: float, limit: float) -> None:
    """A line on how streams ended, and by when those did that did not end whole."""
    late = [each.ended - since for each in asked if not each.served]
    wrong = [f"the last broken one ended after {max(late):.1f} s"] if late and max(late) > limit else []
    figure = f"{max(late):.2f} s" if late else "-"
    sheet.row([name, ways(asked), figure], wrong, lies(asked))


async def death(penstock: Cluster, sheet: Sheet) -> None:
    """SIGKILL to everything on a worker, while streams run through all of them."""
    victim = penstock.workers[-1]
    living = [worker.address for worker in penstock.workers if worker is not victim]
    halves = crowd([worker.address for worker in penstock.workers], 30.0, 90.0)
    places = doors(living, ingress=True, direct=True) + listeners(living)
    await asyncio.sleep(6.0)
    within, across = await asyncio.to_thread(crossings, penstock)
    wrong = [] if across else ["no hop crosses machines"]
    sheet.row(["hops from machine to machine", f"{across} of {within + across} connections", f"{across}"], wrong)
    trickle = Trickle(places, 0.5)
    await asyncio.sleep(3.0)
    at = time.monotonic()
    count = victim.kill()
    print(f"    killed {count} processes on {victim.name}", flush=True)
    for name, streams in zip(("ends in an error", "may be gone on with"), halves, strict=True):
        told(sheet, f"a machine dies: {name}", await streams.ended(), at, END_LIMIT)
    await asyncio.sleep(5.0)
    meanwhile = await trickle.stop()
    for place in places:
        mine = [each for each in meanwhile if each.door == place]
        seconds = recovered(mine, at)
        late = [f"new requests fail until {seconds:.1f} s"] if seconds > NEW_LIMIT else []
        sheet.row([f"  new requests, {place.url[7:]}{place.path[:6]}", ways(mine), f"{seconds:.2f} s"], late, lies(mine))
    again = time.monotonic()
    await asyncio.to_thread(penstock.boot, victim)
    await asyncio.to_thread(penstock.until, lambda: penstock.nodes() == len(penstock.workers) + 1, "the node is back")
    await asyncio.to_thread(penstock.settled)
    sheet.figure(["  the machine is back", "its node is alive, every application runs", f"{time.monotonic() - again:.1f} s"])


async def partition(penstock: Cluster, sheet: Sheet) -> None:
    """The link of a worker with a provider's replica is cut for some seconds; nobody is told."""
    victim = next(worker for worker in penstock.workers if worker.replicas("alpha"))
    living = [worker.address for worker in penstock.workers if worker is not victim and worker.replicas("gateway")]
    halves = crowd(living, 40.0, 90.0)
    inside = Streams(doors([victim.address]), 20, tokens=300, gap=100, timeout=90.0)
    await asyncio.sleep(6.0)
    trickle = Trickle(doors(living), 0.5)
    await asyncio.sleep(2.0)
    at = time.monotonic()
    victim.link(False)
    await asyncio.sleep(AWAY)
    victim.link(True)
    back = time.monotonic()
    noticed = at + ANNOUNCEMENT_LIFETIME
    for name, streams in zip(("ends in an error", "may be gone on with"), halves, strict=True):
        told(sheet, f"a machine is cut off: {name}", await streams.ended(), noticed, END_LIMIT)
    kept = await inside.ended()
    sheet.row(["  streams through the cut", ways(kept), f"{AWAY:g} s"], [], lies(kept))
    meanwhile = await trickle.stop()
    seconds = recovered([each for each in meanwhile if each.at < back], noticed)
    late = [f"new requests fail until {seconds:.1f} s"] if seconds > NEW_LIMIT else []
    sheet.row(["  new requests elsewhere", ways(meanwhile), f"{seconds:.2f} s"], late, lies(meanwhile))
    fresh = await Streams(doors([victim.address]), 10).ended()
    wrong = [] if all(each.served for each in fresh) else ["the machine does not serve after it"]
    sheet.row(["  requests at it, after it", ways(fresh), f"{time.monotonic() - back:.1f} s"], wrong, lies(fresh))


async def run(penstock: Cluster, sheet: Sheet) -> None:
    """The one after the other."""
    await partition(penstock, sheet)
    await asyncio.to_thread(penstock.settled)
    await death(penstock, sheet)


def main(sheet: Sheet) -> None:
    """Three workers, each with a gateway and most of them with both providers."""
    with cluster(3, configuration(gateway=3, alpha=3, beta=2)) as penstock:
        asyncio.run(run(penstock, sheet))
