"""What an answer looks like on the wire that goes by a line of an own listener."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from deployments.guard import Guard
from deployments.http.line import CONTROLS, Line, Messages, of
from deployments.http.listener import Listener
from deployments.visit import _raw

Answer = Callable[[Line], Awaitable[None]]


@asynccontextmanager
async def listening(answer: Answer) -> AsyncIterator[tuple[str, int]]:
    """A listener that answers so; its address."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        way = of(scope)
        assert way is not None
        await answer(way)

    listener = Listener(application)
    await listener.start("127.0.0.1", 0, Guard("secret"))
    try:
        yield listener.address
    finally:
        await listener.stop(0.0)


async def heard(answer: Answer, asked: bytes) -> bytes:
    """All that comes back until the connection ends."""
    async with listening(answer) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(asked)
        async with asyncio.timeout(10.0):
            data = await reader.read()
        writer.close()
    return data


def request(method: str = "GET", version: str = "1.1", last: bool = True) -> bytes:
    """A request; after the last one the connection ends."""
    return f"{method} / HTTP/{version}\r\nhost: a\r\n{'connection: close' if last else 'x: y'}\r\n\r\n".encode()


async def two_pieces(way: Line) -> None:
    await way.begin(200, [(b"x-one", b"1")])
    await way.more(b"hello ")
    await way.more(b"")
    await way.end(b"world")


async def whole(way: Line) -> None:
    await way.begin(200, [(b"content-length", b"5")], hold=True)
    await way.end(b"whole")


async def test_a_body_without_a_length_goes_in_chunks() -> None:
    head, _, body = (await heard(two_pieces, request())).partition(b"\r\n\r\n")
    assert head == b"HTTP/1.1 200 OK\r\nx-one: 1\r\nconnection: close\r\ntransfer-encoding: chunked"
    assert body == b"6\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n"


async def test_to_who_knows_no_chunks_it_ends_with_the_connection() -> None:
    head, _, body = (await heard(two_pieces, request(version="1.0", last=False))).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert body == b"hello world"


async def test_a_head_that_is_held_goes_out_with_its_body() -> None:
    sent: list[bytes] = []

    async def watched(way: Any) -> None:
        transport = way._cycle.transport
        write = transport.write

        def noted(data: bytes) -> None:
            sent.append(data)
            write(data)

        transport.write = noted
        await whole(way)

    said = await heard(watched, request())
    assert sent == [said]
    assert said.endswith(b"\r\n\r\nwhole")


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("status", [200, 204, 304])
async def test_an_answer_without_a_body_may_name_a_length(method: str, status: int) -> None:
    async def answer(way: Line) -> None:
        await way.begin(status, [(b"content-length", b"5")], hold=True)
        await way.end(b"" if method == "HEAD" or status != 200 else b"whole")

    said = await heard(answer, request(method, last=False) + request(method))
    body = b"whole" if (method, status) == ("GET", 200) else b""
    assert said.count(b"HTTP/1.1 %d " % status) == 2
    assert said.endswith(b"\r\n\r\n" + body)
    assert b"chunked" not in said


@pytest.mark.parametrize("length", [4, 6])
async def test_a_body_of_another_length_than_its_head_says_is_cut_off(length: int) -> None:
    async def answer(way: Line) -> None:
        await way.begin(200, [(b"content-length", b"%d" % length)])
        await way.more(b"who")
        await way.end(b"le")

    said = await heard(answer, request(last=False) + request())
    assert said.count(b"HTTP/1.1 ") == 1
    assert len(said.partition(b"\r\n\r\n")[2]) < 6


async def test_nothing_goes_ahead_of_a_head_that_is_held() -> None:
    free: list[bool] = []

    async def answer(way: Line) -> None:
        free.append(way.free)
        await way.begin(200, [], hold=True)
        free.append(way.free)
        await way.more(b"first")
        free.append(way.free)
        await way.end()

    assert (await heard(answer, request())).endswith(b"\r\n\r\n5\r\nfirst\r\n0\r\n\r\n")
    assert free == [False, False, True]


async def test_pipelined_requests_have_a_line_each() -> None:
    ways: list[Line] = []
    more = asyncio.Event()

    async def answer(way: Line) -> None:
        ways.append(way)
        await way.begin(200, [(b"x-number", b"%d" % len(ways))])
        await way.more(b"first")
        assert way.free
        way.put(b"past")
        await more.wait()
        await way.end()

    async with listening(answer) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(request(last=False) * 2 + request())
        async with asyncio.timeout(10.0):
            said = await reader.readuntil(b"past\r\n")
            assert len(ways) == 1
            more.set()
            said += await reader.read()
        writer.close()
    assert [said.count(b"x-number: %d\r\n" % number) for number in (1, 2, 3)] == [1, 1, 1]
    assert said.count(b"5\r\nfirst\r\n4\r\npast\r\n0\r\n\r\n") == 3


@pytest.mark.parametrize("header", [(b"x-a", b"b\r\nx-c: d"), (b"x\n", b"b"), (b"x-a", b"\0"), (b"x-a", b"b\rc")])
async def test_a_header_that_would_be_more_than_one_is_no_answer(header: tuple[bytes, bytes]) -> None:
    async def answer(way: Line) -> None:
        await way.begin(200, [header])
        await way.end(b"never")

    said = await heard(answer, request())
    assert said.startswith(b"HTTP/1.1 500 ")
    assert b"never" not in said


def test_what_no_header_may_hold_becomes_a_space() -> None:
    held = "".join(map(chr, CONTROLS))
    assert _raw({"x-a": f"b{held}c\td\xa0"}) == [(b"x-a", b"b" + b" " * len(CONTROLS) + b"c\td\xa0")]


async def test_another_servers_messages_say_the_same() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    way = Messages(send)
    await way.begin(200, [(b"x-one", b"1")], hold=True)
    await way.more(b"hello ")
    await way.end(b"world")
    assert sent == [
        {"type": "http.response.start", "status": 200, "headers": [(b"x-one", b"1")]},
        {"type": "http.response.body", "body": b"hello ", "more_body": True},
        {"type": "http.response.body", "body": b"world", "more_body": False},
    ]
    assert not way.free
    with pytest.raises(NotImplementedError):
        way.put(b"")
