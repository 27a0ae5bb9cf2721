"""`GET /v1/live`: the cluster as it is, as one stream of server-sent events.

    event: rights     once, first: the rights that the key has
    event: snapshot   every second, for keys with the right `usage`: `metering.window.Figures` of the last seconds, what
                      is in flight, and the same of each provider
    event: requests   rows of requests that have ended since the last time, newest first, as `GET /v1/requests` has them

However many watch, the router and the ledger are asked once a second, and not at all while nobody watches. A reader
who is too slow misses something; he is never waited for.

Above it: `gateway`. Below it: `actors.routing.client`, `actors.money.ledger_client`, `pipelines.metering.window`.
Outside it: the page.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import get_args

import msgspec

from actors.money.ledger_client import LedgerClient
from actors.routing.client import RouterClient
from deployments.pages import ledger_forms
from deployments.visit import STREAMING, Leaving, Visit
from pipelines.calls import Caller
from pipelines.conversation import Json
from pipelines.errors import Overloaded
from pipelines.keys import Right
from pipelines.ledger_questions import Rows, RowsQuestion
from pipelines.metering.cluster import Snapshot
from pipelines.metering.window import of_provider, whole
from pipelines.routing.table import ProviderEntry

PERIOD = 1.0
"""Seconds between two events."""

WINDOW = 10
"""Seconds that the figures are of."""

LONGEST_REQUEST = 600.0
"""Seconds: rows carry the time of a request's beginning, and are looked for as long after it."""

MOST_ROWS = 50
"""Requests of one event; where more have ended, the newest."""

MOST_WATCHERS = 100

SILENCE = b":\n\n"
"""A comment, so that nobody on the way takes the connection for dead."""


class LiveFeed:
    """One gateway replica's stream. leaving: whether the replica is to go, when its readers must look for another."""

    def __init__(self, router: RouterClient, ledger: LedgerClient, leaving: Callable[[], bool]) -> None:
        self._router = router
        self._ledger = ledger
        self._leaving = leaving
        self._feeds: dict[str, _Feed] = {}

    async def answer(self, visit: Visit, caller: Caller) -> bool:
        """Answer a visit to the stream; False where it is to something else. Raises Overloaded for too many."""
        if (visit.method, visit.path) != ("GET", "/v1/live"):
            return False
        if sum(len(feed.readers) for feed in self._feeds.values()) >= MOST_WATCHERS:
            raise Overloaded("too many watch already", status=503, retry_after=10.0)
        scope = "" if caller.may("usage") else caller.id
        feed = self._feeds.get(scope)
        if feed is None:
            feed = self._feeds[scope] = _Feed(self._router, self._ledger, scope)
        reader: asyncio.Queue[bytes] = asyncio.Queue(maxsize=2 * WINDOW)
        feed.add(reader)
        try:
            with Leaving(visit.scope, visit.receive):
                await visit.begin(200, {**STREAMING, "content-type": "text/event-stream"})
                await visit.more(_event("rights", [right for right in get_args(Right) if caller.may(right)]))
                while not self._leaving():
                    try:
                        async with asyncio.timeout(PERIOD):
                            frame = await reader.get()
                    except TimeoutError:
                        frame = SILENCE
                    await visit.more(frame)
                await visit.end()
        finally:
            if feed.remove(reader):
                self._feeds.pop(scope, None)
        return True


class _Feed:
    """What readers of one scope see: everything (""), or one key's requests. It works while there are readers."""

    def __init__(self, router: RouterClient, ledger: LedgerClient, scope: str) -> None:
        self._router = router
        self._ledger = ledger
        self._scope = scope
        self._past: deque[tuple[float, Snapshot]] = deque(maxlen=WINDOW + 1)
        self._shown: dict[str, None] = {}
        self._since = time.time()
        self._task: asyncio.Task[None] | None = None
        self.readers: set[asyncio.Queue[bytes]] = set()

    def add(self, reader: asyncio.Queue[bytes]) -> None:
        """One more reader."""
        self.readers.add(reader)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def remove(self, reader: asyncio.Queue[bytes]) -> bool:
        """He has gone. Returns whether he was the last, with whom the work ends."""
        self.readers.discard(reader)
        if self.readers or self._task is None:
            return False
        self._task.cancel()
        self._task = None
        return True

    async def _run(self) -> None:
        while True:
            if not self._scope:
                await self._say("snapshot", self._snapshot)
            await self._say("requests", self._requests)
            await asyncio.sleep(PERIOD)

    async def _say(self, name: str, make: Callable[[], Awaitable[Json]]) -> None:
        try:
            told = await make()
        except Exception:  # Ray raises many classes when an actor is away; the page shows that nothing comes.
            return
        if told:
            frame = _event(name, told)
            for reader in self.readers:
                if reader.full():
                    reader.get_nowait()
                reader.put_nowait(frame)

    async def _snapshot(self) -> Json:
        snapshot, table = await self._router.metrics(), await self._router.snapshot()
        self._past.append((time.monotonic(), snapshot))
        (then, before), (now, after) = self._past[0], self._past[-1]
        seconds = max(now - then, PERIOD)
        providers = [
            {**_load(entry), **msgspec.to_builtins(of_provider(entry.name, before, after, seconds))}
            for entry in table.providers
        ]
        return {
            "time": time.time(),
            "seconds": round(seconds, 3),
            **msgspec.to_builtins(whole(before, after, seconds)),
            "in_flight": sum(one["in_flight"] for one in providers),
            "queued": sum(one["queued"] for one in providers),
            "providers": providers,
        }

    async def _requests(self) -> Json:
        """Rows that were not there the last time."""
        question = RowsQuestion(since=self._since, key=self._scope, most=MOST_ROWS)
        page = msgspec.msgpack.decode(await self._ledger.report(msgspec.msgpack.encode(question)), type=Rows)
        rows = [ledger_forms.row(page.columns, values) for values in page.rows]
        fresh = [row for row in rows if row["id"] not in self._shown]
        self._shown = dict.fromkeys([*(row["id"] for row in rows), *list(self._shown)[: 20 * MOST_ROWS]])
        self._since = max(self._since, time.time() - LONGEST_REQUEST)
        return fresh


def _event(name: str, told: Json) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(told) + b"\n\n"


def _load(entry: ProviderEntry) -> dict[str, Json]:
    return {
        "name": entry.name,
        "state": entry.state,
        "why": entry.why,
        "replicas": len(entry.replicas),
        "in_flight": entry.in_flight,
        "queued": entry.queued,
        "open_breakers": sum(one.breaker != "closed" for one in entry.performance.values()),
    }
