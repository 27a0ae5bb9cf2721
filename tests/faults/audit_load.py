"""Callers for the audit: each asks again and again, under a request id of its own, and writes down what it heard.

Above it: `audit`. Below it: `hearing`, `ways`. Outside it: who is killed meanwhile; what the ledger says.
"""

import asyncio
import re
import uuid
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from tests.faults.hearing import Heard, ask
from tests.faults.scene import Scene
from tests.faults.ways import Way, every_way
from tests.upstream import Fault, text_of
from tests.upstream.server import Seen

CALLERS = 20
"""At once."""

PATIENCE = 60.0
"""Seconds without a byte after which a caller gives up: longer than the ledger makes anybody wait."""

BREAK = 0.2
"""Seconds after an answer that is not whole."""

MODELS = {
    "brief": Fault.answer(3),
    "short": Fault.answer(9, gap=0.02),
    "middle": Fault.answer(25, gap=0.03),
    "long": Fault.answer(70, gap=0.03),
}
"""What is asked for: the upstream counts a word as a token of output, and every question as 16 of input."""

QUESTION = 16

_MARK = re.compile(rb"audit ([0-9a-f]{32})")


class Asked(NamedTuple):
    """One request: its id, whose key, which model, and what came."""

    id: str
    key: str
    model: str
    way: Way
    heard: Heard

    @property
    def acknowledged(self) -> bool:
        """Whether the caller saw the end of a whole answer."""
        return self.heard.complete and self.heard.words == text_of(MODELS[self.model])


class Load:
    """`CALLERS` callers from `start` to `stop`. keys: id and secret of those whose names they use."""

    def __init__(self, scene: Scene, keys: Sequence[tuple[str, str]]) -> None:
        self.asked: list[Asked] = []
        self._scene = scene
        self._keys = keys
        self._ending = False
        self._callers: list[asyncio.Task[None]] = []
        for model, answer in MODELS.items():
            scene.upstream.plan(model, answer, times=None)

    def start(self) -> None:
        """Begin."""
        self._callers = [asyncio.create_task(self._call(number)) for number in range(CALLERS)]

    async def stop(self) -> list[Asked]:
        """Begin no more; all that was asked, when the last answer has ended."""
        self._ending = True
        await asyncio.gather(*self._callers)
        return self.asked

    async def _call(self, number: int) -> None:
        ways = every_way("direct", "routed")
        while not self._ending:
            one = await self._ask(ways[number % len(ways)], number)
            self.asked.append(one)
            if not one.acknowledged:
                await asyncio.sleep(BREAK)
            number += CALLERS + 1

    async def _ask(self, way: Way, number: int) -> Asked:
        identity = uuid.uuid4().hex
        key, secret = self._keys[number % len(self._keys)]
        model = list(MODELS)[number // 3 % len(MODELS)]
        heard = await ask(
            way.url(self._scene.running),
            way.path(),
            way.dialect,
            way.body(model, prompt=f"audit {identity}"),
            key=secret,
            timeout=PATIENCE,
            headers={"x-request-id": identity},
        )
        return Asked(identity, key, model, way, heard)


def delivered(requests: Iterable[Seen]) -> dict[str, list[bool]]:
    """What the upstream saw, by the id that stands in the question: for each time whether it sent the whole answer."""
    found: dict[str, list[bool]] = {}
    for seen in requests:
        mark = _MARK.search(msgspec.json.encode(seen.body))
        if mark is not None:
            found.setdefault(mark[1].decode(), []).append(seen.whole)
    return found
