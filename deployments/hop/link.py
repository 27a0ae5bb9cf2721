"""The gateway's end of the hop: one connection to each provider replica, and the answers that come over it.

A connection counts once it is welcomed: the kernel takes connections for a process that is being killed. One that is
silent for STALE_SECONDS though it was asked for a sign of life gets no new call, for its packets may wait for a
retransmission that others need not wait for; what is under way on it goes on, until SECONDS_OF_SILENCE.

Above it: `asking`. Below it: `wire`, `actors.frames`, `deployments.http.arriving`. Outside it: what is asked.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable

from actors.frames import TOKEN, Frames
from deployments.hop.wire import (
    ASK,
    BROKEN,
    CANCEL,
    CREDIT,
    CREDITS,
    DATA,
    END,
    HEAD,
    MORE,
    MOST,
    PIECE,
    PING,
    SECONDS_OF_SILENCE,
    WELCOME,
    WINDOW,
    Asked,
    encode,
    heads,
    pieces_of,
)
from deployments.http.arriving import Arriving
from deployments.http.pool import UNREACHABLE
from pipelines.errors import StreamBroken, TimedOut

CONNECT_SECONDS = 2.0

BEAT = 1.0
"""Seconds between two signs of life while something is under way."""

STALE_SECONDS = 2.0
"""Silence after which new calls go another way."""

IDLE_SECONDS = 30.0
"""How long a connection is kept without a call."""


class Crossing(Arriving):
    """The answer to one call. See `pipelines.ports.UpstreamAnswer`."""

    __slots__ = ("_link", "_number", "_unsaid")

    def __init__(self, link: "Link", number: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._link = link
        self._number = number
        self._unsaid = 0

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes."""
        return self.pieces()

    async def close(self, *, whole: bool = False) -> None:
        """End the call, if it is not over."""
        self._link.leave(self._number)

    def taken(self, size: int) -> None:
        """See `Arriving`. It is said when it is much: an ordinary stream never says it."""
        self._unsaid += size
        if self._unsaid >= WINDOW // 2 and not self.ended:
            self._link.send(self._number, CREDIT, CREDITS.pack(self._unsaid))
            self._unsaid = 0


class Link(Frames):
    """One connection. welcomed: done once it may be used, or failed; lost: is told when it has ended."""

    def __init__(self, loop: asyncio.AbstractEventLoop, lost: Callable[["Link"], None]) -> None:
        super().__init__(MOST)
        self.loop = loop
        self._lost = lost
        self.welcomed: asyncio.Future[None] = loop.create_future()
        self.closed = False
        self._calls: dict[int, Crossing] = {}
        self._fed: list[Crossing] = []
        self._number = 0
        self._pinged: float | None = None
        self._used = loop.time()
        self._timer = loop.call_later(BEAT, self._beat)

    @property
    def stale(self) -> bool:
        """Whether a new call had better go another way."""
        return self.closed or (self._pinged is not None and self.loop.time() - self._pinged > STALE_SECONDS)

    async def ask(self, path: str, query: bytes, headers: dict[str, str], body: bytes) -> Crossing:
        """Send a request and wait for the answer's head. Raises StreamBroken where the connection ends before.

        A cancellation cancels the call at the other end.
        """
        if self.closed:
            raise _gone()
        self._number = number = self._number % 0xFFFF_FFFF + 1
        crossing = self._calls[number] = Crossing(self, number, self.loop)
        self._used = self.loop.time()
        self.send(number, ASK, encode(Asked(path, query, headers, len(body), body[:PIECE])))
        try:
            for piece in pieces_of(body, PIECE):
                await self.writable.wait()
                self.send(number, MORE, piece)
                self.flush()  # only what has gone out can say that it is too much
            await crossing.head
        except BaseException:
            self.leave(number)
            raise
        return crossing

    def leave(self, number: int) -> None:
        """Nobody waits for this call any more."""
        if self._calls.pop(number, None) is not None:
            self.send(number, CANCEL, b"")

    # What the connection says.

    def frame(self, number: int, kind: int, payload: bytes) -> None:
        """What the other end says."""
        crossing = self._calls.get(number)
        if crossing is not None:
            if kind == DATA:
                crossing.append(payload)
                self._fed.append(crossing)
            elif kind == HEAD:
                self._begun(crossing, payload)
            elif kind in (END, BROKEN):
                del self._calls[number]
                if kind == END:
                    crossing.end()
                else:
                    crossing.fail(StreamBroken("the provider's replica broke its answer off"))
        elif kind == WELCOME and not self.welcomed.done():
            self.welcomed.set_result(None)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._pinged = None
        super().data_received(data)
        fed, self._fed = self._fed, []
        for crossing in fed:
            crossing.arrived()

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.closed = True
        self._timer.cancel()
        self.writable.set()
        calls, self._calls = self._calls, {}
        for crossing in calls.values():
            crossing.fail(_gone())
        if not self.welcomed.done():
            self.welcomed.set_exception(_gone())
        self._lost(self)

    def abort(self) -> None:
        """End it now, with whatever is under way."""
        self._timer.cancel()
        super().abort()

    def _begun(self, crossing: Crossing, payload: bytes) -> None:
        head = heads.decode(payload)
        crossing.status = head.status
        crossing.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
        if not crossing.head.done():
            crossing.head.set_result(None)

    def _beat(self) -> None:
        now = self.loop.time()
        self._timer = self.loop.call_later(BEAT, self._beat)
        if self._calls:
            self._used = now
            if self._pinged is None:
                self._pinged = now
                self.send(0, PING, b"")
            elif now - self._pinged > SECONDS_OF_SILENCE:
                self.abort()
        elif now - self._used > IDLE_SECONDS or self.stale:
            self.close()


class Links:
    """The connections of one gateway replica. secret: gives the cluster's."""

    def __init__(self, secret: Callable[[], str]) -> None:
        self._secret = secret
        self._current: dict[str, Link] = {}
        self._all: set[Link] = set()
        self._making: dict[str, asyncio.Task[Link]] = {}

    async def to(self, address: str) -> Link:
        """A connection to a replica (`host:port`). Raises StreamBroken, UNREACHABLE where nobody listens; TimedOut."""
        link = self._current.get(address)
        if link is not None and not link.stale:
            return link
        making = self._making.get(address)
        if making is None:
            making = self._making[address] = asyncio.create_task(self._made(address))
        # Whoever asked first may give up; the others still want it.
        return await asyncio.shield(making)

    async def close(self) -> None:
        """Close every connection."""
        for making in tuple(self._making.values()):
            making.cancel()
        for link in tuple(self._all):
            link.abort()
        await asyncio.sleep(0)  # the loop closes their sockets when it turns

    async def _made(self, address: str) -> Link:
        loop = asyncio.get_running_loop()
        link = Link(loop, self._lost)
        self._all.add(link)
        host, _, port = address.rpartition(":")
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await loop.create_connection(lambda: link, host.strip("[]"), int(port))
                link.send(0, TOKEN, self._secret().encode())
                await link.welcomed
        except BaseException as error:
            link.abort()
            self._lost(link)
            if isinstance(error, TimeoutError):
                raise TimedOut(f"no connection within {CONNECT_SECONDS:g} s", phase="connect") from None
            if isinstance(error, OSError | ValueError):
                raise StreamBroken("the provider's replica cannot be reached", code=UNREACHABLE) from error
            raise
        finally:
            del self._making[address]
        self._current[address] = link
        return link

    def _lost(self, link: Link) -> None:
        self._all.discard(link)
        for address in [address for address, current in self._current.items() if current is link]:
            del self._current[address]


def _gone() -> StreamBroken:
    return StreamBroken("the connection to the provider's replica broke")
