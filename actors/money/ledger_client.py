"""A replica's side of the ledger: rows go out together, and their makers hear when they are durable.

    settle   waits until its rows are durable; they go out at once
    add      does not wait; they go along with the next batch, or after `LEISURE`
    reserve  says that something has begun, and how to make a provisional row of it; one that lasts is announced, so
             that it is settled as estimated if this process dies

While the ledger is away batches are sent again until they arrive: rows have ids, so twice is once. At most `AT_ONCE`
batches are under way; what comes meanwhile is the next one. Once `most_waiting` rows wait, new work is to be refused
(`check`), or goes on without: then rows beyond that number are dropped, counted and logged.

Every call is made outside the context of any request (a call that Ray sees as made while serving a request is
cancelled with that request).

Above it: `deployments`. Below it: `ledger_link`, `pipelines.ledger`. Outside it: what a row says.
"""

import asyncio
import contextlib
import contextvars
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

from actors.money.ledger_link import LedgerConnector, LedgerLink, ledger_connector_to
from actors.money.ledger_place import DEFAULT_PLACE, Place
from pipelines.errors import Overloaded
from pipelines.ledger import LOST, Batch, Row, ids

AT_ONCE = 1
MOST_ROWS = 2_000
"""Rows of one batch."""

PACE = 0.005
"""Seconds from one batch to the next, at least, while something else is under way that may end within them: then both
travel together. Commits are what the ledger costs, and here they are saved with their message and both ends' wake-ups;
who is alone does not wait."""

LONG_SHARE = 0.02
LONG_PACE = 0.025
"""What has lasted long enough to be announced waits for company by so much of the time that it took, at most by so
many seconds: nobody notices, and it is most of what streams cost the ledger."""

LEISURE = 0.25
"""Seconds that a row may wait which nobody waits for."""

ANNOUNCING = 0.1
"""Seconds that something must last to be announced."""

BEAT = 3.0
"""Seconds between two signs of life while something announced is under way; the ledger waits for 15."""

CALL_TIMEOUT = 10.0
REPORT_TIMEOUT = 30.0
"""Seconds for a report; the ledger itself gives it up after 25."""

BACKOFF = (0.05, 1.0)
"""Seconds before the first further try of a batch, doubled with each failure, and at most."""

PATIENCE = 30.0
"""Seconds that `settle` waits where work is refused without the ledger."""

SHORT_PATIENCE = 0.25
"""Seconds that it waits where work goes on without."""

WhenAway = Literal["refuse", "continue"]

_Result = TypeVar("_Result")
_log = logging.getLogger("penstock.ledger")


class _Item(NamedTuple):
    row: Row
    done: "asyncio.Future[bool] | None"


class LedgerClient:
    """One replica's tie to the ledger. reporter: its own name, of this incarnation.

    state_directory, place: where a ledger that has to be started finds its database. most_waiting: rows that are kept
    while it is away. behind: whether rows have been waiting for longer than usual; lost: rows that were dropped;
    arrived: how many are durable, in the order in which they came.
    """

    def __init__(
        self,
        reporter: str,
        state_directory: str = "",
        place: Place = DEFAULT_PLACE,
        *,
        when_away: WhenAway = "refuse",
        most_waiting: int = 2_000,
        connector: LedgerConnector | None = None,
    ) -> None:
        self.reporter = reporter
        self.when_away: WhenAway = when_away
        self.behind = False
        self.lost = 0
        self.arrived = 0
        self._connector = connector or ledger_connector_to(state_directory, place)
        self._most = most_waiting
        self._link: LedgerLink | None = None
        self._linking = asyncio.Lock()
        self._items: deque[_Item] = deque()
        self._leaving = 0
        self._promises: deque[tuple[float, asyncio.Future[bool]]] = deque()
        self._begun: dict[str, tuple[float, Callable[[], Row]]] = {}
        self._announced: dict[str, float] = {}
        self._closed: list[str] = []
        self._sender: asyncio.Task[None] | None = None
        self._warming: asyncio.Task[None] | None = None
        self._batches: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._asleep = True
        self._urgent = False
        self._soon: asyncio.TimerHandle | None = None
        self._spoke = -PACE
        self._failure = ""
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def waiting(self) -> int:
        """Rows that are not durable yet."""
        return len(self._items) + self._leaving

    @property
    def lag(self) -> float:
        """Seconds since the batch that is under way was first sent; 0 where there is none."""
        return self._now() - self._spoke if self._batches else 0.0

    @property
    def latest(self) -> int:
        """The number of the last row that came: it is durable once so many have `arrived`."""
        return self.arrived + self.waiting

    @property
    def full(self) -> bool:
        """Whether no further row is kept."""
        return self.waiting >= self._most

    def check(self) -> None:
        """Raises Overloaded (503) where new work is to be refused."""
        if self.when_away == "refuse" and self.full:
            raise Overloaded("the ledger cannot be written now", status=503, retry_after=1.0)

    def start(self) -> None:
        """Begin to send, on this loop."""
        if self._sender is None:
            self._sender = self.spawn(self._send())
            self._warming = self.spawn(self._warm())

    async def close(self, patience: float = 5.0) -> None:
        """Send what is left, for `patience` seconds, and stop."""
        if self._sender is None:
            return
        until = self._now() + patience
        while self.waiting and self._now() < until:
            self._hurry()
            await asyncio.sleep(0.01)
        self._forget_soon()
        tasks = [self._sender, *self._batches, *([self._warming] if self._warming is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._sender = None
        if self.waiting:
            _log.error("%d rows could not be written before the end", self.waiting)

    def reserve(self, identity: str, provisional: Callable[[], Row]) -> None:
        """Something has begun whose row will have this id."""
        self._begun[identity] = (self._now(), provisional)
        if self._asleep:
            self._wake.set()

    def release(self, identity: str) -> None:
        """It is over; its row comes, if there is one."""
        if self._begun.pop(identity, None) is None and self._announced.pop(identity, None) is not None:
            self._closed.append(identity)

    def add(self, *rows: Row) -> None:
        """Have rows written; nobody waits for them."""
        if self.when_away == "continue" and self.full:
            self._drop(rows)
            return
        for row in rows:
            self._release(row)
            self._items.append(_Item(row, None))
        if self._asleep:
            self._wake.set()

    async def settle(self, *rows: Row) -> bool:
        """Have rows written, and wait until they are durable. False: it goes on without (`when_away`).

        Raises Overloaded (503) where they are not durable within `PATIENCE`; they are still tried then.
        """
        refuse = self.when_away == "refuse"
        if not refuse and (self.behind or self.full):
            self.add(*rows)
            return False
        self.add(*rows[:-1])
        began = self._announced.get(rows[-1].id)
        self._release(rows[-1])
        loop = self._running()
        done: asyncio.Future[bool] = loop.create_future()
        self._items.append(_Item(rows[-1], done))
        now = self._now()
        self._promises.append((now + (PATIENCE if refuse else SHORT_PATIENCE), done))
        if began is None or not (self._begun or self._announced):
            self._hurry()
        elif self._soon is None:
            self._soon = loop.call_later(min(LONG_PACE, (now - began) * LONG_SHARE), self._hurry)
        return await done

    async def report(self, question: bytes) -> bytes:
        """`Ledger.report`. Raises Overloaded (503) where the ledger is away, cannot be read, or takes too long."""
        return await self.spawn(self._called(lambda link: link.report(question), REPORT_TIMEOUT))

    async def keys(self, inquiry: bytes, seconds: float = CALL_TIMEOUT) -> bytes:
        """`Ledger.keys`. Raises Overloaded (503) where there is no answer within so many seconds."""
        return await self.spawn(self._called(lambda link: link.keys(inquiry), seconds))

    async def _called(self, ask: Callable[[LedgerLink], Awaitable[bytes]], seconds: float) -> bytes:
        link = None
        try:
            async with asyncio.timeout(seconds):
                link = await self._connected()
                return await ask(link)
        except Overloaded:
            raise
        except Exception as error:  # Ray raises many classes when an actor is away; each means the same here.
            if self._link is link:
                self._link = None
            raise Overloaded("the ledger does not answer", status=503, retry_after=1.0) from error

    def _release(self, row: Row) -> None:
        for identity in ids(row):
            self.release(identity)

    def _drop(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._release(row)
            self.lost += 1
        if self.lost == 1 or self.lost % 1000 == 0:
            _log.error("the ledger is away and the buffer is full: %d rows are lost", self.lost)

    def _hurry(self) -> None:
        self._urgent = True
        self._forget_soon()
        # With a batch under way nothing can be done: its return wakes the sender.
        if len(self._batches) < AT_ONCE:
            self._wake.set()

    def _forget_soon(self) -> None:
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None

    async def _send(self) -> None:
        while True:
            await self._moment()
            now = self._now()
            if self._urgent and self._begun and not self._batches and now - self._spoke < PACE:
                await asyncio.sleep(self._spoke + PACE - now)
                now = self._now()
            self._give_up(now)
            while len(self._batches) < AT_ONCE and self._due(now):
                self._dispatch(now)

    async def _moment(self) -> None:
        """Until somebody waits; where there is anything at all, a tenth of a second at most."""
        self._asleep = not (self._items or self._begun or self._announced or self._closed or self._promises)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if self._asleep else ANNOUNCING):
                await self._wake.wait()
        self._asleep = False
        self._wake.clear()

    def _due(self, now: float) -> bool:
        if self._urgent and self._items:
            return True
        if now - self._spoke >= LEISURE and (self._items or self._closed):
            return True
        if self._announced and now - self._spoke >= BEAT:
            return True
        oldest = next(iter(self._begun.values()), None)
        return oldest is not None and now - oldest[0] >= ANNOUNCING

    def _dispatch(self, now: float) -> None:
        items = [self._items.popleft() for _ in range(min(MOST_ROWS, len(self._items)))]
        closed, self._closed = self._closed, []
        batch = Batch(self.reporter, tuple(item.row for item in items), self._opened(now), tuple(closed))
        self._urgent = self._urgent and bool(self._items)
        if not self._items:
            self._forget_soon()
        self._leaving += len(items)
        self._spoke = now
        task = self.spawn(self._deliver(msgspec.msgpack.encode(batch), items))
        self._batches.add(task)
        task.add_done_callback(self._arrived)

    def _opened(self, now: float) -> tuple[Row, ...]:
        """What has lasted long enough to be announced, as provisional rows."""
        due: dict[str, float] = {}
        for identity, (began, _) in self._begun.items():
            if now - began < ANNOUNCING or len(due) >= MOST_ROWS:
                break
            due[identity] = began
        self._announced.update(due)
        made = [self._begun.pop(identity)[1]() for identity in due]
        return tuple(msgspec.structs.replace(row, provisional=True, outcome=LOST) for row in made)

    async def _deliver(self, encoded: bytes, items: list[_Item]) -> None:
        """Send one batch until it has arrived."""
        first, longest = BACKOFF
        wait = first
        while True:
            try:
                link = await self._connected()
                async with asyncio.timeout(CALL_TIMEOUT):
                    await link.settle(encoded)
                break
            except Exception as error:
                # Ray raises many classes when an actor is away; each means the same here: find it again.
                self._failed(error)
            await asyncio.sleep(wait)
            wait = min(longest, wait * 2)
        self._leaving -= len(items)
        self.arrived += len(items)
        for item in items:
            if item.done is not None and not item.done.done():
                item.done.set_result(True)
        if self._failure:
            _log.warning("the ledger answers again")
        self._failure, self.behind = "", False

    def _arrived(self, task: "asyncio.Task[None]") -> None:
        self._batches.discard(task)
        self._wake.set()

    def _failed(self, error: Exception) -> None:
        self._link = None
        words = str(error).strip().splitlines() or [type(error).__name__]
        if not self._failure:
            _log.warning("the ledger does not answer, rows are kept here: %s", words[-1])
        self._failure = words[-1]

    def _give_up(self, now: float) -> None:
        """Let those go who have waited for too long."""
        while self._promises and (self._promises[0][1].done() or self._promises[0][0] <= now):
            _, done = self._promises.popleft()
            if done.done():
                continue
            if self.when_away == "refuse":
                done.set_exception(Overloaded("the ledger cannot be written now", status=503, retry_after=1.0))
            else:
                if not self.behind:
                    _log.error("the ledger is behind, answers go on without: %s", self._failure)
                self.behind = True
                done.set_result(False)

    async def _warm(self) -> None:
        """Find the ledger, or start it, before anybody waits for it."""
        with contextlib.suppress(Exception):
            await self._connected()

    async def _connected(self) -> LedgerLink:
        async with self._linking:
            if self._link is None:
                self._link = await self._connector()
            return self._link

    def _now(self) -> float:
        return self._running().time()

    def _running(self) -> asyncio.AbstractEventLoop:
        """The loop that this is used on; to ask asyncio for it is a system call each time (Python 3.11)."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def spawn(self, work: Coroutine[Any, Any, _Result]) -> "asyncio.Task[_Result]":
        """Run `work` in no request's context."""
        return contextvars.Context().run(self._running().create_task, work)
