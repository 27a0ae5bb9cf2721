"""The ledger actor: one mailbox in front of the database, one commit for all who wait.

Replicas send batches of rows; a batch is acknowledged once it is committed, with whatever else came in the meantime.
A batch that is sent twice counts once, so whoever hears nothing sends it again. Reservations of a reporter that has
been silent for `LEASE` seconds become rows as they are: estimated, and `lost`.

Above it: `directory` (finding it), `ledger_client` (talking to it). Below it: `ledger_store`, `pipelines.ledger`. It
imports no ray: it is wrapped where it is started. Nor does it import a database before it is made: every replica knows
the class, and only the actor's own process needs what is below it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

import msgspec

import pipelines
from actors.clock import SteadyClock
from actors.money.ledger_place import DEFAULT_PLACE, Place
from actors.shelf import Pieces
from actors.version import code_of
from pipelines.errors import ConfigurationError, Overloaded
from pipelines.ledger import Batch, RequestRow, Row, ids
from pipelines.ledger_questions import Inquiry

if TYPE_CHECKING:
    from actors.money.key_book import KeyBook
    from actors.money.ledger_store import LedgerStore

MOST_AT_ONCE = 5_000
"""Rows of one transaction, about."""

MOST_WAITING = 50_000
"""Rows that may wait here; whoever has more keeps them."""

LEASE = 15.0
"""Seconds of silence after which a reporter with reservations has died."""

TICK = 1.0
"""Seconds between two looks at the leases, and at what other clusters have done."""

REMEMBERED = 25_000
"""Ids of rows, at least, that are known to be there without asking the database; twice as many at most."""

_log = logging.getLogger("penstock.ledger")
_batches = msgspec.msgpack.Decoder(Batch)
_pieces = msgspec.msgpack.Decoder(Pieces)
_inquiries: msgspec.msgpack.Decoder[Inquiry] = msgspec.msgpack.Decoder(Inquiry)


def code_version(place: Place = DEFAULT_PLACE) -> str:
    """A name for the code that the actor runs, and for where its database is."""
    code = code_of(__file__, pipelines)
    return code if place == DEFAULT_PLACE else f"{code} {place.variable} {place.file}"


class _Waiting(NamedTuple):
    batch: Batch
    done: "asyncio.Future[None]"


class Ledger:
    """The actor's class, undecorated: it runs on any event loop.

    state_directory: where the SQLite file is, unless `place` says where else the database is. preceded is of no use
    here. clock gives seconds since 1970; store: in place of the one that follows from `place`.
    """

    def __init__(
        self,
        state_directory: str,
        preceded: bool = False,
        place: Place = DEFAULT_PLACE,
        *,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        store: "LedgerStore | None" = None,
    ) -> None:
        # Now, and not when the first caller waits for his row.
        from actors.money import ledger_store  # noqa: F401

        self._directory = state_directory
        self._place = place
        self._clock = clock or SteadyClock()
        self._sleep = sleep
        self._version = code_version(place)
        self._store = store
        self._book: KeyBook | None = None
        self._opening = asyncio.Lock()
        self._committing = asyncio.Lock()
        self._waiting: list[_Waiting] = []
        self._rows = 0
        self._some = asyncio.Event()
        # Two generations: to drop the first key of a dict looks past all that were dropped before it.
        self._known: set[str] = set()
        self._known_before: set[str] = set()
        self._leases: dict[str, float] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def version(self) -> str:
        """The code that runs here (`code_version`)."""
        return self._version

    async def settle(self, batch: bytes) -> None:
        """Take a batch (an encoded Batch) in; returns when it is committed.

        Raises Overloaded where the database cannot be written now, ConfigurationError where it cannot be found.
        """
        self._start()
        said = _batches.decode(batch)
        if said.opened or said.reporter in self._leases:
            self._leases[said.reporter] = self._clock()
        if not (said.rows or said.opened or said.closed):
            return
        if self._rows >= MOST_WAITING:
            raise Overloaded("the ledger has too much to write", status=503, retry_after=1.0)
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(said, done))
        self._rows += len(said.rows) + len(said.opened)
        self._some.set()
        await done

    async def report(self, question: bytes) -> bytes:
        """What an encoded Inquiry asks for, encoded: of a Question a list of dicts, of a RowsQuestion Rows, of a
        StoryQuestion a Story, of an Expiry and an Erasure, which take rows out, Erased.

        Raises Overloaded where the database cannot be read now, or the answer takes too long.
        """
        from sqlalchemy.exc import SQLAlchemyError

        from actors.money.ledger_answers import answered

        try:
            return await answered(await self._ready(), _inquiries.decode(question))
        except (SQLAlchemyError, OSError) as error:
            message = f"the ledger cannot be read: {_words(error)}"
            raise Overloaded(message, status=503, retry_after=1.0) from None

    async def keys(self, inquiry: bytes) -> bytes:
        """What an encoded KeyInquiry asks for (`pipelines.allowance`), encoded. Raises as `settle` does."""
        from sqlalchemy.exc import SQLAlchemyError

        self._start()
        try:
            return await (await self._opened()).answer(inquiry)
        except (SQLAlchemyError, OSError) as error:
            raise _unwritable(error) from None

    async def keep(self, pieces: bytes) -> None:
        """Put what another actor keeps here (encoded `shelf.Pieces`) in its place. Raises as `settle` does."""
        from sqlalchemy.exc import SQLAlchemyError

        from actors.money.ledger_states import put

        said = _pieces.decode(pieces)
        try:
            await (await self._ready()).change(lambda connection: put(connection, said.owner, said.pieces))
        except (SQLAlchemyError, OSError) as error:
            raise _unwritable(error) from None

    async def kept(self, owner: str) -> bytes:
        """All that another actor keeps here, as encoded `shelf.Pieces`. Raises as `settle` does."""
        from sqlalchemy.exc import SQLAlchemyError

        from actors.money.ledger_states import pieces_of

        try:
            found = await (await self._ready()).read(lambda connection: pieces_of(connection, owner))
        except (SQLAlchemyError, OSError) as error:
            raise _unwritable(error) from None
        return msgspec.msgpack.encode(Pieces(owner, found))

    async def close(self) -> None:
        """Stop, for whoever runs this in a process of his own. What waits is not committed."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._store is not None:
            await self._store.close()

    async def sweep(self) -> None:
        """Settle the reservations of those who have died, and take back what they were allowed."""
        now = self._clock()
        if self._book is not None:
            self._book.expire()
        for reporter, heard in list(self._leases.items()):
            if now - heard > LEASE:
                store = await self._ready()
                async with self._committing:
                    count = await store.settle_lost(reporter)
                self._leases.pop(reporter, None)
                if count:
                    _log.warning("%s died: %d entries are settled as estimated", reporter, count)

    def _start(self) -> None:
        """Begin to work at the first call: Ray runs `__init__` before there is a loop."""
        if not self._tasks:
            loop = asyncio.get_running_loop()
            self._tasks = [loop.create_task(self._write()), loop.create_task(self._tick())]

    async def _ready(self) -> "LedgerStore":
        if self._book is None:
            await self._opened()
        assert self._store is not None
        return self._store

    async def _opened(self) -> "KeyBook":
        from actors.money.databases import address
        from actors.money.key_book import KeyBook
        from actors.money.ledger_store import LedgerStore

        async with self._opening:
            if self._store is None:
                self._store = LedgerStore(address(self._place.url(), self._directory))
            if self._book is None:
                await self._store.open()
                for reporter in await self._store.reporters():
                    self._leases.setdefault(reporter, self._clock())
                book = KeyBook(self._store, self._clock)
                await book.open()
                self._book = book
            return self._book

    async def _write(self) -> None:
        while True:
            await self._some.wait()
            # Replicas have gathered their rows; what other ones send meanwhile waits for the next commit.
            await self._sleep(0.0)
            some = self._taken()
            try:
                book = self._book or await self._opened()
                store = await self._ready()
                async with self._committing:
                    await book.recount()
                    await store.settle([self._unknown(waiting.batch) for waiting in some])
            except Exception as error:
                # Whatever it is, those who wait send again, and what is wrong now may not be so then.
                if self._book is not None:
                    self._book.doubt()
                _end(some, _unwritable(error))
            else:
                for waiting in some:
                    for row in waiting.batch.rows:
                        if not row.provisional:
                            self._known.update(ids(row))
                if len(self._known) >= REMEMBERED:
                    self._known_before, self._known = self._known, set()
                _end(some)

    def _taken(self) -> list[_Waiting]:
        """Those that have waited longest, for one transaction."""
        rows = count = 0
        for waiting in self._waiting:
            if rows >= MOST_AT_ONCE:
                break
            rows += len(waiting.batch.rows) + len(waiting.batch.opened)
            count += 1
        some, self._waiting = self._waiting[:count], self._waiting[count:]
        self._rows -= rows
        if not self._waiting:
            self._some.clear()
        return some

    def _unknown(self, batch: Batch) -> Batch:
        """The batch without rows, and attempts in rows, that are there already."""
        known, before = self._known, self._known_before
        if not any(identity in known or identity in before for row in batch.rows for identity in ids(row)):
            return batch
        rows = tuple(self._new(row) for row in batch.rows if not self._knows(row.id))
        return msgspec.structs.replace(batch, rows=rows)

    def _new(self, row: Row) -> Row:
        if isinstance(row, RequestRow) and row.attempt is not None and self._knows(row.attempt.id):
            return msgspec.structs.replace(row, attempt=None)
        return row

    def _knows(self, identity: str) -> bool:
        return identity in self._known or identity in self._known_before

    async def _tick(self) -> None:
        while True:
            try:
                book = await self._opened()
                await self.sweep()
                async with self._committing:
                    await book.follow()
            except Exception as error:
                # The next tick tries again; whoever sends rows hears of it.
                _log.warning("the ledger's keys and reservations cannot be looked at: %s", _words(error))
            await self._sleep(TICK)


def _end(some: Iterable[_Waiting], error: Exception | None = None) -> None:
    for waiting in some:
        if waiting.done.done():
            continue
        if error is None:
            waiting.done.set_result(None)
        else:
            waiting.done.set_exception(error)


def _unwritable(error: Exception) -> Exception:
    """An error that can be pickled, and says neither what was to be written nor where."""
    if isinstance(error, ConfigurationError):
        return error
    return Overloaded(f"the ledger cannot be written: {_words(error)}", status=503, retry_after=1.0)


def _words(error: Exception) -> str:
    """What the database's driver says, without the statement and its values."""
    from sqlalchemy.exc import DBAPIError

    cause = error.orig if isinstance(error, DBAPIError) else error
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    return lines[0][:200]
