"""Streams and trickles of requests at several addresses, and what became of them.

Above it: the scenarios. Below it: `tests.faults.hearing`. Outside it: what happens to the machines.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from tests.faults.hearing import Heard, ask
from tests.nodes.cluster import ALPHA, BETA, GATEWAY, INGRESS, KEY

LATE = 5.0
"""Seconds after which an answer to a short request counts as none."""

PATH = "/v1/chat/completions"


class Door(NamedTuple):
    """A way in: a base URL, a path, what comes before the model's name there.

    spare: another machine's URL for a connection that is refused, as a balancer has it: an own listener is only where a
    replica is.
    """

    url: str
    path: str = PATH
    prefix: str = "alpha/"
    spare: str = ""


def doors(addresses: Sequence[str], *, ingress: bool = False, direct: bool = False) -> list[Door]:
    """The ways in at these machines: the gateway's listener, and where wanted the ingress and the direct lane."""
    found = [Door(f"http://{address}:{GATEWAY}") for address in addresses]
    if ingress:
        found += [Door(f"http://{address}:{INGRESS}") for address in addresses]
    if ingress and direct:
        found += [Door(f"http://{address}:{INGRESS}", f"/alpha{PATH}", "") for address in addresses]
    return found


def listeners(addresses: Sequence[str], provider: str = "alpha") -> list[Door]:
    """A provider's own listeners at these machines."""
    port = ALPHA if provider == "alpha" else BETA
    return [Door(f"http://{address}:{port}", prefix="") for address in addresses]


class Asked(NamedTuple):
    """One request: where, when it began (`time.monotonic()`), what came."""

    door: Door
    at: float
    heard: Heard

    @property
    def served(self) -> bool:
        """Whether a whole answer came."""
        return self.heard.complete and not self.heard.wrong

    @property
    def ended(self) -> float:
        """When."""
        return self.at + self.heard.seconds

    @property
    def way(self) -> str:
        """How it ended, in a word."""
        heard = self.heard
        if self.served:
            return "whole"
        if heard.error or heard.status >= 400:
            return f"error ({heard.error or heard.status})"
        return f"broken transfer ({heard.broken[:60]})" if heard.broken else f"untold end: {heard}"

    @property
    def told(self) -> bool:
        """Whether a caller knows how it ended: a whole answer, an error, a transfer that is visibly broken."""
        return not self.way.startswith("untold")


async def one(door: Door, *, tokens: int = 6, gap: int = 10, timeout: float = 40.0, **more: Any) -> Asked:
    """One stream of so many of the simulator's tokens, `gap` milliseconds apart.

    more: members of the body; `prefix` in place of the door's, `named` in place of the simulator's model.
    """
    prefix = more.pop("prefix", door.prefix)
    name = more.pop("named", f"fast?tokens={tokens}&first=20&gap={gap}")
    body = {"model": prefix + name, "stream": True, "messages": [{"role": "user", "content": "Say words"}], **more}
    at = time.monotonic()
    heard = await ask(door.url, door.path, "chat", body, key=KEY, timeout=timeout)
    if door.spare and "Connect call failed" in heard.broken:
        heard = await ask(door.spare, door.path, "chat", body, key=KEY, timeout=timeout)
    return Asked(door, at, heard)


def balanced(doors: Sequence[Door]) -> list[Door]:
    """The same ways in, each with the next one's machine as its spare."""
    return [door._replace(spare=doors[(number + 1) % len(doors)].url) for number, door in enumerate(doors)]


class Streams:
    """`count` streams, spread over `doors`, that begin at once."""

    def __init__(self, doors: Sequence[Door], count: int, **settings: Any) -> None:
        self._tasks = [asyncio.create_task(one(doors[n % len(doors)], **settings)) for n in range(count)]

    async def ended(self) -> list[Asked]:
        """All of them, at their ends."""
        return list(await asyncio.gather(*self._tasks))


class Trickle:
    """Short requests that begin every `every` seconds at each door, from its making to `stop`."""

    def __init__(self, doors: Sequence[Door], every: float = 0.5, patience: float = LATE, **settings: Any) -> None:
        self.doors = list(doors)
        self._every = every
        self._patience = patience
        self._settings = settings
        self._asked: list[asyncio.Task[Asked]] = []
        self._task = asyncio.create_task(self._drip())

    async def _drip(self) -> None:
        while True:
            for door in self.doors:
                asking = one(door, timeout=self._patience, **self._settings)
                self._asked.append(asyncio.create_task(asking))
            await asyncio.sleep(self._every)

    async def stop(self) -> list[Asked]:
        """Begin no more; everything that was asked."""
        self._task.cancel()
        return list(await asyncio.gather(*self._asked))


def ways(asked: Sequence[Asked]) -> str:
    """How many ended how."""
    counted = Counter(each.way for each in asked)
    return ", ".join(f"{count} {way}" for way, count in counted.most_common()) or "none"


def lies(asked: Sequence[Asked]) -> list[str]:
    """What no caller may see: an end that says nothing, a whole answer with another text than its fellows."""
    texts = {each.heard.words for each in asked if each.served}
    found = [f"different whole texts: {sorted(map(len, texts))} characters"] if len(texts) > 1 else []
    whole = max(texts, key=len, default="")
    broken = [each for each in asked if whole and not each.served and not whole.startswith(each.heard.words)]
    if broken:
        found.append(f"{len(broken)} broken answers are no beginning of the whole one")
    return found + [each.way for each in asked if not each.told]


def recovered(asked: Sequence[Asked], since: float) -> float:
    """Seconds from `since` to the begin of the first request from which on all were served in time."""
    failed = [each.at for each in asked if not each.served or each.heard.seconds > LATE]
    later = [each.at for each in asked if not failed or each.at > max(failed)]
    return max(0.0, min(later, default=float("inf")) - since) if failed else 0.0


def where(asked: Sequence[Asked], since: float) -> list[str]:
    """For each door at which something failed: how, and when it was asked, in seconds from `since`."""
    failed: dict[tuple[str, str], list[float]] = {}
    for each in asked:
        if not each.served:
            failed.setdefault((each.door.url + each.door.path, each.way), []).append(each.at - since)
    return [f"{door}: {way}: {', '.join(f'{at:.1f}' for at in when)} s" for (door, way), when in failed.items()]
