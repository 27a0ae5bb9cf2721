"""A primary that is down for a minute and comes back, with and without a fallback.

Above it: `providers`. Below it: `hearing`, `scene`. Outside it: the other faults.
"""

import asyncio
import time
from typing import NamedTuple

from tests.faults.hearing import Heard, ask
from tests.faults.judge import described, truthful
from tests.faults.scene import Scene
from tests.faults.table import Sheet, counts, span
from tests.faults.ways import Lane, Way, every_way
from tests.upstream import Fault, text_of

NOTICED_WITHIN = 5.0
"""Seconds from the primary's return to its first answer."""

EVERY = 0.25
"""Seconds between two requests."""

AFTER = 8.0
"""Seconds to go on after the return."""


class Told(NamedTuple):
    """One request of an outage: when it began, and what came of it."""

    at: float
    heard: Heard


async def outage(scene: Scene, sheet: Sheet, down: float) -> None:
    """The primary is down for `down` seconds, in both lanes of the gateway."""
    lanes: tuple[Lane, ...] = ("routed", "fallback")
    for lane in lanes:
        way = next(way for way in every_way(lane) if way.stream and not way.translated)
        await _outage(scene, sheet, way, down)


async def _outage(scene: Scene, sheet: Sheet, way: Way, down: float) -> None:
    model = f"outage-{way.lane}"
    scene.upstream.reset()
    body = way.body(model, "steady")

    async def one(at: float) -> Told:
        return Told(at, await ask(way.url(scene.running), way.path(), way.dialect, body))

    async def load(seconds: float) -> list[Told]:
        tasks = []
        for _ in range(round(seconds / EVERY)):
            tasks.append(asyncio.create_task(one(time.monotonic())))
            await asyncio.sleep(EVERY)
        return list(await asyncio.gather(*tasks))

    before = await load(2.0)
    scene.upstream.plan(model, Fault.reset_before_headers(), times=None)
    during = await load(down)
    asked = sum(seen.body["model"] == model for seen in scene.upstream.log().requests) - len(before)
    scene.upstream.reset()
    back = time.monotonic()
    after = await load(AFTER)
    noticed = [told.at + told.heard.seconds - back for told in after if _by_primary(told.heard, way)]
    bad = [told for told in (*before, *after) if not told.heard.complete]
    bad += [told for told in during if not told.heard.complete] if way.lane == "fallback" else []
    wrong = [f"{len(bad)} requests failed: {bad[0].heard.error or bad[0].heard.broken}"] if bad else []
    if not noticed or min(noticed) > NOTICED_WITHIN:
        wrong.append(f"the return was not noticed within {NOTICED_WITHIN:g} s")
    late = [told for told in after if told.at > back + NOTICED_WITHIN and not _by_primary(told.heard, way)]
    if late:
        wrong.append(f"{len(late)} of the requests after that were not the primary's")
    broken = [text for told in (*before, *during, *after) for text in truthful(told.heard, text_of(Fault()))]
    seen = counts("whole" if told.heard.complete else f"refused {told.heard.status}" for told in during)
    cells = [
        f"outage of {down:g} s, noticed after {min(noticed, default=99):.2f} s",
        way.lane,
        way.form,
        f"{len(during)} during it: {seen}",
        asked,
        "",
        "",
        span(told.heard.seconds for told in during),
    ]
    sheet.row(cells, wrong, [f"outage, {described(way)}: {text}" for text in broken])


def _by_primary(heard: Heard, way: Way) -> bool:
    return heard.complete and heard.provider == way.provider.name
