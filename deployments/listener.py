"""A replica's own listener: uvicorn (httptools, the replica's loop) on a port of ours, beside Serve's ingress.

Two uses: the callers' port, which the replicas of a node share by SO_REUSEPORT, and a random port on the node's
address for the hop. SO_REUSEPORT would let a stranger's second instance share a port in silence, so the first bind
is exclusive, and who finds the port taken asks its holder to prove that it knows the cluster's secret.

Above it: `replica`. Below it: uvicorn. Outside it: what is served.
"""

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import uvicorn

from deployments.guard import Guard
from pipelines.errors import ConfigurationError

BACKLOG = 2048
KEEPALIVE_SECONDS = 75


class _Server(uvicorn.Server):
    """uvicorn without its signal handling: the process belongs to Ray."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Listener:
    """One listening socket and the server behind it."""

    def __init__(self, application: Callable[..., Any]) -> None:
        config = uvicorn.Config(
            application,
            http="httptools",
            loop="none",
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEPALIVE_SECONDS,
            server_header=False,
            date_header=False,
            proxy_headers=False,
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None
        self.address: tuple[str, int] = ("", 0)

    async def start(self, host: str, port: int, guard: Guard, *, shared: bool = False) -> None:
        """Listen; port 0 takes a free one. shared: other replicas of this cluster may hold the port too.

        Raises ConfigurationError where somebody else holds it.
        """
        sock = await _bound(host, port, guard, shared=shared)
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
        return self._task is not None and not self._task.done() and not self._server.should_exit

    async def stop(self) -> None:
        """Take no new connection, let what is under way end, then close."""
        self._server.should_exit = True
        if self._task is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._task


async def _bound(host: str, port: int, guard: Guard, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if not shared or not await _sibling(host, port, guard):
                raise ConfigurationError(
                    f"port {port} on {host} is taken by another program: {error.strerror}"
                ) from None
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise ConfigurationError(f"port {port} on {host} cannot be used: {error.strerror}") from None
    sock.setblocking(False)
    return sock


async def _sibling(host: str, port: int, guard: Guard) -> bool:
    """Whether the port's holder knows the cluster's secret (challenge and response; the secret is not sent)."""
    challenge = secrets.token_hex(16)
    address = "127.0.0.1" if host in ("0.0.0.0", "") else host
    with contextlib.suppress(httpx.HTTPError):
        async with httpx.AsyncClient(trust_env=False, timeout=2.0) as client:
            answer = await client.get(f"http://{address}:{port}/healthz", headers={"x-penstock-challenge": challenge})
            return secrets.compare_digest(answer.headers.get("x-penstock-proof", ""), guard.proof(challenge))
    return False
