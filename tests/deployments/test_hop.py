"""The hop's two ends over a real connection: many calls at once, each with its own window, and what ends them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

from actors.frames import TOKEN, framed
from deployments.guard import Guard
from deployments.hop import door as door_module
from deployments.hop import link as link_module
from deployments.hop.asking import Hop, ReplicaLost
from deployments.hop.door import Door
from deployments.hop.link import Crossing, Link, Links
from deployments.hop.wire import ASK, CREDIT, MORE, PIECE, WINDOW, Asked, encode
from deployments.http.line import of
from deployments.http.pool import UNREACHABLE
from deployments.http.reading import MAX_BODY
from deployments.visit import TRAILER
from pipelines.calls import Call, Caller
from pipelines.dialects import DIALECTS
from pipelines.errors import StreamBroken, TimedOut
from pipelines.routing.table import Outcome, ReplicaEntry

SECRET = "cluster-secret"
OUTCOME = msgspec.json.encode(Outcome("provider", "m", 1.0))


class Served:
    """A door, the gateway's end, and an application made of one coroutine a call. gone: paths whose caller left."""

    def __init__(self, door: Door, links: Links) -> None:
        self.door = door
        self.links = links
        self.gone: list[str] = []
        self.sent = 0
        self.answer: Callable[[Any, Any], Awaitable[None]] = self.echo

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        line = of(scope)
        assert line is not None
        line.watch(lambda: self.gone.append(scope["path"]))
        scope["body"] = await receive()
        await self.answer(scope, send)

    async def echo(self, scope: Any, send: Any) -> None:
        """Header and body, as they came."""
        raw = [(name.encode(), value.encode("latin-1")) for name, value in scope["penstock.headers"].items()]
        await send({"type": "http.response.start", "status": 201, "headers": raw})
        await send({"type": "http.response.body", "body": scope["body"]["body"], "more_body": False})

    async def pour(self, scope: Any, send: Any) -> None:
        """Without end."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while of(scope).gone is not None and scope["path"] not in self.gone:  # type: ignore[union-attr]
            await send({"type": "http.response.body", "body": b"x" * 10_000, "more_body": True})
            self.sent += 10_000
            await asyncio.sleep(0)

    @property
    def address(self) -> str:
        host, port = self.door.address
        return f"{host}:{port}"

    async def ask(self, body: bytes = b"", path: str = "/", **headers: str) -> Crossing:
        link = await self.links.to(self.address)
        return await link.ask(path, b"", headers, body)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    made: list[Served] = []

    async def application(*said: Any) -> None:
        await made[0].application(*said)

    made.append(Served(Door(application), Links(lambda: SECRET)))
    await made[0].door.start("127.0.0.1", Guard(SECRET))
    yield made[0]
    await made[0].links.close()
    await made[0].door.stop(0.0)


async def body_of(crossing: Crossing) -> bytes:
    return b"".join([piece async for piece in crossing.chunks()])


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(10.0):
        while not true():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, WINDOW * 3 + 7])
async def test_a_call_and_its_answer_cross_whole(served: Served, size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    answer = await served.ask(body[:size], name="wörd")
    assert (answer.status, answer.headers) == (201, {"name": "wörd"})
    assert await body_of(answer) == body[:size]


async def test_a_whole_answer_goes_out_in_one_piece(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    await body_of(await served.ask(b"the connection is made"))
    (caller,) = served.door._callers
    pieces: list[bytes] = []

    class Watched:
        def __init__(self, transport: asyncio.Transport | None) -> None:
            assert transport is not None
            self.is_closing = transport.is_closing
            self._transport = transport

        def write(self, data: bytes) -> None:
            pieces.append(data)
            self._transport.write(data)

    monkeypatch.setattr(caller, "_transport", Watched(caller._transport))
    assert await body_of(await served.ask(b"answer")) == b"answer"
    assert len(pieces) == 1, "head, body and end are a segment each"


async def test_many_calls_share_one_connection(served: Served) -> None:
    answers = await asyncio.gather(*(served.ask(b"%d" % number) for number in range(50)))
    assert [await body_of(answer) for answer in answers] == [b"%d" % number for number in range(50)]
    assert len(served.door._callers) == 1


async def test_a_slow_reader_stops_his_own_sender_and_nobody_else(served: Served) -> None:
    served.answer = served.pour
    slow = await served.ask(path="/slow")
    await asyncio.sleep(0.05)
    before = served.sent
    assert WINDOW - 20_000 <= before <= WINDOW + 20_000
    await asyncio.sleep(0.05)
    assert served.sent == before, "the sender goes on though nobody reads"
    served.answer = served.echo
    assert await body_of(await served.ask(b"meanwhile")) == b"meanwhile"
    read = 0
    async with contextlib.aclosing(slow.chunks()) as chunks:
        async for piece in chunks:
            read += len(piece)
            if read > WINDOW * 4:
                break
    assert served.sent > before
    await slow.close()
    await until(lambda: served.gone == ["/slow"])


@pytest.mark.parametrize("how", ["close", "cancel", "abort"])
async def test_a_caller_who_leaves_cancels_the_call_there(served: Served, how: str) -> None:
    started = asyncio.Event()

    async def hang(scope: Any, send: Any) -> None:
        if how == "close":
            await send({"type": "http.response.start", "status": 200, "headers": []})
        started.set()
        await asyncio.sleep(0.0 if served.gone else 30.0)

    served.answer = hang
    asking = asyncio.create_task(served.ask(path="/left"))
    await started.wait()
    if how == "close":
        await (await asking).close()
    elif how == "cancel":
        asking.cancel()
    else:
        (await served.links.to(served.address)).abort()
    await until(lambda: served.gone == ["/left"])
    if how == "abort":
        with pytest.raises(StreamBroken):
            await asking


@pytest.mark.parametrize("begun", [False, True])
async def test_an_application_that_breaks_breaks_its_own_answer(served: Served, begun: bool) -> None:
    async def broken(scope: Any, send: Any) -> None:
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("a secret")

    served.answer = broken
    with pytest.raises(StreamBroken) as raised:
        await body_of(await served.ask())
    assert "secret" not in raised.value.message
    served.answer = served.echo
    assert await body_of(await served.ask(b"next")) == b"next"


async def test_what_many_streams_say_soon_after_each_other_travels_together(served: Served) -> None:
    """The first piece of each and the end of each wait for nobody."""
    writes: list[int] = []
    paused = asyncio.Event()

    async def stream(scope: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first ", "more_body": True})
        await paused.wait()
        await send({"type": "http.response.body", "body": b"second", "more_body": True})
        await asyncio.sleep(0.05)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    served.answer = stream
    answers = await asyncio.gather(*(served.ask() for _ in range(20)))
    bodies = [answer.chunks() for answer in answers]
    assert [await anext(body) for body in bodies] == [b"first "] * 20
    (caller,) = served.door._callers
    transport: Any = caller._transport
    caller._transport = _Counting(transport, writes)  # type: ignore[assignment]
    paused.set()
    assert [await anext(body) for body in bodies] == [b"second"] * 20
    assert len(writes) <= 2, "one at once, the rest together"
    assert [[piece async for piece in body] for body in bodies] == [[]] * 20


class _Counting:
    """A transport that notes each write."""

    def __init__(self, transport: Any, writes: list[int]) -> None:
        self._transport = transport
        self._writes = writes

    def write(self, data: bytes) -> None:
        self._writes.append(len(data))
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


async def test_a_body_that_is_too_large_is_refused_by_its_head(served: Served) -> None:
    told: list[Any] = []

    async def refuse(scope: Any, send: Any) -> None:
        told.append(scope["penstock.headers"])
        await served.echo({"penstock.headers": {}, "body": {"body": b"no"}}, send)

    served.answer = refuse
    answer = await served.ask(b"x" * (MAX_BODY + 1))
    assert await body_of(answer) == b"no"
    assert told == [{"content-length": str(MAX_BODY + 1)}]
    served.answer = served.echo
    assert await body_of(await served.ask(b"next")) == b"next"


@pytest.mark.parametrize(
    "said",
    [
        framed(0, TOKEN, b"wrong"),
        framed(0, TOKEN, b""),
        framed(1, ASK, encode(Asked("/", b"", {}, 0, b""))),
        framed(0, TOKEN, b"x" * 2000),
        framed(0, TOKEN, SECRET.encode()) + framed(1, ASK, b"no request"),
        framed(0, TOKEN, SECRET.encode())
        + framed(1, ASK, encode(Asked("/", b"", {}, 2, b"a")))
        + framed(1, MORE, b"bcd"),
        framed(0, TOKEN, SECRET.encode())
        + framed(1, ASK, encode(Asked("/", b"", {}, 2, b"a")))
        + framed(1, CREDIT, b""),
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
async def test_who_does_not_know_the_secret_or_says_what_is_no_request_is_sent_away(
    served: Served, said: bytes
) -> None:
    called: list[object] = []

    async def noted(*_: object) -> None:
        called.append(None)

    served.answer = noted
    reader, writer = await asyncio.open_connection(*served.door.address)
    writer.write(said)
    async with asyncio.timeout(5.0):
        with contextlib.suppress(ConnectionError):
            while await reader.read(100):
                pass
    assert called == []
    writer.close()


async def test_a_silent_stranger_is_sent_away(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "TOKEN_SECONDS", 0.05)
    reader, writer = await asyncio.open_connection(*served.door.address)
    async with asyncio.timeout(5.0):
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    writer.close()


async def test_a_gateway_that_falls_silent_has_left(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(door_module, "TOKEN_SECONDS", 0.05)
    monkeypatch.setattr(door_module, "SECONDS_OF_SILENCE", 0.1)
    served.answer = lambda scope, send: asyncio.sleep(0.0 if served.gone else 30.0)
    with pytest.raises(StreamBroken):
        await served.ask(path="/left")
    assert served.gone == ["/left"]


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes what comes, and welcomes nobody."""
    while await reader.read(1000):
        pass
    writer.close()


async def test_who_is_not_there_or_says_nothing_is_told_apart(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "CONNECT_SECONDS", 0.1)
    await served.door.stop(0.0)
    with pytest.raises(StreamBroken) as raised:
        await served.ask()
    assert raised.value.code == UNREACHABLE
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        with pytest.raises(TimedOut) as late:
            await served.links.to(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert late.value.phase == "connect"
    with pytest.raises(StreamBroken):
        await Links(lambda: SECRET).to("nonsense")


async def test_a_stale_connection_gets_no_new_call_and_keeps_its_old_ones(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "BEAT", 0.02)
    monkeypatch.setattr(link_module, "STALE_SECONDS", 0.1)
    holding = asyncio.Event()

    async def hold(scope: Any, send: Any) -> None:
        await holding.wait()
        await served.echo(scope, send)

    served.answer = hold
    old = asyncio.create_task(served.ask(b"old"))
    await until(lambda: served.door._callers and any(caller.calls for caller in served.door._callers))
    first = await served.links.to(served.address)
    (caller,) = served.door._callers
    monkeypatch.setattr(caller, "frame", lambda *_: None)  # it hears, and says nothing
    await until(lambda: first.stale)
    served.answer = served.echo
    assert await body_of(await served.ask(b"new")) == b"new"
    assert len(served.door._callers) == 2
    holding.set()
    assert await body_of(await old) == b"old"


async def test_a_connection_that_is_silent_for_too_long_is_lost(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "BEAT", 0.02)
    monkeypatch.setattr(link_module, "SECONDS_OF_SILENCE", 0.1)
    served.answer = lambda scope, send: asyncio.sleep(0.0 if served.gone else 30.0)
    asked = asyncio.create_task(served.ask())
    await until(lambda: served.door._callers and any(caller.calls for caller in served.door._callers))
    (caller,) = served.door._callers
    monkeypatch.setattr(caller, "frame", lambda *_: None)
    with pytest.raises(StreamBroken):
        await asked
    assert served.links._current == {}


async def test_an_idle_connection_ends_and_is_made_again(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "BEAT", 0.02)
    monkeypatch.setattr(link_module, "IDLE_SECONDS", 0.05)
    assert await body_of(await served.ask(b"one")) == b"one"
    first: Link = await served.links.to(served.address)
    await until(lambda: first.closed)
    await until(lambda: not served.door._callers)
    assert await body_of(await served.ask(b"two")) == b"two"


async def test_who_gives_up_waiting_for_a_connection_does_not_take_it_from_the_others(served: Served) -> None:
    first, second = (asyncio.create_task(served.links.to(served.address)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert not (await second).closed
    assert len(served.door._callers) == 1


@pytest.mark.parametrize("size", [4, 2_000_000])
async def test_a_door_that_closes_lets_what_is_under_way_end(
    served: Served, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    # It looks in every turn of the loop: in that one too in which the call has ended and its last words wait to go out.
    monkeypatch.setattr(door_module, "_TICK", 0.0)
    started = asyncio.Event()

    async def slow(scope: Any, send: Any) -> None:
        started.set()
        await asyncio.sleep(0.05)
        await served.echo(scope, send)

    served.answer = slow
    last = b"x" * size
    asked = asyncio.create_task(served.ask(last))
    await started.wait()
    stopping = asyncio.create_task(served.door.stop(5.0))
    assert await body_of(await asked) == last
    await stopping
    assert not served.door.alive


@pytest.mark.parametrize("last", [b"", b"data: [DONE]\n\n", TRAILER + b"no outcome\n\n", TRAILER + OUTCOME + b"\n\n"])
async def test_a_stream_that_ends_without_an_outcome_was_cut_off(served: Served, last: bytes) -> None:
    first = b'data: {"choices":[{"index":0,"delta":{"content":"half"}}]}\n\n'

    async def stream(scope: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": first, "more_body": True})
        await send({"type": "http.response.body", "body": last, "more_body": False})

    served.answer = stream
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
    call = Call("1", "openai_chat", body, DIALECTS["openai_chat"].read_request(body), Caller("me"), "routed")
    hop = Hop(Guard(SECRET))
    try:
        answer = await hop.ask(ReplicaEntry("replica", served.address), "provider", "m", call)
        assert answer.frames is not None
        heard: list[bytes] = []
        ends = contextlib.nullcontext() if OUTCOME in last else pytest.raises(ReplicaLost, match="cut its answer off")
        with ends:
            heard += [frames async for frames in answer.frames]
        assert OUTCOME not in b"".join(heard)
        assert (answer.outcome is not None) == (OUTCOME in last)
    finally:
        await hop.close()
