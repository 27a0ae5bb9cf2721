"""HTTP on real sockets: what is kept, what is closed, what is never sent twice, and how large anything may grow."""

import asyncio
import gzip
import random
import zlib
from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from deployments.http import transport
from deployments.http.transport import HttpAnswer, HttpTransport
from pipelines.errors import ProtocolError, StreamBroken, TimedOut
from pipelines.resilience import Timeouts
from tests.upstream import Fault, Upstream

MIB = 2**20
PATH = "/v1/chat/completions"
ASKED = b'{"model": "m", "messages": [], "stream": true}'
JSON = {"content-type": "application/json"}


@pytest.fixture
async def http() -> AsyncIterator[HttpTransport]:
    made = HttpTransport()
    yield made
    await made.close()


async def post(http: HttpTransport, upstream: Upstream, body: bytes = ASKED) -> HttpAnswer:
    return await http.send("POST", upstream.url + PATH, JSON, body, Timeouts(connect=30.0))


async def read(answer: HttpAnswer) -> bytes:
    try:
        return b"".join([chunk async for chunk in answer.chunks()])
    finally:
        await answer.close()


def given(body: bytes, **headers: str) -> Fault:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Fault(name="given", body=body, headers={"content-type": "text/plain", **named})


async def test_a_connection_is_kept_and_asks_for_no_compression(http: HttpTransport, upstream: Upstream) -> None:
    for _ in range(3):
        answer = await post(http, upstream)
        assert answer.status == 200
        assert b"[DONE]" in await read(answer)
    assert len(upstream.connections) == 1
    seen = upstream.requests[0]
    assert seen.header("accept-encoding") == "identity"
    assert seen.header("user-agent") is None
    assert seen.header("content-length") == str(len(ASKED))


async def test_headers_are_in_lower_case_and_redirects_are_not_followed(
    http: HttpTransport, upstream: Upstream
) -> None:
    upstream.plan("m", Fault(status=302, body=b"", headers={"Location": "/elsewhere", "X-Long": "x" * 30_000}))
    answer = await post(http, upstream)
    await answer.close()
    assert (answer.status, answer.headers["location"]) == (302, "/elsewhere")
    assert len(answer.headers["x-long"]) == 30_000
    assert len(upstream.requests) == 1


async def test_closing_an_unread_answer_closes_the_connection(http: HttpTransport, upstream: Upstream) -> None:
    upstream.plan("m", Fault.without_end(gap=0.01))
    answer = await post(http, upstream)
    async for _ in answer.chunks():
        break
    await answer.close()
    await upstream.wait_closed()


async def test_cancelling_before_the_headers_closes_the_connection(http: HttpTransport, upstream: Upstream) -> None:
    upstream.plan("m", Fault.never_answer())
    task = asyncio.create_task(post(http, upstream))
    await upstream.wait_requests(1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await upstream.wait_closed()


@pytest.mark.parametrize("fault", [Fault.reset_before_headers(), Fault.close_before_headers()], ids=lambda f: f.name)
@pytest.mark.parametrize("kept", [True, False])
async def test_a_post_that_meets_a_closed_connection_is_said_to_be_broken_and_not_repeated(
    http: HttpTransport, upstream: Upstream, fault: Fault, kept: bool
) -> None:
    if kept:
        await read(await post(http, upstream))
    before = len(upstream.requests)
    upstream.plan("m", fault, times=None)
    with pytest.raises(StreamBroken, match="before an answer") as raised:
        await post(http, upstream)
    assert raised.value.reason == "broken"
    assert len(upstream.requests) == before + 1


async def test_a_connection_that_the_server_closed_while_idle_is_not_used(
    http: HttpTransport, upstream: Upstream
) -> None:
    await read(await post(http, upstream))
    for connection in list(upstream._live.values()):
        connection.transport.close()
    await upstream.wait_closed()
    for _ in range(5):
        await asyncio.sleep(0)  # the loop turns, and hears of it
    assert b"[DONE]" in await read(await post(http, upstream))
    assert len(upstream.requests) == 2


async def test_nobody_there_is_broken_and_no_connection_in_time_is_a_timeout(http: HttpTransport) -> None:
    async with Upstream() as upstream:
        gone = upstream
    with pytest.raises(StreamBroken, match="cannot be reached"):
        await post(http, gone)
    with pytest.raises(StreamBroken, match="broke before an answer"):
        await http.send("POST", "nonsense:", JSON, b"{}", Timeouts())
    # TEST-NET-1 (RFC 5737): nobody answers there; where the machine has no way at all it says so at once.
    async with asyncio.timeout(60.0):
        with pytest.raises((TimedOut, StreamBroken)):
            await http.send("POST", "http://192.0.2.1:9/", JSON, b"{}", Timeouts(connect=0.2))


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_what_is_compressed_against_our_wish_is_inflated(
    http: HttpTransport, upstream: Upstream, encoding: str
) -> None:
    text = b"data: word\n\n" * 200_000
    wbits = 31 if encoding == "gzip" else 15
    packer = zlib.compressobj(wbits=wbits)
    upstream.plan("m", given(packer.compress(text) + packer.flush(), content_encoding=encoding))
    answer = await post(http, upstream)
    pieces = [piece async for piece in answer.chunks()]
    await answer.close()
    assert b"".join(pieces) == text
    assert max(map(len, pieces)) <= MIB


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(b"one\n") + gzip.compress(b"two\n") + bytes(5), "gzip"),
        (gzip.compress(b"one\ntwo\n"), "X-GZIP"),
        (zlib.compress(b"one\ntwo\n")[2:-4], "deflate"),
        (gzip.compress(b"one\ntwo\n"), "gzip, identity"),
        (b"one\ntwo\n", "none"),
        (b"one\ntwo\n", "UTF-8"),
        (b"one\ntwo\n", "Identity"),
        (b"one\ntwo\n", " , identity"),
    ],
    ids=["members", "another name", "bare", "with none", "none", "charset", "identity", "nothing"],
)
async def test_other_forms_of_compression(http: HttpTransport, upstream: Upstream, body: bytes, encoding: str) -> None:
    upstream.plan("m", given(body, content_encoding=encoding))
    assert await read(await post(http, upstream)) == b"one\ntwo\n"


async def test_a_compressed_answer_that_is_cut_off_is_broken(http: HttpTransport, upstream: Upstream) -> None:
    body = gzip.compress(random.Random(1).randbytes(10_000))
    upstream.plan("m", given(body[:-100], content_encoding="gzip"))
    with pytest.raises(StreamBroken, match="before its end"):
        await read(await post(http, upstream))


@pytest.mark.parametrize(
    ("body", "encoding", "said"),
    [
        (b"\x1f\x8bnonsense", "gzip", "does not decompress"),
        (b"x", "br", "has the encoding 'br'"),
        (b"x", "zstd, identity", "has the encoding 'zstd'"),
        (b"x", "gzip, br", "has the encoding 'gzip, br'"),
    ],
)
async def test_an_encoding_that_cannot_be_read(
    http: HttpTransport, upstream: Upstream, body: bytes, encoding: str, said: str
) -> None:
    upstream.plan("m", given(body, content_encoding=encoding))
    with pytest.raises(ProtocolError, match=said):
        await read(await post(http, upstream))
    await upstream.wait_closed()


async def test_a_bomb_ends_before_it_fills_the_memory(http: HttpTransport, upstream: Upstream) -> None:
    upstream.plan("m", Fault.gzip_bomb(2**30))
    answer = await post(http, upstream)
    grown = 0
    with pytest.raises(ProtocolError, match="grows beyond"):  # noqa: PT012 - the body is the subject
        async for piece in answer.chunks():
            assert len(piece) <= MIB
            grown += len(piece)
    await answer.close()
    assert grown <= transport.MAX_INFLATED


@pytest.mark.parametrize("size", [0, 100, 3 * MIB])
async def test_bodies_of_every_size_arrive(http: HttpTransport, upstream: Upstream, size: int) -> None:
    body = b'{"model": "m", "messages": [], "pad": "' + b"x" * size + b'"}' if size else b""
    answer = await post(http, upstream, body)
    await read(answer)
    seen = upstream.requests[-1]
    assert seen.header("content-length") == str(len(body))
    assert seen.header("transfer-encoding") is None
    assert not size or len(seen.body["pad"]) == size


async def test_a_body_that_comes_bit_by_bit_is_sent_as_it_comes(http: HttpTransport, upstream: Upstream) -> None:
    async def bits() -> AsyncGenerator[bytes, None]:
        for start in range(0, len(ASKED), 7):
            yield ASKED[start : start + 7]

    for length in ({}, {"content-length": str(len(ASKED))}):
        answer = await http.send("POST", upstream.url + PATH, {**JSON, **length}, bits(), Timeouts())
        assert b"[DONE]" in await read(answer)
        assert upstream.requests[-1].body["model"] == "m"
        assert (upstream.requests[-1].header("transfer-encoding") == "chunked") == (not length)


@pytest.mark.parametrize(
    ("fault", "stream"),
    [
        (Fault.cut_off(3), True),
        (Fault.cut_off(3, "reset"), True),
        (Fault.broken_chunk(3), True),
        (Fault.cut_off(3), False),
        (Fault.cut_off(3, "reset"), False),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
async def test_a_body_that_ends_before_its_end_is_broken_at_once(
    http: HttpTransport, upstream: Upstream, fault: Fault, stream: bool
) -> None:
    upstream.plan("m", fault)
    async with asyncio.timeout(30.0):
        with pytest.raises(StreamBroken, match="the connection broke"):
            await read(await post(http, upstream, ASKED if stream else ASKED.replace(b"true", b"false")))


async def test_more_than_the_promised_length_is_not_taken_for_the_next_answer(http: HttpTransport) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while await reader.readuntil(b"}"):
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"
            )

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        for _ in range(3):
            answer = await http.send("POST", f"http://{host}:{port}/", JSON, b"{}", Timeouts())
            assert await read(answer) == b"{}"
        assert connections == 3
        await http.close()
