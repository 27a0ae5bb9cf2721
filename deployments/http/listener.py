"""A replica's own listener: uvicorn (httptools, the replica's loop) on a port of ours, beside Serve's ingress.

An application's replicas on a node share it by SO_REUSEPORT. That would let a stranger's second instance, or another
application, share a port in silence, so the first bind is exclusive, and who finds the port taken asks its holder to
prove that it knows the cluster's secret and is of the same application.

It leaves in two steps, so that no caller notices: `leave` takes no new connection, after accepting every one that
waits, and has each answer say `connection: close`; `stop` waits for what is under way.

Above it: `replica`. Below it: `connection`, `handshake`, `transport`, uvicorn. Outside it: what is served.
"""

import asyncio
import contextlib
import logging
import secrets
import socket
from collections.abc import Callable, Iterator
from typing import Any, cast

import uvicorn

from deployments.guard import Guard
from deployments.http.connection import KEEP_ALIVE_SECONDS, Connection, State
from deployments.http.handshake import refuse_handshakes, waiting
from deployments.http.transport import HttpTransport
from pipelines.errors import ConfigurationError, UpstreamError
from pipelines.resilience import Timeouts

BACKLOG = 2048

ACCEPT_SECONDS = 1.0
"""How long a leaving listener goes on accepting what waits."""

STOP_SECONDS = 5.0
"""How long what is under way may take when the listener stops."""

_CLOSING_SECONDS = 0.5
"""How long uvicorn takes to end when nothing is under way, at most."""

_TICK = 0.001

_ASKING_SECONDS = 2.0
"""How long whoever holds a port of ours is waited for."""

_logger = logging.getLogger("penstock")


class _Server(uvicorn.Server):
    """uvicorn without its signal handling, for the process belongs to Ray, and without a tick ten times a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.state = self.server_state = State()
        self._ended = asyncio.Event()

    def end(self) -> None:
        """Shut down."""
        self.should_exit = True
        self._ended.set()

    async def main_loop(self) -> None:
        """Serve until `end`."""
        await self.on_tick(0)
        await self._ended.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Listener:
    """One listening socket and the server behind it."""

    def __init__(self, application: Callable[..., Any]) -> None:
        config = uvicorn.Config(
            application,
            interface="asgi3",
            http=Connection,
            loop="none",
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            server_header=False,
            date_header=False,
            proxy_headers=False,
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None
        self._socket: socket.socket | None = None
        self.address: tuple[str, int] = ("", 0)

    async def start(self, host: str, port: int, guard: Guard) -> None:
        """Listen; other replicas of this application may hold the port too.

        Raises ConfigurationError where somebody else holds it.
        """
        sock = await _bound(host, port, guard)
        self._socket = sock
        self.address = sock.getsockname()[:2]
        self._task = asyncio.create_task(self._server.serve(sockets=[sock]))
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise ConfigurationError(f"the listener on {host}:{port} did not start")
            await asyncio.sleep(0.005)

    @property
    def alive(self) -> bool:
        """Whether it still serves."""
        return self._task is not None and not self._task.done() and self._socket is not None

    async def leave(self) -> int:
        """Take no new connection and have every answer say that its connection closes; further calls do nothing.

        Returns how many connections were reset that had waited to be accepted: 0, unless the loop was too busy.
        """
        sock, self._socket = self._socket, None
        if sock is None:
            return 0
        self._server.state.leaving = True
        for connection in self._connections():
            connection.leave()
        # First without the filter: whoever it meets is a second late.
        await _emptied(lambda: waiting(sock), ACCEPT_SECONDS)
        if seconds := refuse_handshakes(sock):
            await asyncio.sleep(seconds)
        lost = await _emptied(lambda: waiting(sock), ACCEPT_SECONDS)
        for server in self._server.servers:
            server.close()
        if lost:
            _logger.warning("the listener on %s:%d left with %d connections unaccepted", *self.address, lost)
        return lost

    async def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Leave, let what is under way end for `seconds`, cut off the rest.

        Idle connections are given the time to ask once more.
        """
        await self.leave()
        if self._task is None:
            return
        until = asyncio.get_running_loop().time() + seconds
        await _emptied(lambda: len(self._connections()), seconds)
        self._server.end()
        await asyncio.wait({self._task}, timeout=max(_CLOSING_SECONDS, until - asyncio.get_running_loop().time()))
        for connection in self._connections():
            connection.transport.abort()
        self._server.force_exit = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._task, _CLOSING_SECONDS)

    def _connections(self) -> list[Connection]:
        return cast(list[Connection], list(self._server.state.connections))


async def _emptied(count: Callable[[], int], seconds: float) -> int:
    """Wait until nothing is counted, for so many seconds at the most; returns what is left."""
    until = asyncio.get_running_loop().time() + seconds
    while (left := count()) and asyncio.get_running_loop().time() < until:  # noqa: ASYNC110 queues do not tell
        await asyncio.sleep(_TICK)
    return left


async def _bound(host: str, port: int, guard: Guard) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if wrong := _taken(family, host, port):
        # The holder may be leaving: silent by now, and the port free in a moment.
        sibling = await _sibling(host, port, guard)
        if not sibling and (wrong := _taken(family, host, port)):
            raise ConfigurationError(f"port {port} on {host} is taken by another program or application: {wrong}")
    # asyncio sets TCP_NODELAY only where the protocol is named.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise ConfigurationError(f"port {port} on {host} cannot be used: {error.strerror}") from None
    sock.setblocking(False)
    return sock


def _taken(family: socket.AddressFamily, host: str, port: int) -> str:
    """Why nobody can have the port to himself; "" where it is free."""
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror or str(error)
    return ""


async def _sibling(host: str, port: int, guard: Guard) -> bool:
    """Whether the port's holder is of our cluster and application (challenge and response; the secret is not sent)."""
    challenge = secrets.token_hex(16)
    address = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)
    named = f"[{address}]" if ":" in address else address
    transport = HttpTransport()
    try:
        async with asyncio.timeout(_ASKING_SECONDS):
            headers = {"x-penstock-challenge": challenge}
            answer = await transport.send("GET", f"http://{named}:{port}/healthz", headers, b"", Timeouts())
            await answer.close()
    except (UpstreamError, TimeoutError):
        return False
    finally:
        await transport.close()
    return secrets.compare_digest(answer.headers.get("x-penstock-proof", "").encode(), guard.proof(challenge).encode())
