"""A PostgreSQL whose connections die without a word: nothing is lost, and nobody waits for them for long."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import text

from actors.money import databases
from actors.money.databases import Server, address
from tests.actors.ledger_rows import attempt, request
from tests.actors.postgres import Postgres
from tests.actors.test_ledger import World, until

_numbers = count()


class Wire:
    """Stands between the ledger and the server's socket; what is frozen passes nothing on and closes nothing."""

    def __init__(self, socket: Path, behind: Path) -> None:
        self._socket = socket
        self._behind = behind
        self._tasks: list[asyncio.Task[None]] = []
        self.made = 0
        self.frozen = 0
        """So many connections, the first ones, are."""
        self.until: bytes = b""
        """If not empty: all are as soon as one is about to say this."""

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._joined, self._socket)

    async def close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _joined(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.made += 1
        far_reader, far_writer = await asyncio.open_unix_connection(self._behind)
        for come, go in ((reader, far_writer), (far_reader, writer)):
            self._tasks.append(asyncio.create_task(self._pass(self.made, come, go)))

    async def _pass(self, number: int, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                if self.until and self.until in data:
                    self.frozen, self.until = self.made, b""
                if number <= self.frozen:
                    await asyncio.Event().wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def wire(server: Postgres, tmp_path: Path) -> AsyncIterator[Wire]:
    made = Wire(tmp_path / ".s.PGSQL.5432", server.socket)
    await made.start()
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
def url(server: Postgres, wire: Wire, tmp_path: Path) -> str:
    """An empty database behind the wire."""
    made = server.new_database(f"frozen{next(_numbers)}")
    return made.replace(str(server.socket.parent), str(tmp_path))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "WRITING_SECONDS", 1.0)
    monkeypatch.setattr(databases, "SILENCE", 0.5)


@pytest.fixture
async def world(url: str, tmp_path: Path) -> AsyncIterator[World]:
    made = World(url, tmp_path)
    try:
        yield made
    finally:
        await made.close()


@pytest.mark.parametrize("said", [b"", b"BEGIN", b"COMMIT"], ids=["idle", "begin", "commit"])
async def test_a_commit_takes_another_connection_when_its_own_is_dead(world: World, wire: Wire, said: bytes) -> None:
    client = world.client()
    assert await client.settle(attempt(1), request(1))
    if said:
        # Of a transaction that is not committed the server would keep the locks.
        wire.until = said
    else:
        wire.frozen = wire.made
    await client.settle(attempt(2), request(2))
    await until(lambda: world.store.commits == 2)
    assert wire.frozen
    assert await world.totals() == (2, 2, 2 * 7_500)


async def test_only_who_is_patient_may_take_long(url: str, tmp_path: Path) -> None:
    """A migration of a large table, for one."""
    database = Server(address(url, tmp_path))
    slow = text("select pg_sleep(2)")
    with pytest.raises(Exception, match="statement timeout"):
        await database.run(lambda connection: connection.execute(slow).all())
    assert await database.run(lambda connection: len(connection.execute(slow).all()), patient=True) == 1
    await database.close()
