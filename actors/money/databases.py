"""SQLite or PostgreSQL, spoken to in the same words: a function of a connection, run in one transaction.

Who only reads has connections of his own, which can write nothing and end after `READING_SECONDS`: however long a
report takes, what is to be committed does not wait for it (SQLite's write-ahead log lets one write while others read).

SQLite's file is written by one thread of its own: its driver blocks, and one step into a thread and back costs less
than one for each statement. It is synced with every commit (`synchronous = FULL`; source: SQLite, "Write-Ahead
Logging", section 2.3). PostgreSQL is asked by asyncpg on the loop, and syncs by its own default.

A connection to a server may die without a word: a machine is gone, a firewall has forgotten it. So each answer is
waited for only so long; whoever waited has a TimeoutError, which is an OSError, and the next one a new connection. The
server has the same limits, so that what it still holds for a connection like that is nobody's obstacle for long.

Above it: `ledger_store`. Below it: sqlalchemy. Outside it: what is asked.
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Dialect, NullPool, create_engine, event, make_url
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.exc import ArgumentError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from pipelines.errors import ConfigurationError

FILE = "ledger.sqlite"

BUSY_SECONDS = 5
"""How long SQLite waits for somebody else who writes."""

READING_SECONDS = 25.0
"""After which a question is given up."""

WRITING_SECONDS = 15.0
"""After which the server gives up a statement that writes, or a transaction that nothing comes for."""

SILENCE = 5.0
"""Seconds in which a server connects, and beyond a statement's own limit answers; after that its connection is dead."""

RECYCLED = 180.0
"""Seconds after which a connection is replaced: load balancers forget one that is silent after 240 or 350."""

READERS = 2
"""Questions at once; further ones wait."""

CACHE_KIB = 32 * 1024
"""Of SQLite's pages, for whoever writes: the index by request id is written all over."""

CHECKPOINT_PAGES = 4_000
"""Pages of the write-ahead log (16 MB) between two copies into the database: a page that is written often goes once."""

_STEPS = 100_000
"""Steps of SQLite's virtual machine, some milliseconds, between two looks at the time."""

_DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}

# Python's driver looks for a way to adapt each value that is no number and no text, which ends in an exception that it
# swallows: for what it takes as it is that was an eighth of a commit.
for _kind in (type(None), bool, bytes):
    sqlite3.register_adapter(_kind, lambda value: value)

Result = TypeVar("Result")


def address(url: str, directory: str | Path) -> URL:
    """Where the ledger is: at `url`, or in a file in `directory`. Raises ConfigurationError."""
    if not url:
        return URL.create("sqlite", database=str(Path(directory) / FILE))
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigurationError("the ledger's URL cannot be read") from None
    driver = _DRIVERS.get(parsed.drivername.partition("+")[0])
    if driver is None or (driver == "sqlite" and not parsed.database):
        raise ConfigurationError("the ledger's URL must begin with sqlite:/// and a file, or with postgresql://")
    return parsed.set(drivername=driver)


class Database(Protocol):
    """A database, whichever it is. shared: others than this process may write to it."""

    dialect: Dialect
    shared: bool

    async def run(self, work: Callable[[Connection], Result], *, patient: bool = False) -> Result:
        """What `work` returns, once its transaction is committed. patient: it may take as long as it takes.

        Raises what it raises, SQLAlchemyError, and OSError.
        """

    async def read(self, question: Callable[[Connection], Result]) -> Result:
        """What `question` returns, which can only read; it sees what was committed when it began. Raises likewise."""

    async def close(self) -> None:
        """Close every connection."""


class FileDatabase:
    """A SQLite file, with mode 600, in a directory that is made with mode 700 if need be."""

    shared = False

    def __init__(self, where: URL) -> None:
        self._file = Path(where.database or FILE)
        self._engine, self._reading = (create_engine(where, connect_args={"check_same_thread": False}) for _ in "wr")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="ledger-reader")
        self.dialect = self._engine.dialect
        self._writing: Connection | None = None
        event.listen(self._engine, "connect", _prepare)
        event.listen(self._reading, "connect", _prepare_reading)

    async def run(self, work: Callable[[Connection], Result], *, patient: bool = False) -> Result:
        """See `Database`."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)

    async def read(self, question: Callable[[Connection], Result]) -> Result:
        """See `Database`."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, question)

    async def close(self) -> None:
        """See `Database`."""
        for end, threads in ((self._reading.dispose, self._readers), (self._drop, self._thread)):
            await asyncio.get_running_loop().run_in_executor(threads, end)
            threads.shutdown(wait=False)

    def _read(self, question: Callable[[Connection], Result]) -> Result:
        until = time.monotonic() + READING_SECONDS
        with self._reading.connect() as connection:
            driver: Any = connection.connection.dbapi_connection
            driver.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
            return question(connection)

    def _run(self, work: Callable[[Connection], Result]) -> Result:
        # To take a connection from the pool for each commit would cost as much as two of its statements.
        if self._writing is None:
            self._writing = self._open()
        try:
            with self._writing.begin():
                return work(self._writing)
        except IntegrityError:
            raise
        except BaseException:
            self._drop()
            raise

    def _open(self) -> Connection:
        if not self._file.exists():
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # SQLite gives its own further files the mode of this one.
            os.close(os.open(self._file, os.O_CREAT | os.O_RDWR, 0o600))
        return self._engine.connect()

    def _drop(self) -> None:
        """Close the connection that writes: the next one begins anew."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.close()
        self._engine.dispose()


class Server:
    """A PostgreSQL server."""

    shared = True

    def __init__(self, where: URL) -> None:
        limit = f"{WRITING_SECONDS * 1000:.0f}"
        self._engine = _limited(
            where,
            WRITING_SECONDS,
            {"statement_timeout": limit, "idle_in_transaction_session_timeout": limit},
            pool_size=2,
            max_overflow=2,
        )
        # A question is asked once: a connection that the server has closed meanwhile is noticed before, and replaced.
        self._reading = _limited(
            where,
            READING_SECONDS,
            {"default_transaction_read_only": "on", "statement_timeout": f"{READING_SECONDS * 1000:.0f}"},
            pool_size=READERS,
            max_overflow=0,
            pool_pre_ping=True,
        )
        # Seldom asked for, and on a connection that has had no time to die.
        self._patient = create_async_engine(where, poolclass=NullPool, connect_args={"timeout": SILENCE})
        self.dialect = self._engine.dialect

    async def run(self, work: Callable[[Connection], Result], *, patient: bool = False) -> Result:
        """See `Database`."""
        async with (self._patient if patient else self._engine).begin() as connection:
            return await connection.run_sync(work)

    async def read(self, question: Callable[[Connection], Result]) -> Result:
        """See `Database`."""
        async with self._reading.connect() as connection:
            return await connection.run_sync(question)

    async def close(self) -> None:
        """See `Database`."""
        for engine in (self._reading, self._engine, self._patient):
            await engine.dispose()


def _limited(where: URL, seconds: float, settings: dict[str, str], **pool: Any) -> AsyncEngine:
    """An engine whose server gives up after so long, and whose connections are dead if it does not even say that."""
    limits = {"timeout": SILENCE, "command_timeout": seconds + SILENCE, "server_settings": settings}
    engine = create_async_engine(where, connect_args=limits, pool_recycle=RECYCLED, **pool)
    event.listen(engine.sync_engine, "handle_error", _give_up)
    return engine


def _give_up(context: ExceptionContext) -> None:
    """Of a connection that does not answer nothing more is asked, not even a rollback, nor of those made before it."""
    if isinstance(context.original_exception, TimeoutError):
        context.is_disconnect = True


def _prepare(connection: Any, record: object) -> None:
    """The settings of a SQLite connection that writes."""
    _set(
        connection,
        "journal_mode = WAL",
        "synchronous = FULL",
        f"busy_timeout = {BUSY_SECONDS * 1000}",
        f"cache_size = -{CACHE_KIB}",
        f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
    )


def _prepare_reading(connection: Any, record: object) -> None:
    """The settings of one that reads."""
    _set(connection, "query_only = ON", f"busy_timeout = {BUSY_SECONDS * 1000}")


def _set(connection: Any, *settings: str) -> None:
    cursor = connection.cursor()
    for setting in settings:
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()
