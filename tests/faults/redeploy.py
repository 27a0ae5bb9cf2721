"""A redeploy of every application under streams: none may be lost.

Above it: `deaths`. Below it: `watch`, `serve deploy`. Outside it: processes that die.
"""

import asyncio
import tempfile
import time
from pathlib import Path

import yaml

from tests.cluster.test_operation import deploy
from tests.faults.scene import PROVIDERS, Scene
from tests.faults.table import Sheet
from tests.faults.watch import DOORS, Trickle, failures, lies, one, recovered, until
from tests.upstream import Fault

STREAMS = 100
LONGEST = 120.0
"""Seconds until new replicas have taken over."""


def changed(scene: Scene) -> Path:
    """The configuration that runs with one more alias, and a second more patience, in a new file."""
    config = yaml.safe_load((scene.running.state / "serve_config.yaml").read_text())
    for application in config["applications"]:
        if application["name"] == "gateway":
            application["args"]["aliases"] = {"steadiest": ["primary/steady"]}
        elif application["name"] in {provider.name for provider in PROVIDERS}:
            application["args"]["timeouts"]["total"] = 601.0
    file = Path(tempfile.mkdtemp(dir=scene.running.state), "changed.yaml")
    file.write_text(yaml.safe_dump(config))
    return file


async def redeploy(scene: Scene, sheet: Sheet, quick: bool) -> None:
    """`serve deploy` of a changed configuration, as the README has it, while streams run on all four ways in."""
    fault = Fault.answer(100 if quick else 300, gap=0.1)
    scene.upstream.plan("long", fault, times=None)
    names = ["gateway", *(provider.name for provider in PROVIDERS)]
    before = {pid for name in names for pid in scene.replicas(name)}
    streams = [asyncio.create_task(one(scene, DOORS[n % 4], "long")) for n in range(STREAMS)]
    trickle = Trickle(scene, 0.25)
    trickle.start()
    await asyncio.sleep(2.0)
    began = time.monotonic()
    await asyncio.to_thread(deploy, scene.running, changed(scene))

    def replaced() -> bool:
        now = [set(scene.replicas(name)) for name in names]
        return all(len(pids) >= 2 and not pids & before for pids in now)

    done = await until(replaced, LONGEST)
    seconds = time.monotonic() - began
    ended = await asyncio.gather(*streams)
    await asyncio.sleep(1.0)
    meanwhile = await trickle.stop()
    for way in DOORS:
        mine = [each for each in ended if each.way == way]
        whole = sum(each.heard.complete for each in mine)
        where = f"{way.port}-{way.lane}"
        lost = [f"{where}: {len(mine) - whole} streams are lost: {failures(mine)}"] if whole < len(mine) else []
        lasted = max(each.heard.seconds for each in mine)
        cells = ["redeploy under streams", where, len(mine), f"{whole} whole", f"{lasted:.1f}"]
        wrong = [] if done else [f"not replaced after {LONGEST:g} s"]
        sheet.row(cells, wrong, [*lost, *lies(mine, fault)])
        new = [each for each in meanwhile if (each.way.lane, each.way.port) == (way.lane, way.port)]
        wrong = [f"new requests fail until {recovered(new, began):.1f} s"] if recovered(new, began) else []
        cells = [f"new requests meanwhile, replaced after {seconds:.1f} s", where, len(new), failures(new), ""]
        sheet.row(cells, wrong, lies(new))
