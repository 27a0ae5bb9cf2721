"""The own listeners' connections on raw sockets: slow, oversized, ambiguous and half requests; nothing is smuggled."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvloop

from deployments.guard import Guard
from deployments.http import connection, reading
from deployments.http.line import of
from deployments.http.listener import Listener
from tests.clients import BrokenBody, Caller, Head
from tests.deployments.house import KEY, House, url_of

CHAT = "/v1/chat/completions"
GET = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /1 HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


class Place:
    """A listener, what its application was asked, and a switch that holds answers back."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[bytes, bytes], bytes]] = []
        self.transports: list[Any] = []
        self.go = asyncio.Event()
        self.go.set()
        self.listener = Listener(self.application)

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self.listener.address)

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        if scope["path"] != "/unread":
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                body += message["body"]
                if not message["more_body"]:
                    break
        self.seen.append((scope["path"], dict(scope["headers"]), body))
        await self.go.wait()
        way = of(scope)
        assert way is not None
        await way.begin(200, [(b"content-length", b"2")], hold=True)
        await way.end(b"ok")


@pytest.fixture
async def place(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    monkeypatch.setattr(connection, "LINGER_SECONDS", 0.5)
    built = Place()
    await built.listener.start("127.0.0.1", 0, Guard("secret"))
    yield built
    await built.listener.stop(0.0)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers that are slow are soon cut off."""
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.5)


async def statuses(place: Place, raw: bytes) -> list[int]:
    """Of all answers until the connection ends."""
    found: list[int] = []
    async with await Caller.connect(place.url) as caller:
        await caller.send(raw)
        with contextlib.suppress(BrokenBody):
            while True:
                found.append((await caller.head()).status)
                await caller.body()
    return found


@pytest.mark.parametrize(
    "raw",
    [
        POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nab",
        POST + b"Content-Length: 2, 2\r\n\r\nab",
        POST + b"Content-Length: +2\r\n\r\nab",
        POST + b"Content-Length : 2\r\n\r\nab",
        POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + GET,
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + GET,
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        b"GET /1 HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n",
        b"GET /1 HTTP/1.1\r\n Host: a\r\n\r\n",
        b"GET /1 HTTP/1.1\r\nHost: a\r\nX-A: b\x00c\r\n\r\n",
        b"GET /1 HTTP/1.1\r\nHost: a\r\nX\x00A: b\r\n\r\n",
        b"GET /1 HTTP/1.1\r\nHost: a\r\nX A: b\r\n\r\n",
        b"GET /1 HTTP/1.1\r\nHost: a\rX-A: b\r\n\r\n",
        b"GET /1 HTTP/1.1\nHost: a\n\n",
        b"GET /1 HTTP/1.1\r\nHost: a\r\nnothing\r\n\r\n",
        b"GET /1 HTTP/9.9\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        CHUNKED + b"-1\r\nx\r\n0\r\n\r\n",
        CHUNKED + b"0x1\r\nx\r\n0\r\n\r\n",
        CHUNKED + b"1\nx\n0\n\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=repr,
)
async def test_what_could_be_read_in_two_ways_is_refused_and_the_connection_ends(place: Place, raw: bytes) -> None:
    assert await statuses(place, raw) == [400]
    assert place.seen == []


async def test_a_refusal_says_why_in_json_and_does_not_wait_for_the_rest(place: Place) -> None:
    async with await Caller.connect(place.url) as caller:
        await caller.send(b"GET / HTTP/1.1\r\nHost : a\r\n")
        head = await caller.head()
        assert (head.status, head.headers["connection"]) == (400, "close")
        assert json.loads(await caller.body())["error"]["type"] == "invalid_request_error"
        assert await caller.hung_up()


async def test_pipelined_requests_are_answered_once_each_and_in_order(place: Place) -> None:
    place.go.clear()
    body = b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
    async with await Caller.connect(place.url) as caller:
        await caller.send(GET + body + GET.replace(b"GET /1", b"GET /3"))
        await until(lambda: len(place.seen) == 1)
        place.go.set()
        for _ in range(3):
            assert (await caller.head()).status == 200
            assert await caller.body() == b"ok"
    assert [(path, seen) for path, _, seen in place.seen] == [("/1", b""), ("/2", b"abc"), ("/3", b"")]


async def test_rubbish_behind_a_request_that_is_being_answered_is_not_answered_in_its_place(place: Place) -> None:
    place.go.clear()
    async with await Caller.connect(place.url) as caller:
        await caller.send(GET + b"rubbish\r\n\r\n")
        with pytest.raises(BrokenBody):
            await caller.head()


async def test_a_flood_in_the_pipeline_ends_the_connection(place: Place) -> None:
    place.go.clear()
    async with await Caller.connect(place.url) as caller:
        await caller.send(GET * 1000)
        with pytest.raises(BrokenBody):
            await caller.head()


async def test_trailers_are_no_headers(place: Place) -> None:
    raw = CHUNKED + b"1\r\nx\r\n0\r\nAuthorization: Bearer stolen\r\nHost: b\r\n\r\n"
    last = GET.replace(b"Host: a", b"Host: a\r\nConnection: close")
    assert await statuses(place, raw + last) == [200, 200]
    [(_, headers, body), _] = place.seen
    assert body == b"x"
    assert headers == {b"host": b"a", b"transfer-encoding": b"chunked"}


@pytest.mark.parametrize("name", [b"Upgrade", b"UPGRADE", b"upgrade"])
@pytest.mark.parametrize("cut", [1, 60, 70, 90, 140, 150], ids="cut at {}".format)
@pytest.mark.parametrize("before", [0, 1, 3])
async def test_an_upgrade_that_is_not_offered_is_passed_over(place: Place, before: int, cut: int, name: bytes) -> None:
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\n%b: h2c\r\nHTTP2-Settings: AAMAAABk\r\n" % name
    raw = POST + upgrade + b"Content-Length: 11\r\n\r\n\r\nUpgrade:x"
    chunked = POST + upgrade + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    first = GET * before
    async with await Caller.connect(place.url) as caller:
        await caller.send(first + raw[:cut])
        await asyncio.sleep(0.01)
        await caller.send(raw[cut:] + chunked + raw + GET)
        for _ in range(before + 4):
            head = await caller.head()
            assert (head.status, head.headers.get("connection")) == (200, None)
            assert await caller.body() == b"ok"
    bodies = [body for _, _, body in place.seen]
    assert bodies == [b""] * before + [b"\r\nUpgrade:x", b"abc", b"\r\nUpgrade:x", b""]
    assert all(b"upgrade" not in headers for _, headers, _ in place.seen)


async def test_a_body_that_does_not_come_behind_an_upgrade_is_waited_for(place: Place) -> None:
    async with await Caller.connect(place.url) as caller:
        await caller.send(POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 4\r\n\r\n")
        await asyncio.sleep(0.01)
        assert not place.seen
        await caller.send(b"body")
        assert (await caller.head()).status == 200
    assert place.seen[0][2] == b"body"


async def test_connect_is_answered_once_and_ends(place: Place) -> None:
    for upgrade in (b"", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"):
        async with await Caller.connect(place.url) as caller:
            await caller.send(b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n" + upgrade + b"\r\nwhatever")
            assert (await caller.head()).headers["connection"] == "close"
            assert await caller.hung_up()


@pytest.mark.usefixtures("hasty")
async def test_headers_that_trickle_are_cut_off_with_408(place: Place) -> None:
    async with await Caller.connect(place.url) as caller:
        sending = asyncio.create_task(caller.send_slowly(b"GET / HTTP/1.1\r\nX-Slow: " + b"a" * 1000, gap=0.02))
        head = await caller.head()
        assert (head.status, head.headers["connection"]) == (408, "close")
        assert not sending.done()
        await sending
        assert await caller.hung_up()


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("first", [b"", GET], ids=["at first", "after an answer"])
async def test_blank_lines_do_not_hold_a_connection(place: Place, first: bytes) -> None:
    async with await Caller.connect(place.url) as caller:
        if first:
            await caller.send(first)
            assert (await caller.head()).status == 200
            await caller.body()
        sending = asyncio.create_task(caller.send_slowly(b"\r\n" * 500, gap=0.02))
        assert (await caller.head()).status == 408
        await sending


@pytest.mark.usefixtures("hasty")
async def test_a_connection_on_which_nothing_comes_is_closed_without_words(place: Place) -> None:
    async with await Caller.connect(place.url) as caller:
        assert await caller.hung_up()


async def test_a_connection_without_a_further_request_is_closed(place: Place) -> None:
    place.listener._server.config.timeout_keep_alive = 0  # read when a connection is made
    async with await Caller.connect(place.url) as caller:
        await caller.send(GET)
        assert (await caller.head()).status == 200
        await caller.body()
        assert await caller.hung_up()


async def test_a_slow_answer_outlasts_the_limit_for_headers(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 2.0)
    place.go.clear()
    async with await Caller.connect(place.url) as caller:
        await caller.send(GET + GET[:10])
        await asyncio.sleep(2.5)
        place.go.set()
        assert (await caller.head()).status == 200
        await caller.body()
        await caller.send(GET[10:])
        assert (await caller.head()).status == 200


async def test_headers_without_end_are_refused_before_they_end(place: Place) -> None:
    async with await Caller.connect(place.url) as caller:
        await caller.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-A: bbbbbbbbbb\r\n" * 2100)
        head = await caller.head()
        assert (head.status, head.headers["connection"]) == (431, "close")
        assert json.loads(await caller.body())["error"]["code"] == "headers_too_large"


@pytest.mark.parametrize(
    "endless", [b"1;" + b"e" * 60_000, b"0\r\nX-Trailer: " + b"t" * 60_000], ids=["ext", "trailer"]
)
async def test_framing_without_content_is_refused(place: Place, endless: bytes) -> None:
    async with await Caller.connect(place.url) as caller:
        await caller.send(CHUNKED)
        sending = asyncio.create_task(caller.send_slowly(endless, piece=10_000, gap=0.01))
        assert (await caller.head()).status == 400
        await sending


@pytest.mark.parametrize("size", [16_376, 8_184, 1_000])
async def test_chunks_whose_sizes_come_alone_are_no_framing_without_content(place: Place, size: int) -> None:
    async with await Caller.connect(place.url) as caller:
        await caller.send(CHUNKED)
        for _ in range(200_000 // size):
            await caller.send(b"%x\r\n" % size)
            await asyncio.sleep(0.002)
            await caller.send(b"x" * size + b"\r\n")
            await asyncio.sleep(0.002)
        await caller.send(b"0\r\n\r\n")
        assert (await caller.head()).status == 200


async def test_an_answer_that_overtakes_the_body_says_close_and_is_not_lost(place: Place) -> None:
    async with await Caller.connect(place.url) as caller:
        await caller.send(b"POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
        head = await caller.head()
        assert (head.status, head.headers["connection"]) == (200, "close")
        assert await caller.body() == b"ok"
        await caller.send(b"x" * 200_000)
        assert await caller.hung_up()
        assert await caller.send_slowly(b"x" * 100, gap=0.01) < 100


async def test_small_segments_do_not_wait_for_each_other() -> None:
    assert set(await nodelay()) == {1}


def test_nor_do_they_on_uvloop() -> None:
    assert set(uvloop.run(nodelay())) == {1}


async def nodelay() -> list[int]:
    """TCP_NODELAY of the accepted sockets of a listener."""
    found = Place()
    await found.listener.start("127.0.0.1", 0, Guard("secret"))
    async with await Caller.connect(found.url) as caller:
        await caller.send(GET)
        await caller.head()
        accepted = [c.transport.get_extra_info("socket") for c in found.listener._connections()]
        flags = [sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for sock in accepted]
    await found.listener.stop()
    return flags


async def until(condition: Any) -> None:
    async with asyncio.timeout(30.0):
        while not condition():
            await asyncio.sleep(0.005)


# What the face itself refuses, over the same sockets.


async def refused(running: House, raw: bytes) -> tuple[Head, bytes]:
    async with await Caller.connect(url_of(running.gateway)) as caller:
        await caller.send(raw)
        head = await caller.head()
        body = await caller.body()
        return head, body


def request(*lines: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([b"POST /v1/chat/completions HTTP/1.1", *lines, b"", body])


KEYED = f"Authorization: Bearer {KEY}".encode()


@pytest.mark.parametrize(
    "lines",
    [
        (b"Host: a", b"Host: b", KEYED),
        (KEYED,),
        (b"Host: a", KEYED, b"Authorization: Bearer other"),
        (b"Host: a", b"Authorization: Bearer other", KEYED),
        (b"Host: a", b"X-Api-Key: a", b"x-api-key: b"),
        (b"Host: a", KEYED, b"Transfer-Encoding: identity, chunked"),
    ],
    ids=repr,
)
async def test_a_repeated_or_missing_header_that_decides_is_refused(running: House, lines: tuple[bytes, ...]) -> None:
    head, body = await refused(running, request(*lines, body=b"0\r\n\r\n" if b"chunked" in lines[-1] else b""))
    assert head.status == 400, body


async def test_of_other_repeated_headers_the_first_counts(running: House) -> None:
    raw = b"\r\n".join(
        [b"GET /v1/models HTTP/1.1", b"Host: a", KEYED, b"X-Request-Id: one", b"X-Request-Id: two", b"", b""]
    )
    head, _ = await refused(running, raw)
    assert (head.status, head.headers["x-request-id"]) == (200, "one")


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([b"X-%d: a" % number for number in range(100)], 431),
        ([b"X-%d: a" % number for number in range(98)], 200),
        ([b"X-A: " + b"a" * 33_000], 431),
        ([b"X-A: " + b"a" * 31_000], 200),
    ],
    ids=["101 headers", "100 headers", "33 KB", "31 KB"],
)
async def test_the_number_and_the_size_of_headers_are_bounded(running: House, lines: list[bytes], status: int) -> None:
    raw = b"\r\n".join([b"GET /v1/models HTTP/1.1", b"Host: a", KEYED, *lines, b"", b""])
    head, body = await refused(running, raw)
    assert head.status == status, body


async def test_deep_json_is_refused(running: House) -> None:
    deep = b'{"model":' + b"[" * 100 + b"]" * 100 + b"}"
    head, body = await refused(running, request(b"Host: a", KEYED, b"Content-Length: %d" % len(deep), body=deep))
    assert head.status == 400
    assert b"nested" in body


async def test_a_body_that_trickles_is_cut_off_with_408(running: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BODY_SECONDS", 0.2)
    monkeypatch.setattr(connection, "LINGER_SECONDS", 0.1)
    async with await Caller.connect(url_of(running.gateway)) as caller:
        await caller.send(request(b"Host: a", KEYED, b"Content-Length: 1000"))
        sending = asyncio.create_task(caller.send_slowly(b"{" + b" " * 999, gap=0.02))
        head = await caller.head()
        assert (head.status, head.headers["connection"]) == (408, "close")
        assert b"request_timeout" in await caller.body()
        assert await sending < 1000
    assert running.gateway.front.visits == 0


async def test_a_body_without_a_length_is_cut_off_when_it_is_too_large(
    running: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MAX_BODY", 300_000)
    async with await Caller.connect(url_of(running.gateway)) as caller:
        await caller.send(request(b"Host: a", KEYED, b"Transfer-Encoding: chunked"))
        for _ in range(31):
            await caller.send(b"2710\r\n" + b" " * 10_000 + b"\r\n")
        head = await caller.head()
        assert (head.status, head.headers["connection"]) == (413, "close")
        assert b"request_too_large" in await caller.body()
        assert await caller.hung_up()
    assert running.gateway.front.visits == 0


async def test_a_refusal_before_the_body_is_read_ends_the_connection_too(running: House) -> None:
    async with await Caller.connect(url_of(running.gateway)) as caller:
        await caller.send(request(b"Host: a", b"Content-Length: 1000000"))
        head = await caller.head()
        assert (head.status, head.headers["connection"]) == (401, "close")
        await caller.body()
        assert await caller.hung_up()


async def test_a_refusal_of_a_whole_request_keeps_the_connection(running: House) -> None:
    async with await Caller.connect(url_of(running.gateway)) as caller:
        for _ in range(2):
            head = await caller.post(CHAT, {"model": "m"})
            assert head.status == 401
            assert "connection" not in head.headers
            await caller.body()
