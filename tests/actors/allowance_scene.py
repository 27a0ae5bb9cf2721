"""Three replicas and one ledger, in virtual time: real clients, the real core, and messages that take a while."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from itertools import count

import msgspec

from actors.money.allowance_client import AllowanceClient
from actors.money.ledger_client import LedgerClient, WhenAway
from pipelines.allowance import Allowances, Asked, KeyInquiry, Need
from pipelines.errors import OverBudget, OverLimit
from pipelines.keys import Limits
from tests.actors.virtual_time import run

SLOWEST = 0.005
"""Seconds of a message, at most."""

KEY = "k"

_inquiries: msgspec.msgpack.Decoder[KeyInquiry] = msgspec.msgpack.Decoder(KeyInquiry)


class Owner:
    """The ledger as far as it is asked for allowances. calls: how often it was."""

    def __init__(self, limits: Limits) -> None:
        self.allowances = Allowances()
        self.allowances.limit(KEY, limits)
        self.away = False
        self.calls = 0
        self.random = random.Random(7)

    async def connect(self) -> "Owner":
        return self

    async def settle(self, batch: bytes) -> None:
        await self._message()

    async def report(self, question: bytes) -> bytes:
        raise NotImplementedError

    async def keys(self, inquiry: bytes) -> bytes:
        await self._message()
        self.calls += 1
        asked = _inquiries.decode(inquiry)
        assert isinstance(asked, Asked)
        granted = self.allowances.answer(asked, now())
        await self._message()
        return msgspec.msgpack.encode(granted)

    async def _message(self) -> None:
        await asyncio.sleep(self.random.random() * SLOWEST)
        if self.away:
            raise ConnectionError("nobody there")


def now() -> float:
    return asyncio.get_running_loop().time()


class Replica:
    """One replica's client. admitted: when; refused: how many."""

    def __init__(self, name: str, owner: Owner, limits: Limits, when_away: WhenAway) -> None:
        self.ledger = LedgerClient(name, connector=owner.connect, when_away=when_away)
        self.client = AllowanceClient(self.ledger, now)
        self.limits = limits
        self.admitted: list[float] = []
        self.refused = 0
        self.waits: list[float] = []

    async def ask(self, need: Need) -> bool:
        began = now()
        try:
            await self.client.take(self.client.lease(KEY, self.limits), need)
        except (OverLimit, OverBudget):
            self.refused += 1
            return False
        self.admitted.append(began)
        self.waits.append(now() - began)
        return True

    def end(self, need: Need, tokens: int = 0, nano: int | None = 0) -> None:
        self.client.lease(KEY, self.limits).end(need, tokens, nano, self.ledger.latest, now())


LONGEST = 100_000.0
"""Seconds, virtual ones, that a scene may take: more are of a call that never comes back."""


class Scene:
    """What is played in."""

    def __init__(self, limits: Limits, replicas: int, when_away: WhenAway) -> None:
        self.owner = Owner(limits)
        self.limits = limits
        self.replicas = [Replica(f"r{number}", self.owner, limits, when_away) for number in range(replicas)]
        self.random = random.Random(11)
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def load(self, rate: float, seconds: float, request: Callable[[Replica], Awaitable[None]]) -> None:
        """So many requests a second, at random moments, each at any replica."""
        end = now() + seconds
        for number in count():
            await asyncio.sleep(self.random.expovariate(rate))
            if now() >= end:
                break
            self.begin(request(self.replicas[number % len(self.replicas)]))
        await asyncio.gather(*self._tasks)

    @property
    def admitted(self) -> list[float]:
        return sorted(at for replica in self.replicas for at in replica.admitted)


def play(
    work: Callable[[Scene], Awaitable[None]], limits: Limits, replicas: int = 3, when_away: WhenAway = "refuse"
) -> Scene:
    async def played() -> Scene:
        scene = Scene(limits, replicas, when_away)
        await asyncio.sleep(1000.0)
        try:
            async with asyncio.timeout(LONGEST):
                await work(scene)
        finally:
            for replica in scene.replicas:
                await replica.client.close()
        return scene

    return run(played())
