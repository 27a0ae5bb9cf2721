"""Fetching for tools: every connection goes to an address that was looked at, and to no other.

    target_of (the form) -> resolve once -> pinned (every address) -> connect to these numbers, never to the name again

A name that answers otherwise the second time (DNS rebinding) is not asked a second time. The last look is at the
socket, whose address is compared with the pinned ones before it connects: whatever the HTTP client makes of a host.
Redirects are followed here, hop by hop, each as if it were asked for by itself. No proxy, no cookies.

Above it: `actors.tools.openapi_source` and `actors.tools.fetch_source`, which are given it by name. Below it: aiohttp,
`actors.tools.argument_guards`, `pipelines.tools.addresses`. Outside it: what the answer means.
"""

import asyncio
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from actors.tools.argument_guards import Resolve, addresses_of
from deployments.http.outbound import outbound
from pipelines.errors import ToolFailed
from pipelines.tools.addresses import Reach, Target, pinned, target_of
from pipelines.tools.fetching import Fetched, Fetching

AGENT = "penstock-tools"

_REDIRECTS = (301, 302, 303, 307, 308)
_PIECE = 64 * 1024


class Fetcher:
    """A `pipelines.tools.fetching.Fetch` over real sockets."""

    def __init__(self, resolve: Resolve = addresses_of) -> None:
        self._resolve = resolve

    async def __call__(self, fetching: Fetching) -> Fetched:
        """The answer to one request, after its redirects. Raises ToolFailed."""
        try:
            async with asyncio.timeout(fetching.seconds):
                return await self._follow(fetching)
        except TimeoutError:
            raise ToolFailed(f"the server did not answer within {fetching.seconds:g} s", status=504) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ToolFailed(f"the URL could not be fetched ({type(error).__name__})") from None

    async def _follow(self, fetching: Fetching) -> Fetched:
        url, headers, origin = fetching.url, fetching.headers, None
        left = fetching.redirects if fetching.method in ("GET", "HEAD") else 0
        while True:
            target = target_of(url, fetching.reach)
            if origin not in (None, target.url.origin()):
                headers = {}
            origin = target.url.origin()
            fetched = await self._once(target, fetching, headers)
            if not fetched.location or fetching.redirects == 0:
                return fetched
            if left == 0:
                raise ToolFailed("the URL redirects too often, or what was sent to it may not be sent on")
            left -= 1
            url = fetched.location

    async def _once(self, target: Target, fetching: Fetching, headers: Mapping[str, str]) -> Fetched:
        try:
            given = [str(target.address)] if target.address else await self._resolve(target.host, target.port)
        except OSError:
            given = []
        addresses = pinned(given, fetching.reach)
        async with (
            _session(addresses, fetching.reach) as session,
            session.request(
                fetching.method, target.url, headers=headers, data=fetching.body, allow_redirects=False
            ) as response,
        ):
            body = await _read(response.content, fetching.most)
            return Fetched(
                url=str(target.url),
                status=response.status,
                media_type=response.content_type.lower(),
                charset=response.charset or "",
                body=body[: fetching.most],
                cut=len(body) > fetching.most,
                location=_location(target.url, response),
            )


@asynccontextmanager
async def _session(addresses: tuple[str, ...], reach: Reach) -> AsyncGenerator[aiohttp.ClientSession, None]:
    """A client that reaches these addresses only."""

    def connecting(info: tuple[int, int, int, str, tuple[object, ...]]) -> socket.socket:
        pinned([str(info[4][0])], reach)
        if info[4][0] not in addresses:
            raise ToolFailed("the client strayed from the address that was looked at")
        return socket.socket(info[0], info[1], info[2])

    connector = aiohttp.TCPConnector(
        resolver=_Pinned(addresses),
        use_dns_cache=False,
        force_close=True,
        ssl=outbound().context(),
        socket_factory=connecting,
    )
    # The one timeout is around all of it.
    async with aiohttp.ClientSession(
        connector=connector,
        headers={"user-agent": AGENT, "accept-encoding": "identity"},
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        trust_env=False,
    ) as session:
        yield session


class _Pinned(AbstractResolver):
    """The same answer for every name."""

    def __init__(self, addresses: tuple[str, ...]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses that were looked at."""
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """There is nothing to close."""


async def _read(content: aiohttp.StreamReader, most: int) -> bytes:
    """The body, or a little more than `most` bytes of it."""
    body = bytearray()
    while len(body) <= most and (piece := await content.read(_PIECE)):
        body += piece
    return bytes(body)


def _location(url: URL, response: aiohttp.ClientResponse) -> str:
    """Where a redirect leads, "" for any other answer."""
    location = response.headers.get("location", "") if response.status in _REDIRECTS else ""
    return str(url.join(URL(location))) if location else ""


fetch = Fetcher()
"""By this machine's resolver; sources are given it as "deployments.tools.fetching:fetch"."""
