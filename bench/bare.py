"""Bare Ray Serve, to compare with: what a token costs where nothing is done to it.

The same shape as Penstock's two lanes and nothing else: an ASGI application that passes bytes from an HTTP client to
its caller, in a Serve replica with a listener of its own. No keys, no limits, no dialects, no accounting.

    one: a listener, and the upstream behind it         two: a listener, and another replica's listener behind it

`BENCH_UPSTREAM` is where the upstream is, `BENCH_BARE_PORTS` (`8200,8201`) where they listen.

Above it: `bench.targets`. Below it: Ray Serve, uvicorn, aiohttp.
"""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

import aiohttp
import uvicorn
from ray import serve

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class _Server(uvicorn.Server):
    """uvicorn without its signal handling: the process belongs to Ray."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Bare:
    """Passes requests on to `base`, on its own port."""

    def __init__(self, base: str, port: int) -> None:
        self._base = base
        self._port = port
        self._server: asyncio.Task[None] | None = None

    async def __serve_build_asgi_app__(self) -> Callable[..., Awaitable[None]]:
        """Serve calls this on the replica's loop: open the listener, give the application."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
        )

        # A function and no method: uvicorn takes a bound method for an application of the older interface.
        async def application(scope: _Scope, receive: _Receive, send: _Send) -> None:
            await self._pass(scope, receive, send)

        config = uvicorn.Config(
            application,
            host="127.0.0.1",
            port=self._port,
            http="httptools",
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
        )
        self._server = asyncio.create_task(_Server(config).serve())
        return application

    async def _pass(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        path = "/v1/" + scope["path"].rpartition("/v1/")[2]
        headers = {"content-type": "application/json"}
        async with self._session.post(self._base + path, data=body, headers=headers) as answer:
            kept = [
                (name.lower().encode(), value.encode())
                for name, value in answer.headers.items()
                if name.lower() in ("content-type", "content-length")
            ]
            await send({"type": "http.response.start", "status": answer.status, "headers": kept})
            async for data in answer.content.iter_any():
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def _bound(name: str, base: str, port: int) -> serve.Application:
    deployment = serve.deployment(serve.ingress()(Bare)).options(
        name=name, max_ongoing_requests=10_000, ray_actor_options={"num_cpus": 0}
    )
    return deployment.bind(base, port)


_port, _second = map(int, os.environ.get("BENCH_BARE_PORTS", "8200,8201").split(","))
_upstream = os.environ.get("BENCH_UPSTREAM", "")

one = _bound("bare-one", _upstream, _port)
two = _bound("bare-two", f"http://127.0.0.1:{_port}", _second)
