"""Changes by `serve deploy` under load: nothing that was asked may fail, and no stream may be cut.

Above it: `__main__`. Below it: `cluster`, `load`. Outside it: replicas that die.
"""

import asyncio
import copy
import os
import re
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.faults.table import Sheet
from tests.nodes.cluster import ROOT, Cluster, Config, arguments, cluster, configuration
from tests.nodes.load import Door, Streams, Trickle, balanced, doors, lies, listeners, one, ways, where

CROWD = 100
LENGTH = 40.0
"""Streams that are under way when a change begins, and the seconds that each takes."""

PACKAGES = ("actors", "deployments", "pipelines")
_LOST = re.compile(r"left with (\d+) connections unaccepted")


class Step:
    """One change: its name, what it does to the configuration, and how one sees from outside that it holds."""

    def __init__(
        self, name: str, change: Callable[[Config], None], holds: Callable[[], object], *replaced: str
    ) -> None:
        self.name = name
        self.change = change
        self.holds = holds
        self.replaced = replaced
        """Applications of which no process may be left; of the others all must be."""


def places(penstock: Cluster) -> list[Door]:
    """Every way in: listener, ingress routed and direct, the provider's own listener."""
    addresses = [worker.address for worker in penstock.workers]
    ingress = doors(addresses, ingress=True, direct=True)[len(addresses) :]
    return [*balanced(doors(addresses)), *ingress, *balanced(listeners(addresses))]


def archive(directory: Path) -> str:
    """The code as a zip with another version in it; its URI."""
    tree = directory / "release"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
    gateway = tree / "deployments" / "gateway.py"
    gateway.write_text(gateway.read_text().replace('                "Penstock",', '                "Penstock 2",'))
    router = tree / "actors" / "routing" / "router.py"
    router.write_text(router.read_text() + "\n# Another version: the actor is replaced too.\n")
    file = directory / "release-2.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(tree.rglob("*")):
            packed.write(path, Path("release") / path.relative_to(tree))
    os.chmod(file, 0o644)
    return f"file://{file}"


def steps(penstock: Cluster) -> list[Step]:
    """The changes, one after the other."""
    uri = archive(penstock.directory)

    def patience(config: Config) -> None:
        arguments(config, "alpha")["timeouts"] = {"total": 601.0}

    def code(config: Config) -> None:
        for application in config["applications"]:
            application["runtime_env"] = {"working_dir": uri}

    def added(config: Config) -> None:
        more = copy.deepcopy(next(one for one in config["applications"] if one["name"] == "beta"))
        more["name"], more["route_prefix"] = "gamma", "/gamma"
        more["args"]["name"], more["args"]["listen"]["port"] = "gamma", 8103
        config["applications"].append(more)

    def removed(config: Config) -> None:
        config["applications"] = [one for one in config["applications"] if one["name"] != "gamma"]

    def live(config: Config) -> None:
        alias = {"quickest": ["alpha/fast?tokens=6&first=20&gap=10"]}
        gateway = next(one for one in config["applications"] if one["name"] == "gateway")
        gateway["deployments"] = [{"name": "Gateway", "user_config": {"aliases": alias, "policy": "fast"}}]

    return [
        Step("a changed provider", patience, lambda: True, "alpha"),
        Step("new code, the router's too", code, lambda: _title(penstock) == "Penstock 2", "gateway", "alpha", "beta"),
        Step("a new provider", added, lambda: "gamma" in penstock.providers()),
        Step("a removed provider", removed, lambda: not penstock.replicas("gamma")),
        Step("aliases, by user_config", live, lambda: "quickest" in _models(penstock)),
    ]


def _title(penstock: Cluster) -> str:
    found = penstock.page("/openapi.json") or {}
    return str(found.get("info", {}).get("title"))


def _models(penstock: Cluster) -> set[str]:
    return {one["id"] for one in (penstock.page("/v1/models") or {}).get("data", ())}


async def step(penstock: Cluster, sheet: Sheet, change: Step) -> None:
    """One change under load."""
    place = places(penstock)
    apps = ("gateway", "alpha", "beta")
    before = {name: await asyncio.to_thread(penstock.replicas, name) for name in apps}
    crowd = Streams(place, CROWD, tokens=int(LENGTH / 0.2), gap=200, timeout=120.0)
    trickle = Trickle(place, 0.5)
    own = 10 if "removed" in change.name else 0
    leaving = Streams(doors([penstock.workers[0].address]), own, tokens=150, gap=200, prefix="gamma/", timeout=120.0)
    await asyncio.sleep(4.0)
    config = copy.deepcopy(penstock.config)
    change.change(config)
    began = time.monotonic()
    await asyncio.to_thread(penstock.deploy, config)

    def done() -> bool:
        now = {name: penstock.replicas(name) for name in change.replaced}
        return all(now[name] and not now[name] & before[name] for name in now) and bool(change.holds())

    await asyncio.to_thread(penstock.until, done, change.name)
    await asyncio.to_thread(penstock.settled)
    seconds = time.monotonic() - began
    ended = await crowd.ended()
    asked = await trickle.stop()
    kept = [name for name in apps if name not in change.replaced]
    restarted = [name for name in kept if await asyncio.to_thread(penstock.replicas, name) != before[name]]
    wrong = [f"{name} was restarted" for name in restarted]
    wrong += [] if all(each.served for each in ended) else ["streams are cut"]
    sheet.row([change.name, f"{len(ended)} streams: {ways(ended)}", f"{seconds:.1f} s"], wrong, lies(ended))
    wrong = where(asked, began)
    sheet.row(["  new requests meanwhile", ways(asked), f"{len(asked)}"], wrong, lies(asked))
    if gone := await leaving.ended():
        wrong = [] if all(each.served for each in gone) else ["its streams are cut"]
        sheet.row(["  the removed one's own streams", ways(gone), f"{len(gone)}"], wrong, lies(gone))


def resets(penstock: Cluster) -> int:
    """Connections that leaving listeners have reset, by their logs."""
    logs = penstock.directory.glob("*/logs/*")
    texts = (log.read_text(errors="replace") for log in logs if log.is_file())
    return sum(int(found) for text in texts for found in _LOST.findall(text))


async def run(penstock: Cluster, sheet: Sheet) -> None:
    """All changes; then what leaving listeners say of themselves."""
    for change in steps(penstock):
        await step(penstock, sheet, change)
    alias = await one(doors([penstock.workers[0].address])[0], model="quickest")
    sheet.row(["the new alias", alias.way, ""], [] if alias.served else ["the alias does not answer"])
    lost = resets(penstock)
    sheet.row(["connections that leaving listeners reset", f"{lost}", f"{lost}"], ["resets"] if lost else [])


def main(sheet: Sheet) -> None:
    """Two workers, two replicas of the gateway and of alpha."""
    config = configuration(gateway=2, alpha=2)
    # Serve would replace the replicas once where it is added to an application that has a runtime_env.
    config["applications"][0]["deployments"] = [{"name": "Gateway", "user_config": {}}]
    # The ingresses of other machines hear of a leaving replica some time after its own.
    with cluster(2, config, RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S="10") as penstock:
        asyncio.run(run(penstock, sheet))
