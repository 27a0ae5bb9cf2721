"""A replica's side of the router: announces, keeps the latest table, reports outcomes.

Its tasks run outside the context of any request (Ray cancels a call that was made in one with that request):

    greet    the announcement, if there is one, and back come the secret and the keys: every second or two, and at once
             when another router takes over
    watch    a long poll for the next table
    learn    a long poll for the next view of what was learned, where somebody decides by it
    report   every 250 ms, if there is news: what happened, what was decided and counted, and what is under way

Each survives the actor's death on its own: it finds the actor again, with a backoff, and goes on. Meanwhile the
last table, the last keys and up to BUFFER outcomes are kept.

Above it: `deployments`. Below it: `link`, `pipelines.routing.table`. Outside it: what is decided by the table.
"""

import asyncio
import contextlib
import contextvars
import logging
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from itertools import islice
from typing import Any

import msgspec

from actors.routing.link import Connector, RouterLink, connector_to
from pipelines.errors import Overloaded
from pipelines.metering.cluster import Snapshot
from pipelines.metering.meter import Meter
from pipelines.routing.feedback import Said, Verdict
from pipelines.routing.state import SETTLING
from pipelines.routing.table import Announcement, Decided, Outcome, Published, Report, Table, Welcome

ANNOUNCING = 1.0
"""Seconds between two announcements that differ."""

STEADY = 2
"""How many times as long it is between two that do not: they say that the replica is alive."""

REPORTING = 0.25
"""Seconds between two reports."""

QUIET = 4.0
"""Seconds between two reports that say nothing new but the gauges."""

BUFFER = 20_000
"""Outcomes, and decisions, that are kept while the router is away; the oldest go first."""

BATCH = 2_000
"""Outcomes of one report at most."""

CALL_TIMEOUT = 5.0
"""Seconds after which a short call to the router has failed."""

POLL_TIMEOUT = 15.0
"""Seconds after which a long poll has failed: the router itself ends one after 10."""

BACKOFF = (0.05, 1.0)
"""Seconds before the first further try, doubled with each failure, and at most."""

_log = logging.getLogger("penstock.client")
_tables = msgspec.msgpack.Decoder(Table)
_welcomes = msgspec.msgpack.Decoder(Welcome)
_views = msgspec.msgpack.Decoder(Published)
_verdicts = msgspec.msgpack.Decoder(Verdict)
_snapshots = msgspec.msgpack.Decoder(Snapshot)


class RouterClient:
    """One replica's tie to the router.

    reporter: this replica's own name. state_directory: where a router that has to be started finds its files.
    announcement: what to announce, asked every time (None: a gateway provides nothing). on_welcome is called on
    the loop with every new welcome, on_table with the table that was kept and the one that takes its place, on_view
    with every view of what was learned (None: it is not asked for). meter: whose numbers go along with the reports.

    table is the latest Table (empty before the first), welcome the latest Welcome (None before the first).
    lost counts outcomes that were dropped because the router was away for too long.
    """

    def __init__(
        self,
        reporter: str,
        state_directory: str = "",
        announcement: Callable[[], Announcement | None] | None = None,
        *,
        on_welcome: Callable[[Welcome], None] | None = None,
        on_table: Callable[[Table, Table], None] | None = None,
        on_view: Callable[[Published], None] | None = None,
        meter: Meter | None = None,
        connector: Connector | None = None,
    ) -> None:
        self.reporter = reporter
        self.table = Table()
        self.welcome: Welcome | None = None
        self.lost = 0
        self._connector = connector or connector_to(state_directory)
        self._announcement = announcement
        self._on_welcome = on_welcome
        self._on_table = on_table
        self._on_view = on_view
        self._meter = meter
        self._outcomes: deque[Outcome] = deque()
        self._decisions: deque[Decided] = deque(maxlen=BUFFER)
        self._in_flight: Counter[tuple[str, str]] = Counter()
        self._link: RouterLink | None = None
        self._linking = asyncio.Lock()
        self._speaking = asyncio.Lock()
        self._welcomed = asyncio.Event()
        self._ready = asyncio.Event()
        self._announcing = False
        self._said: Announcement | None = None
        self._superseded = asyncio.Event()
        self._leaving = False
        self._failure = ""
        self._tasks: list[asyncio.Task[None]] = []
        self._successor = ("", 0.0)
        self._putting_off: asyncio.TimerHandle | None = None

    @property
    def settled(self) -> bool:
        """Whether a settled table has ever come."""
        return self._ready.is_set()

    @property
    def in_flight(self) -> frozenset[tuple[str, str]]:
        """The (provider, model) that this replica is asking right now, as `Ask.in_flight` takes them."""
        return frozenset(self._in_flight)

    async def start(self, timeout: float = 30.0) -> None:
        """Begin, on this loop, and wait for the first welcome; nothing is announced yet.

        Raises Overloaded (503), with the last failure, if the router does not answer within `timeout` seconds.
        """
        if not self._tasks:
            loop = asyncio.get_running_loop()
            jobs = [self._greet, self._watch, self._report]
            for job in jobs if self._on_view is None else [*jobs, self._learn]:
                task = contextvars.Context().run(loop.create_task, self._forever(job))
                self._tasks.append(task)
        await self._wait(self._welcomed, timeout)

    async def first_table(self, timeout: float) -> Table:
        """Wait for the first settled table, in seconds at most `timeout`; raises as `start` does."""
        await self._wait(self._ready, timeout)
        return self.table

    async def announce(self) -> None:
        """Announce at once, and go on with it. A failure is logged; the next second tries again."""
        self._announcing = True
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                await self._speak()
        except Exception as error:
            self._failed(error)

    async def leave(self) -> None:
        """From now on this replica is draining: it is in no table any more. Announced at once."""
        self._leaving = True
        if self._announcing:
            await self.announce()

    def begin(self, provider: str, model: str) -> None:
        """An attempt begins: it is under way until `end`."""
        self._in_flight[provider, model] += 1

    def end(self, outcome: Outcome) -> None:
        """An attempt that began is over; how it went is sent with the next report."""
        key = (outcome.provider, outcome.model)
        self._in_flight[key] -= 1
        if self._in_flight[key] <= 0:
            del self._in_flight[key]
        self.record(outcome)

    def record(self, outcome: Outcome) -> None:
        """How an attempt went that was never counted as under way here."""
        if len(self._outcomes) >= BUFFER:
            self._outcomes.popleft()
            self.lost += 1
        self._outcomes.append(outcome)

    def decided(self, decision: Decided) -> None:
        """A decision that was answered; it is sent with the next report."""
        self._decisions.append(decision)

    async def feedback(self, said: Said) -> Verdict:
        """What becomes of a caller's feedback. Raises what Ray raises where the router is away.

        Its decision may be under way to the router still, from here or from another replica.
        """
        data = msgspec.msgpack.encode(said)
        for _ in range(3):
            async with self._asking() as link:
                verdict = _verdicts.decode(await link.feedback(data))
            if not verdict.missing:
                break
            await asyncio.sleep(REPORTING)
        return verdict

    async def keep(self) -> None:
        """Have the router write down what was learned, now. Raises what Ray raises where the router is away."""
        async with self._asking() as link:
            await link.keep()

    async def standing(self) -> bytes:
        """How the models stand, as an encoded `standing.Standing`. Raises what Ray raises where the router is away."""
        async with self._asking() as link:
            return await link.standing()

    async def metrics(self) -> Snapshot:
        """What the whole cluster has counted. Raises what Ray raises where the router is away."""
        async with self._asking() as link:
            return _snapshots.decode(await link.metrics())

    async def snapshot(self) -> Table:
        """Everything that the router knows at this moment. Raises what Ray raises where it is away."""
        async with self._asking() as link:
            return _tables.decode(await link.snapshot())

    async def close(self) -> None:
        """Send what is left, if the router is there, and stop."""
        tasks, self._tasks = self._tasks, []
        if self._putting_off is not None:
            self._putting_off.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if tasks and self._link is not None:
            with contextlib.suppress(Exception):
                await self._send(self._link)

    async def _forever(self, job: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `job` again whenever it fails, with a backoff that starts afresh after each success in between."""
        first, longest = BACKOFF
        wait = first
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await job()
            except Exception as error:
                # Ray raises many classes when an actor is away; each means the same here: find it again.
                self._failed(error)
            wait = first if loop.time() - began > longest else min(longest, wait * 2)
            await asyncio.sleep(wait)

    def _failed(self, error: Exception) -> None:
        self._link = None
        words = str(error).strip().splitlines() or [type(error).__name__]
        if not self._failure:
            _log.warning("the router does not answer, going on with what is known: %s", words[-1])
        self._failure = words[-1]

    async def _connected(self) -> RouterLink:
        async with self._linking:
            if self._link is None:
                self._link = await self._connector()
            return self._link

    @contextlib.asynccontextmanager
    async def _asking(self) -> AsyncGenerator[RouterLink, None]:
        """The router, for one question that must be answered in time."""
        link = await self._connected()
        async with asyncio.timeout(CALL_TIMEOUT):
            yield link

    async def _wait(self, event: asyncio.Event, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await event.wait()
        except TimeoutError:
            why = f": {self._failure}" if self._failure else ""
            raise Overloaded(f"the router has not answered{why}", status=503, retry_after=1.0) from None

    async def _greet(self) -> None:
        while True:
            await self._speak()
            for _ in range(STEADY):
                if await self._superseded_within(ANNOUNCING) or self._said != self._saying():
                    break

    async def _superseded_within(self, seconds: float) -> bool:
        """Wait so long, or until another router has taken over from the one that was spoken to."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._superseded.wait()
        return self._superseded.is_set()

    def _saying(self) -> Announcement | None:
        """What there is to announce now."""
        said = self._announcement() if self._announcement is not None and self._announcing else None
        if said is not None and self._leaving:
            said = msgspec.structs.replace(said, state="draining")
        return said

    async def _speak(self) -> None:
        """One announcement, or one greeting where there is nothing to announce."""
        link = await self._connected()
        async with self._speaking, asyncio.timeout(CALL_TIMEOUT):
            self._superseded.clear()
            said = self._saying()
            data = await (link.greet(self.reporter) if said is None else link.announce(msgspec.msgpack.encode(said)))
            self._said = said
        welcome = _welcomes.decode(data)
        known, self.welcome = self.welcome, welcome
        if self._meter is not None and known is not None and known.epoch != welcome.epoch:
            self._meter.forget()
        self._failure = ""
        if self._on_welcome is not None and welcome != known:
            self._on_welcome(welcome)
        self._welcomed.set()

    async def _watch(self) -> None:
        """Ask for what is newer than the last table seen, which is not always the one kept: see `_seen`."""
        version, epoch = self.table.version, self.table.epoch
        while True:
            link = await self._connected()
            async with asyncio.timeout(POLL_TIMEOUT):
                data = await link.table(version, epoch)
            if data is not None:
                table = _tables.decode(data)
                if epoch and epoch != table.epoch:
                    self._superseded.set()
                version, epoch = table.version, table.epoch
                self._seen(table)

    def _seen(self, table: Table) -> None:
        """Keep the new table, unless a router that has just begun has not yet heard all that its forerunner knew.

        It may itself not know that there was one, and call its tables settled: they are put off all the same.
        """
        if self._putting_off is not None:
            self._putting_off.cancel()
            self._putting_off = None
        if self.table.epoch and self.table.epoch != table.epoch:
            loop = asyncio.get_running_loop()
            if self._successor[0] != table.epoch:
                self._successor = table.epoch, loop.time() + SETTLING
            if not table.settled:
                return
            if loop.time() < self._successor[1]:
                self._putting_off = loop.call_at(self._successor[1], self._take, table)
                return
        self._take(table)

    def _take(self, table: Table) -> None:
        before, self.table = self.table, table
        if self._on_table is not None:
            self._on_table(before, table)
        if table.settled:
            self._ready.set()

    async def _learn(self) -> None:
        version, epoch = 0, ""
        while True:
            link = await self._connected()
            async with asyncio.timeout(POLL_TIMEOUT):
                data = await link.view(version, epoch)
            if data is not None and self._on_view is not None:
                published = _views.decode(data)
                version, epoch = published.version, published.epoch
                self._on_view(published)

    async def _report(self) -> None:
        loop = asyncio.get_running_loop()
        said: dict[str, dict[str, int]] | None = None
        sent = loop.time()
        while True:
            counts = self._counts()
            news = self._outcomes or self._decisions or counts != said
            if news or loop.time() - sent >= QUIET or (self._meter is not None and self._meter.changed):
                await self._send(await self._connected())
                said, sent = counts, loop.time()
            if len(self._outcomes) < BATCH and len(self._decisions) < BATCH:
                await asyncio.sleep(REPORTING)

    async def _send(self, link: RouterLink) -> None:
        """One report. What may not have arrived is kept: counted twice is better than never."""
        batch = tuple(islice(self._outcomes, BATCH))
        decisions = tuple(islice(self._decisions, BATCH))
        lost = self.lost
        changes = self._meter.changes() if self._meter is not None else None
        measured = changes.encoded if changes is not None else b""
        async with asyncio.timeout(CALL_TIMEOUT):
            await link.report(msgspec.msgpack.encode(Report(self.reporter, batch, self._counts(), decisions, measured)))
        if changes is not None:
            changes.accept()
        for _ in range(len(batch) - (self.lost - lost)):
            self._outcomes.popleft()
        for one in decisions:
            if self._decisions and self._decisions[0] is one:
                self._decisions.popleft()

    def _counts(self) -> dict[str, dict[str, int]]:
        counts: dict[str, dict[str, int]] = {}
        for (provider, model), count in self._in_flight.items():
            counts.setdefault(provider, {})[model] = count
        return counts
