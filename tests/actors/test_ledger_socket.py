"""The ledger's own port: calls, failures, strangers."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from actors.frames import MOST_UNKNOWN
from actors.money.ledger_socket import KEYS, MOST_BYTES, REPORT, SETTLE, Endpoint, LedgerConnection, connect, listen
from pipelines.errors import Overloaded


class Desk:
    """Answers what it is asked for, when it may."""

    def __init__(self) -> None:
        self.settled: list[bytes] = []
        self.may = asyncio.Event()
        self.may.set()

    async def settle(self, batch: bytes) -> None:
        await self.may.wait()
        self.settled.append(batch)

    async def keys(self, inquiry: bytes) -> bytes:
        await self.may.wait()
        return inquiry.upper()

    async def report(self, question: bytes) -> bytes:
        if question == b"wrong":
            raise Overloaded("the disk is full")
        return question[::-1]


@pytest.fixture
async def desk() -> Desk:
    return Desk()


@pytest.fixture
async def endpoint(desk: Desk) -> AsyncIterator[Endpoint]:
    made, server = await listen("127.0.0.1", {SETTLE: desk.settle, REPORT: desk.report, KEYS: desk.keys})
    yield made
    server.close()


async def test_calls_are_answered_each_its_own_way(endpoint: Endpoint, desk: Desk) -> None:
    link = await connect(endpoint)
    batches = [b"%d" % number * 100_000 for number in range(20)]
    held = [asyncio.create_task(link.settle(batch)) for batch in batches]
    answers = await asyncio.gather(*(link.report(b"question %d" % number) for number in range(20)))
    assert answers == [(b"question %d" % number)[::-1] for number in range(20)]
    await asyncio.gather(*held)
    assert sorted(desk.settled) == sorted(batches)
    assert link._calls == {}
    link.close()


async def test_a_long_poll_delays_nobody(endpoint: Endpoint, desk: Desk) -> None:
    link = await connect(endpoint)
    desk.may.clear()
    polling = asyncio.create_task(link.keys(b"news"))
    assert await link.report(b"ab") == b"ba"
    assert not polling.done()
    desk.may.set()
    assert await polling == b"NEWS"
    link.close()


async def test_a_failure_is_told_and_the_connection_goes_on(endpoint: Endpoint) -> None:
    link = await connect(endpoint)
    with pytest.raises(Overloaded, match="the disk is full"):
        await link.report(b"wrong")
    assert await link.report(b"ab") == b"ba"
    link.close()


async def test_a_lost_connection_ends_every_call(endpoint: Endpoint, desk: Desk) -> None:
    desk.may.clear()
    link = await connect(endpoint)
    held = [asyncio.create_task(link.settle(b"x")) for _ in range(3)]
    await link.report(b"ab")
    link.close()
    ended = await asyncio.gather(*held, return_exceptions=True)
    assert [type(end) for end in ended] == [ConnectionError] * 3
    with pytest.raises(ConnectionError):
        await link.settle(b"x")


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\0\0\x25\0\0\0\0\0" + b"x" * 32,
        b"\0\0\0\x05\0\0\0\0\x01",
        (MOST_BYTES + 1).to_bytes(4, "big") + b"\0" * 100,
        (MOST_UNKNOWN + 1).to_bytes(4, "big") + b"\0" * 100,
        b"\0" * 100,
    ],
)
async def test_a_stranger_is_sent_away(endpoint: Endpoint, desk: Desk, said: bytes) -> None:
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    writer.write(said)
    async with asyncio.timeout(30.0):
        assert await reader.read() == b""
    writer.close()
    assert desk.settled == []


async def test_nobody_there_is_said(endpoint: Endpoint) -> None:
    with pytest.raises(ConnectionRefusedError):
        await connect(Endpoint("127.0.0.1", 1, endpoint.token))
    wrong = await connect(Endpoint(endpoint.host, endpoint.port, b"another token"))
    assert isinstance(wrong, LedgerConnection)
    with pytest.raises(ConnectionError):
        await wrong.settle(b"x")
