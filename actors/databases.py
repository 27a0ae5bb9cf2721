"""SQLite or PostgreSQL, spoken to in the same words: a function of a connection, run in one transaction.

SQLite's file is asked by one thread of its own: its driver blocks, and one step into a thread and back costs less than
one for each statement. It is synced with every commit (`synchronous = FULL`; source: SQLite, "Write-Ahead Logging",
section 2.3). PostgreSQL is asked by asyncpg on the loop, and syncs by its own default.

Above it: `ledger_store`. Below it: sqlalchemy. Outside it: what is asked.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Dialect, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import create_async_engine

from pipelines.errors import ConfigurationError

FILE = "ledger.sqlite"

BUSY_SECONDS = 5
"""How long SQLite waits for somebody else who writes."""

_DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}

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
    """A database, whichever it is."""

    dialect: Dialect

    async def run(self, work: Callable[[Connection], Result]) -> Result:
        """What `work` returns, once its transaction is committed. Raises what it raises, and SQLAlchemyError."""

    async def close(self) -> None:
        """Close every connection."""


class FileDatabase:
    """A SQLite file, with mode 600, in a directory that is made with mode 700 if need be."""

    def __init__(self, where: URL) -> None:
        self._file = Path(where.database or FILE)
        self._engine = create_engine(where, connect_args={"check_same_thread": False})
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self.dialect = self._engine.dialect
        event.listen(self._engine, "connect", _prepare)

    async def run(self, work: Callable[[Connection], Result]) -> Result:
        """See `Database`."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)

    async def close(self) -> None:
        """See `Database`."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.dispose)
        self._thread.shutdown(wait=False)

    def _run(self, work: Callable[[Connection], Result]) -> Result:
        if not self._file.exists():
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # SQLite gives its own further files the mode of this one.
            os.close(os.open(self._file, os.O_CREAT | os.O_RDWR, 0o600))
        with self._engine.begin() as connection:
            return work(connection)


class Server:
    """A PostgreSQL server."""

    def __init__(self, where: URL) -> None:
        self._engine = create_async_engine(where, pool_size=2, max_overflow=2)
        self.dialect = self._engine.dialect

    async def run(self, work: Callable[[Connection], Result]) -> Result:
        """See `Database`."""
        async with self._engine.begin() as connection:
            return await connection.run_sync(work)

    async def close(self) -> None:
        """See `Database`."""
        await self._engine.dispose()


def _prepare(connection: Any, record: object) -> None:
    """Every new SQLite connection's settings."""
    cursor = connection.cursor()
    for setting in ("journal_mode = WAL", "synchronous = FULL", f"busy_timeout = {BUSY_SECONDS * 1000}"):
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()
