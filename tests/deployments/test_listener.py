"""Listeners that share a port: one leaves, and nobody who comes, or is there, notices."""

import asyncio
import contextlib
import errno
import socket
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from deployments.guard import Guard
from deployments.http import connection
from deployments.http.handshake import refuse_handshakes, waiting
from deployments.http.listener import Listener
from pipelines.errors import ConfigurationError
from tests.clients import BrokenBody, Caller
from tests.deployments.house import free_port

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SYN_SENT = 2
"""Of Linux's enum of TCP states (`tcpi_state`, the first byte of `struct tcp_info`)."""

GUARD = Guard("secret")


class Place:
    """A listener whose answers take `seconds`; sibling listeners recognise each other."""

    def __init__(self, seconds: float = 0.002) -> None:
        self.seconds = seconds
        self.served = 0
        self.listener = Listener(self.application)

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        headers = dict(scope["headers"])
        self.served += scope["path"] == "/"
        await asyncio.sleep(self.seconds)
        proof = GUARD.proof(headers.get(b"x-penstock-challenge", b"").decode()).encode()
        head = [(b"content-length", b"2"), (b"x-penstock-proof", proof)]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": b"ok"})


@contextlib.contextmanager
def elsewhere(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> Any:
    """Run `work` on a uvloop of its own in a thread; calling what is given tells its event."""
    loop = uvloop.new_event_loop()
    told = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(work(told)))
    thread.start()
    try:
        yield lambda: loop.call_soon_threadsafe(told.set)
    finally:
        loop.call_soon_threadsafe(told.set)
        thread.join(10.0)
        loop.close()


async def hammer(port: int, keep: bool, stop: asyncio.Event, found: Counter[str]) -> None:
    """Ask again and again, on one connection until it is said to close or on a new one each time."""
    while not stop.is_set():
        try:
            async with await Caller.connect(f"http://127.0.0.1:{port}") as caller:
                closing = not keep
                while not stop.is_set():
                    await caller.send(GET)
                    head = await caller.head()
                    assert (head.status, await caller.body()) == (200, b"ok")
                    found["answered"] += 1
                    closing |= head.headers.get("connection") == "close"
                    if closing:
                        break
        except (OSError, BrokenBody) as error:
            found[repr(error)] += 1


async def test_no_request_fails_when_one_of_two_listeners_leaves() -> None:
    port, found, stop = free_port(), Counter[str](), asyncio.Event()
    leaver, stayer = Place(), Place()
    up, gone = asyncio.Event(), asyncio.Event()
    here = asyncio.get_running_loop()

    async def leaves(told: asyncio.Event) -> None:
        await leaver.listener.start("127.0.0.1", port, GUARD)
        here.call_soon_threadsafe(up.set)
        await told.wait()
        assert await leaver.listener.leave() == 0
        await leaver.listener.stop()
        here.call_soon_threadsafe(gone.set)

    with elsewhere(leaves) as leave:
        await up.wait()
        await stayer.listener.start("127.0.0.1", port, GUARD)
        callers = [asyncio.create_task(hammer(port, number % 4 == 0, stop, found)) for number in range(16)]
        async with asyncio.timeout(60.0):
            while leaver.served < 200:
                await asyncio.sleep(0.01)
            leave()
            await gone.wait()
            served = stayer.served
            while stayer.served < served + 100:
                await asyncio.sleep(0.01)
        stop.set()
        await asyncio.gather(*callers)
    await stayer.listener.stop()
    assert set(found) == {"answered"}, found


async def test_whoever_waits_to_be_accepted_is_answered() -> None:
    port, places = free_port(), [Place(), Place()]
    for place in places:
        await place.listener.start("127.0.0.1", port, GUARD)
    callers = [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]  # no turn of the loop in between
    for caller in callers:
        caller.sendall(GET)
        caller.setblocking(False)
    await places[0].listener.leave()
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(30.0):
        answers = [await loop.sock_recv(caller, 1000) for caller in callers]
    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
    assert min(place.served for place in places) > 0
    for caller in callers:
        caller.close()
    for place in places:
        await place.listener.stop()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_socket_that_leaves_lets_handshakes_end_and_none_begin(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.closing(socket.socket(family)) as listening:
        try:
            listening.bind((host, 0))
        except OSError:
            pytest.skip("this machine has no such address")
        listening.listen(10)
        with contextlib.closing(socket.create_connection(listening.getsockname()[:2])) as early:
            assert waiting(listening) == 1
            assert refuse_handshakes(listening) < 1
            with contextlib.closing(socket.socket(family)) as late:
                late.setblocking(False)
                assert late.connect_ex(listening.getsockname()) == errno.EINPROGRESS
                assert late.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == SYN_SENT
            early.sendall(b"hello")
            accepted, _ = listening.accept()
            with accepted:
                assert accepted.recv(5) == b"hello"
            assert waiting(listening) == 0


async def test_a_listener_that_leaves_says_so_on_the_connections_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LEAVING_SECONDS", 3.0)
    place = Place()
    await place.listener.start("127.0.0.1", free_port(), GUARD)
    url = "http://{}:{}".format(*place.listener.address)
    async with await Caller.connect(url) as busy, await Caller.connect(url) as idle, await Caller.connect(url) as new:
        for caller in (busy, idle):
            await caller.send(GET)
            assert "connection" not in (await caller.head()).headers
            await caller.body()
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert place.listener.alive
        stopping = asyncio.create_task(place.listener.stop())
        while place.listener.alive:
            await asyncio.sleep(0.01)
        with pytest.raises(ConnectionRefusedError):
            await Caller.connect(url)
        await busy.send(GET)
        head = await busy.head()
        assert (head.status, head.headers["connection"]) == (200, "close")
        assert await busy.body() == b"ok"
        others = asyncio.create_task(idle.hung_up())
        assert await busy.hung_up()
        # Who has had his answer goes at once, the others when their time is over.
        assert not others.done()
        assert await others
        assert await new.hung_up()
        assert loop.time() - began > 2.8
        await stopping


async def test_what_does_not_end_in_time_is_cut_off() -> None:
    place = Place(seconds=60.0)
    await place.listener.start("127.0.0.1", free_port(), GUARD)
    async with await Caller.connect("http://{}:{}".format(*place.listener.address)) as caller:
        await caller.send(GET)
        while not place.served:
            await asyncio.sleep(0.005)
        async with asyncio.timeout(30.0):
            await place.listener.stop(0.1)
        with pytest.raises(BrokenBody):
            await caller.head()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
async def test_a_port_is_shared_with_siblings_and_with_nobody_else(host: str) -> None:
    port, first, second = free_port(), Place(), Place()
    await first.listener.start(host, port, GUARD)
    await second.listener.start(host, port, GUARD)
    for stranger in (Guard("another"), Guard(), Guard("secret", application="another")):
        with pytest.raises(ConfigurationError, match="taken by another program"):
            await Place().listener.start(host, port, stranger)
    await first.listener.stop()
    await second.listener.stop()


async def test_a_port_whose_holder_is_leaving_is_waited_for() -> None:
    port, old, new = free_port(), Place(), Place()
    await old.listener.start("127.0.0.1", port, GUARD)
    assert old.listener._socket is not None
    refuse_handshakes(old.listener._socket)
    starting = asyncio.create_task(new.listener.start("127.0.0.1", port, GUARD))
    await asyncio.sleep(0.05)
    await old.listener.stop()
    await starting
    assert new.listener.alive
    await new.listener.stop()
