"""The head away: its GCS alone, then the whole machine; with Redis behind it both come back.

Above it: `__main__`. Below it: `cluster`, `load`. Outside it: workers (`losing`).
"""

import asyncio
import copy
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.table import Sheet
from tests.nodes.cluster import Cluster, cluster, configuration
from tests.nodes.load import Streams, Trickle, doors, lies, listeners, one, ways, where

CROWD = 100
LENGTH = 60.0
"""Streams, and the seconds that each takes."""

AWAY = 15.0
"""Seconds without a head, at least; it then takes its time to start."""


async def away(penstock: Cluster, sheet: Sheet, name: str, *, whole: bool) -> None:
    """Streams and requests while the head is away, and after it is back."""
    addresses = [worker.address for worker in penstock.workers]
    place = doors(addresses, ingress=True, direct=True) + listeners(addresses[:1])
    crowd = Streams(place, CROWD, tokens=int(LENGTH / 0.2), gap=200, timeout=180.0)
    await asyncio.sleep(5.0)
    trickle = Trickle(place, 0.5)
    await asyncio.sleep(3.0)
    back = await asyncio.to_thread(_kill, penstock, whole)
    gone = time.monotonic()
    await asyncio.sleep(AWAY)
    await asyncio.to_thread(back)
    await asyncio.to_thread(penstock.until, lambda: penstock.nodes() == len(addresses) + 1, "the head knows the nodes")
    there = time.monotonic()
    await asyncio.to_thread(penstock.settled)
    settled = time.monotonic()
    ended = await crowd.ended()
    await asyncio.sleep(3.0)
    asked = await trickle.stop()
    wrong = [] if all(each.served for each in ended) else ["streams are cut"]
    sheet.row([f"{name}: streams", ways(ended), f"{there - gone:.1f} s away"], wrong, lies(ended))
    for when, part in (
        ("while it is away", [each for each in asked if gone <= each.at < there]),
        ("once it is back", [each for each in asked if each.at >= there]),
    ):
        wrong = where(part, gone)
        sheet.row([f"  new requests {when}", ways(part), f"{len(part)}"], wrong, lies(part))
    sheet.figure(["  every application says RUNNING", "", f"{settled - there:.1f} s"])
    await _deploys(penstock, sheet, f"after-{'machine' if whole else 'gcs'}")


def _kill(penstock: Cluster, whole: bool) -> Callable[[], object]:
    """Kill the head or its GCS; returns what brings it back."""
    if whole:
        penstock.head.kill()
        return lambda: penstock.boot(penstock.head)
    gcs = penstock.head.processes("gcs_server")[0]
    words = Path(f"/proc/{gcs.pid}/environ").read_bytes().decode(errors="replace").split("\0")
    environment = dict(word.split("=", 1) for word in words if "=" in word)
    # Without the GCS two processes of Ray's dashboard spin on 1.7 cores: the head's own, where it is a machine.
    penstock.head.yields("dashboard")
    penstock.head.kill("gcs_server")
    log = penstock.directory / "gcs-again.log"
    return lambda: penstock.start(penstock.head, gcs.command, environment, log)


async def _deploys(penstock: Cluster, sheet: Sheet, alias: str) -> None:
    """Whether the control plane works: a changed alias."""
    config = copy.deepcopy(penstock.config)
    gateway = next(each for each in config["applications"] if each["name"] == "gateway")
    gateway["deployments"] = [{"name": "Gateway", "user_config": {"aliases": {alias: ["alpha/fast"]}}}]
    began = time.monotonic()
    await asyncio.to_thread(penstock.deploy, config)
    await asyncio.to_thread(penstock.until, lambda: _answers(penstock, alias), f"the alias {alias}")
    asked = await one(doors([penstock.workers[0].address])[0], model=alias)
    wrong = [] if asked.served else ["it does not answer"]
    sheet.row(["  a change by `serve deploy` afterwards", asked.way, f"{time.monotonic() - began:.1f} s"], wrong)


def _answers(penstock: Cluster, alias: str) -> bool:
    return any(one["id"] == alias for one in (penstock.page("/v1/models") or {}).get("data", ()))


async def run(penstock: Cluster, sheet: Sheet) -> None:
    """The one after the other."""
    await away(penstock, sheet, "the GCS is killed", whole=False)
    await away(penstock, sheet, "the head's machine dies", whole=True)


def main(sheet: Sheet) -> None:
    """Two workers; the ledger's actor dies with the head, so answers do not wait for it."""
    config = configuration(gateway=2, alpha=2)
    for application in config["applications"]:
        application["args"]["ledger"] = {"when_away": "continue"}
    with cluster(2, config, redis=True, RAY_gcs_rpc_server_reconnect_timeout_s="600") as penstock:
        asyncio.run(run(penstock, sheet))
