"""A steady trickle of requests on every way in, and what became of it when something happened to a process.

Above it: `deaths`, `redeploy`. Below it: `hearing`, `scene`. Outside it: what happens to the process.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from tests.faults.hearing import Heard, ask
from tests.faults.judge import truthful
from tests.faults.scene import PRIMARY, Scene
from tests.faults.ways import Lane, Port, Way
from tests.upstream import Fault, text_of

LANES: tuple[Lane, ...] = ("routed", "direct")
PORTS: tuple[Port, ...] = ("listener", "ingress")
DOORS = tuple(Way("chat", PRIMARY, lane, port, stream=True) for lane in LANES for port in PORTS)
"""The four ways in."""

LATE = 5.0
"""Seconds after which an answer counts as none."""


class Asked(NamedTuple):
    """One request: which way, when it began (`time.monotonic()`), and what came."""

    way: Way
    at: float
    heard: Heard

    @property
    def served(self) -> bool:
        """Whether a whole answer came in time."""
        return self.heard.complete and self.heard.seconds <= LATE

    @property
    def ended(self) -> float:
        """When."""
        return self.at + self.heard.seconds


class Trickle:
    """Requests that begin every so often, on each of `ways`, from `start` to `stop`.

    keyed: each has an Idempotency-Key of its own.
    """

    def __init__(self, scene: Scene, every: float, ways: Sequence[Way] = DOORS, *, keyed: bool = False) -> None:
        self._scene = scene
        self._every = every
        self._ways = ways
        self._keyed = keyed
        self._asking: list[asyncio.Task[Asked]] = []
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._drip())

    def well(self, seconds: float) -> bool:
        """Whether all requests that ended in the last so many seconds were served, and some did."""
        since = time.monotonic() - seconds
        ended = [task.result() for task in self._asking if task.done()]
        latest = [each for each in ended if each.ended > since]
        return bool(latest) and all(each.served for each in latest)

    async def stop(self) -> list[Asked]:
        """Begin no more; everything that was asked."""
        assert self._task is not None
        self._task.cancel()
        return list(await asyncio.gather(*self._asking))

    async def _drip(self) -> None:
        number = 0
        while True:
            for way in self._ways:
                form = way._replace(stream=number % 3 > 0)
                headers = {"idempotency-key": uuid.uuid4().hex} if self._keyed else {}
                asking = one(self._scene, form, "steady", timeout=LATE, headers=headers)
                self._asking.append(asyncio.create_task(asking))
            number += 1
            await asyncio.sleep(self._every)


async def one(
    scene: Scene, way: Way, model: str, timeout: float = 40.0, headers: Mapping[str, str] = {}, **more: Any
) -> Asked:
    """One request. headers: beside the usual ones; more: members of its body."""
    at = time.monotonic()
    heard = await ask(
        way.url(scene.running), way.path(), way.dialect, way.body(model, **more), timeout=timeout, headers=headers
    )
    return Asked(way, at, heard)


def recovered(asked: Sequence[Asked], since: float) -> float:
    """Seconds from `since` to the begin of the first request from which on all are served; infinite without one."""
    failed = [each.at for each in asked if not each.served]
    if not failed:
        return 0.0
    later = [each.at for each in asked if each.at > max(failed)]
    return min(later, default=float("inf")) - since


def lies(asked: Sequence[Asked], fault: Fault | None = None) -> list[str]:
    """What is against the rules for every answer (`judge`)."""
    text = text_of(fault or Fault())
    return [found for each in asked for found in truthful(each.heard, text)]


def failures(asked: Sequence[Asked]) -> str:
    """How many were not served, and the first one's reason."""
    bad = [each for each in asked if not each.served]
    if not bad:
        return "none failed"
    heard = bad[0].heard
    why = heard.error or heard.broken or f"{heard.status} after {heard.seconds:.1f} s"
    return f"{len(bad)} failed ({why})"


async def until(condition: Callable[[], object], seconds: float) -> bool:
    """Whether it becomes true within so many seconds."""
    end = time.monotonic() + seconds
    while not await asyncio.to_thread(condition):
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.2)
    return True
