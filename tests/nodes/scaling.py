"""Replicas by the streams in flight: more under load, fewer after it, and no stream is cut by either.

Above it: `__main__`. Below it: `cluster`, `load`.
Outside it: the policy as a function (`tests.deployments.test_scaling`).
"""

import asyncio
import time
from functools import partial

from tests.faults.table import Sheet
from tests.nodes.cluster import Cluster, arguments, cluster, configuration
from tests.nodes.load import Door, Streams, Trickle, doors, lies, ways

TARGET, MOST = 20, 3
UP, DOWN = 3.0, 6.0
"""Streams on a replica, replicas at most; seconds of Serve's delays."""

CROWD = 60
LENGTH = 45.0
"""Streams, and the seconds that each takes."""


async def run(penstock: Cluster, sheet: Sheet) -> None:
    """Load by one half of the crowd on the own listener and one on the ingress; then a few long streams only."""
    place = doors(penstock.gateways()[:1], ingress=True)
    began = time.monotonic()
    crowd = Streams(place, CROWD, tokens=int(LENGTH / 0.1), gap=100, timeout=120.0)
    trickle = Trickle(place[:1], 0.5)
    seen = dict.fromkeys(("gateway", "alpha"), 1)
    grown: dict[str, float] = {}
    while time.monotonic() - began < LENGTH and len(grown) < 2:
        for name in seen:
            seen[name] = max(seen[name], len(await asyncio.to_thread(penstock.replicas, name)))
            if seen[name] >= MOST:
                grown.setdefault(name, time.monotonic() - began)
        await asyncio.sleep(0.5)
    for name, count in seen.items():
        wrong = [] if count == MOST else [f"{name} has {count} replicas, not {MOST}"]
        sheet.row(["up under load", f"{name}: 1 to {count} replicas", f"{grown.get(name, 0):.1f} s"], wrong)
    lasting = Streams(await _everywhere(penstock), 12, tokens=600, gap=100, timeout=120.0)
    ended = await crowd.ended()
    wrong = [] if all(each.served for each in ended) else ["streams are lost while replicas are added"]
    sheet.row(["the crowd", ways(ended), f"{max(each.heard.seconds for each in ended):.1f} s"], wrong, lies(ended))
    freed = time.monotonic()
    kept = await lasting.ended()
    meanwhile = await trickle.stop()
    for name in seen:
        small = partial(_single, penstock, name)
        await asyncio.to_thread(penstock.until, small, f"one replica of {name} is left", 120.0)
        sheet.row(["down after it", f"{name}: to 1 replica", f"{time.monotonic() - freed:.1f} s"], [])
    wrong = [] if all(each.served for each in kept) else ["long streams are cut by shrinking"]
    sheet.row(["long streams across the shrinking", ways(kept), f"{len(kept)}"], wrong, lies(kept))
    wrong = [] if all(each.served for each in meanwhile) else ["requests fail"]
    sheet.row(["new requests meanwhile", ways(meanwhile), f"{len(meanwhile)}"], wrong, lies(meanwhile))


def _single(penstock: Cluster, name: str) -> bool:
    return len(penstock.replicas(name)) == 1


async def _everywhere(penstock: Cluster) -> list[Door]:
    return doors(await asyncio.to_thread(penstock.gateways))


def main(sheet: Sheet) -> None:
    """One worker for everything: what counts here are replicas."""
    config = configuration()
    scaling = {"max_replicas": MOST, "target_in_flight": TARGET, "upscale_delay": UP, "downscale_delay": DOWN}
    for name in ("gateway", "alpha"):
        arguments(config, name)["autoscaling"] = scaling
    with cluster(1, config) as penstock:
        asyncio.run(run(penstock, sheet))
