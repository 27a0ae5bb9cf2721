"""What a server may send, byte for byte, and what becomes of the connection; what a request may be made of."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import pytest

from deployments.http import client, pool
from deployments.http.transport import HttpAnswer, HttpTransport
from pipelines.errors import StreamBroken, TimedOut
from pipelines.resilience import Timeouts


class Server:
    """Answers each connection's n-th request with the n-th script: bytes to send, seconds to wait, None to close."""

    def __init__(self, *scripts: Sequence[bytes | float | None]) -> None:
        self.scripts = scripts
        self.connections = 0
        self.heads: list[bytes] = []
        self.closed = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            await self._play(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.closed.set()
            writer.close()

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for script in self.scripts:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            for step in script:
                if isinstance(step, float):
                    await asyncio.sleep(step)
                elif step is None:
                    return
                else:
                    writer.write(step)
                    await writer.drain()
        await reader.read()


@contextlib.asynccontextmanager
async def served(*scripts: Sequence[bytes | float | None], host: str = "127.0.0.1") -> AsyncIterator[Server]:
    made = Server(*scripts)
    async with await asyncio.start_server(made.serve, host, 0) as server:
        port = server.sockets[0].getsockname()[1]
        made.url = f"http://[{host}]:{port}/x" if ":" in host else f"http://{host}:{port}/x"
        yield made
        for task in made.tasks:
            task.cancel()
        await asyncio.gather(*made.tasks)


@pytest.fixture
async def http() -> AsyncIterator[HttpTransport]:
    made = HttpTransport()
    yield made
    await made.close()


async def ask(http: HttpTransport, server: Server, method: str = "POST", **headers: str) -> HttpAnswer:
    return await http.send(method, server.url, headers, b"", Timeouts(connect=30.0))


async def read(answer: HttpAnswer) -> bytes:
    return b"".join([chunk async for chunk in answer.chunks()])


OK = b"HTTP/1.1 200 OK\r\n"
TWO = OK + b"content-length: 2\r\n\r\n{}"


@pytest.mark.parametrize(
    "said",
    [
        [TWO],
        [TWO[:9], TWO[9:-1], TWO[-1:]],
        [b"HTTP/1.1 100 Continue\r\n\r\n" + TWO],
        [b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n" + TWO],
        [OK + b"transfer-encoding: chunked\r\n\r\n1;a=b\r\n{\r\n1\r\n}\r\n0\r\nlate: trailer\r\n\r\n"],
        [OK + b"Transfer-Encoding: Chunked\r\n\r\n2  \r\n{}\r\n0\r\n\r\n"],
    ],
)
async def test_an_answer_with_a_length_leaves_its_connection(http: HttpTransport, said: list[bytes]) -> None:
    async with served(said, said) as server:
        for _ in range(2):
            answer = await ask(http, server)
            assert (answer.status, await read(answer)) == (200, b"{}")
            assert not {"late", "link"} & set(answer.headers)
        assert server.connections == 1


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\ncontent-type: x\r\n\r\n"])
async def test_an_answer_without_a_length_ends_with_its_connection(http: HttpTransport, head: bytes) -> None:
    async with served([head + b"o", b"ne", None]) as server:
        for _ in range(2):
            assert await read(await ask(http, server)) == b"one"
        assert server.connections == 2


@pytest.mark.parametrize("head", [b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 304 Not Modified\r\n\r\n"])
async def test_an_answer_that_has_no_body_ends_with_its_head(http: HttpTransport, head: bytes) -> None:
    async with served([head], [head]) as server:
        for _ in range(2):
            assert await read(await ask(http, server)) == b""
        assert server.connections == 1


@pytest.mark.parametrize("length", [b"content-length: 9", b"transfer-encoding: chunked", b"x-y: z"])
async def test_an_answer_to_head_is_its_head(http: HttpTransport, length: bytes) -> None:
    async with served([OK + length + b"\r\n\r\n"], host="127.0.0.1") as server:
        for _ in range(2):
            answer = await ask(http, server, "HEAD")
            assert (answer.status, await read(answer)) == (200, b"")
        assert server.connections == 2


@pytest.mark.parametrize(
    "said",
    [
        OK + b"connection: close\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        TWO + b"more",
        TWO + TWO,
    ],
)
async def test_a_connection_that_is_not_to_be_kept_is_not(http: HttpTransport, said: bytes) -> None:
    async with served([said], [TWO]) as server:
        for _ in range(2):
            assert await read(await ask(http, server)) == b"{}"
        assert server.connections == 2


async def test_what_came_before_the_break_is_read_first(http: HttpTransport) -> None:
    async with served([OK + b"content-length: 9\r\n\r\nfour", None]) as server:
        answer = await ask(http, server)
        await server.closed.wait()
        pieces: list[bytes] = []
        with pytest.raises(StreamBroken, match="the connection broke: "):  # noqa: PT012 - the body is the subject
            async for piece in answer.chunks():
                pieces += [piece]
        assert pieces == [b"four"]


@pytest.mark.parametrize(
    "said",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        OK + b"x: " + b"y" * client.MAX_HEAD,
        OK + b"".join(b"x%d: y\r\n" % number for number in range(client.MAX_HEAD // 6)),
        OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}",
    ],
)
async def test_a_head_that_is_none_is_broken_and_not_repeated(http: HttpTransport, said: bytes) -> None:
    async with served([said, 30.0]) as server:
        with pytest.raises(StreamBroken, match="before an answer"):
            await ask(http, server)
        async with asyncio.timeout(10.0):
            with pytest.raises(StreamBroken, match="before an answer"):
                await ask(http, server, "GET")
        assert server.connections == 2


@pytest.mark.parametrize(("method", "connections"), [("GET", 2), ("POST", 1)])
async def test_only_what_is_idempotent_is_asked_again_when_a_kept_connection_ends(
    http: HttpTransport, method: str, connections: int
) -> None:
    async with served([TWO], [None]) as server:
        await read(await ask(http, server))
        if method == "GET":
            assert await read(await ask(http, server, method)) == b"{}"
        else:
            with pytest.raises(StreamBroken, match="before an answer"):
                await ask(http, server, method)
        assert server.connections == connections


async def test_the_end_that_comes_behind_what_was_wanted_is_waited_for(http: HttpTransport) -> None:
    chunk = OK + b"transfer-encoding: chunked\r\n\r\n4\r\ndone\r\n"
    async with served([chunk, 0.05, b"0\r\n\r\n"], [TWO]) as server:
        answer = await ask(http, server)
        assert await anext(answer.chunks()) == b"done"
        await answer.close(whole=True)
        await answer.close()
        async with asyncio.timeout(10.0):
            while not (http._pool and http._pool._idle):
                await asyncio.sleep(0.01)
        assert await read(await ask(http, server)) == b"{}"
        assert server.connections == 1


@pytest.mark.parametrize("more", [[0.1, b"1000\r\n" + b"x" * 4096 + b"\r\n", 30.0], [30.0]])
async def test_who_does_not_end_is_not_spared(
    http: HttpTransport, more: list[bytes | float | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "SPARE_SECONDS", 0.05)
    async with served([OK + b"transfer-encoding: chunked\r\n\r\n4\r\ndone\r\n", *more]) as server:
        answer = await ask(http, server)
        assert await anext(answer.chunks()) == b"done"
        await answer.close(whole=True)
        assert http._pool is not None
        async with asyncio.timeout(10.0):
            while http._pool._all:
                await asyncio.sleep(0.01)
        assert server.connections == 1


async def test_a_reader_who_stops_stops_the_sender(http: HttpTransport) -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"content-length: 67108864\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while sent < 2**26:
                writer.write(b"x" * 2**16)
                await writer.drain()
                sent += 2**16
        writer.close()

    async with await asyncio.start_server(flood, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        answer = await http.send("GET", f"http://127.0.0.1:{port}/", {}, b"", Timeouts())
        before = -1
        async with asyncio.timeout(30.0):
            while sent != before:
                before = sent
                await asyncio.sleep(0.2)
        assert sent < 2**25  # what the two sockets hold, and READ_AHEAD
        assert answer._incoming.size <= client.READ_AHEAD + 2**18
        assert len(await read(answer)) == 2**26


async def test_a_body_that_fails_fails_the_request_with_its_own_error(http: HttpTransport) -> None:
    class Away(Exception):
        pass

    async def body() -> AsyncGenerator[bytes, None]:
        yield b"one"
        raise Away

    async with served([30.0]) as server:
        with pytest.raises(Away):
            await http.send("POST", server.url, {}, body(), Timeouts())


async def test_an_answer_may_come_before_the_request_has_gone(http: HttpTransport) -> None:
    async def body() -> AsyncGenerator[bytes, None]:
        while True:
            yield b"x" * 2**16
            await asyncio.sleep(0)

    early = b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\n{}"
    async with served([early, 30.0], [TWO]) as server:
        answer = await http.send("POST", server.url, {}, body(), Timeouts())
        assert (answer.status, await read(answer)) == (413, b"{}")
        await ask(http, server)
        assert server.connections == 2


@pytest.mark.parametrize("value", ["a\r\nx-evil: 1", "a\nb", "a\rb", "a\0b"])
async def test_a_header_is_one_header(http: HttpTransport, value: str) -> None:
    async with served([TWO]) as server:
        with pytest.raises(ValueError, match="line break"):
            await ask(http, server, **{"x-name": value})
        assert server.heads == []


async def test_a_request_names_its_host_and_its_length(http: HttpTransport) -> None:
    async with served([TWO], [TWO], [TWO], host="::1") as server:
        for method in ("GET", "POST", "PUT"):
            await read(await ask(http, server, method))
        authority = server.url.removeprefix("http://").removesuffix("/x").encode()
        get, post, put = server.heads
        assert get.startswith(b"GET /x HTTP/1.1\r\nhost: " + authority + b"\r\n")
        assert b"content-length" not in get
        assert all(b"\r\ncontent-length: 0\r\n" in head for head in (post, put))
        assert server.connections == 1


async def test_a_connection_that_ends_before_it_is_used_is_forgotten(http: HttpTransport) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        for _ in range(20):
            with pytest.raises(StreamBroken):
                await http.send("POST", url, {}, b"{}", Timeouts())
        assert http._pool is not None
        made = await http._pool.connect(pool.Place("127.0.0.1", server.sockets[0].getsockname()[1], tls=False))
        async with asyncio.timeout(10.0):
            while http._pool._all or not made.closed:
                await asyncio.sleep(0.01)
        with pytest.raises(StreamBroken, match="before an answer"):
            await made.ask(b"GET / HTTP/1.1\r\n\r\n", b"")


async def test_an_idle_connection_is_closed_in_time(http: HttpTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "KEEPALIVE_SECONDS", 0.05)
    async with served([TWO]) as server:
        await read(await ask(http, server))
        async with asyncio.timeout(10.0):
            await server.closed.wait()
        assert http._pool is not None
        assert not http._pool._idle


@pytest.mark.parametrize(
    ("said", "connections"), [("timeout=1", 2), ("timeout=60, max=9", 1), ("soon", 1), ("max=1", 1)]
)
async def test_a_connection_that_its_server_is_about_to_close_is_not_used(
    http: HttpTransport, said: str, connections: int
) -> None:
    answer = OK + f"keep-alive: {said}\r\ncontent-length: 2\r\n\r\n{{}}".encode()
    async with served([answer], [answer]) as server:
        for _ in range(2):
            assert await read(await ask(http, server)) == b"{}"
        assert server.connections == connections


async def test_a_name_is_resolved_once_for_all_who_ask(http: HttpTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    loop = asyncio.get_running_loop()
    resolve = loop.getaddrinfo

    async def counted(host: str, port: int, **more: int) -> list[object]:
        if host != "127.0.0.1":  # uvloop turns an address into one again
            asked.append(host)
        if host == "nowhere.invalid":
            raise socket.gaierror
        return list(await resolve(host, port, **more))

    monkeypatch.setattr(loop, "getaddrinfo", counted)
    async with served([TWO]) as server:
        server.url = server.url.replace("127.0.0.1", "localhost")
        for answer in await asyncio.gather(*[ask(http, server) for _ in range(5)]):
            assert await read(answer) == b"{}"
    assert asked == ["localhost"]
    for _ in range(2):
        with pytest.raises(StreamBroken, match="name unknown") as raised:
            await http.send("POST", "http://nowhere.invalid/", {}, b"", Timeouts())
        assert raised.value.code == pool.UNREACHABLE
    assert asked == ["localhost", "nowhere.invalid", "nowhere.invalid"]


async def test_a_handshake_that_does_not_end_is_a_timeout(http: HttpTransport) -> None:
    async with served([30.0]) as server:
        with pytest.raises(TimedOut):
            await http.send("POST", server.url.replace("http", "https"), {}, b"", Timeouts(connect=0.2))
