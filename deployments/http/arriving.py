"""A body as it arrives, for one reader: what has come since he last looked is his next piece, if it is not much.

Most pieces of a stream come while its reader waits, and need nothing but to be sent on. Waking him for each, through
every generator between, costs as much as all the rest: where he has said so (`pass_to`), they go past him.

Above it: `client`, `deployments.hop.link`; whoever wants a whole body. Below it: asyncio.
Outside it: what stops a sender whom nobody reads.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from pipelines.errors import ProtocolError, StreamBroken

AT_ONCE = 64 * 1024
"""Bytes that a reader takes at once, if they came in several pieces: whoever passes them on holds them once more, and
then waits for a socket that may take none for long."""


class Arriving:
    """An answer. head: done once its headers are there, or failed; status, headers (names in lower case): from then on.

    size: bytes of the body that wait for their reader.
    """

    __slots__ = ("_error", "_loop", "_pieces", "_take", "_waiter", "ended", "head", "headers", "size", "status")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.head: asyncio.Future[None] = loop.create_future()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.size = 0
        self.ended = False
        self._loop = loop
        self._pieces: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._error: StreamBroken | None = None
        self._take: Callable[[bytes], bool] | None = None

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body: what has come since the last piece, or AT_ONCE of it. Raises StreamBroken where it is cut off."""
        while True:
            if self._pieces:
                yield self._taken()
            elif self._error is not None:
                raise self._error
            elif self.ended:
                return
            else:
                self._waiter = self._loop.create_future()
                await self._waiter

    async def whole(self, most: int) -> bytes:
        """See `pipelines.ports.UpstreamAnswer.whole`."""
        parts: list[bytes] = []
        length = 0
        while True:
            if self._pieces:
                parts.append(self._taken())
                length += len(parts[-1])
                if length > most:
                    raise too_long(most)
            elif self._error is not None:
                raise self._error
            elif self.ended:
                return parts[0] if len(parts) == 1 else b"".join(parts)
            else:
                self._waiter = self._loop.create_future()
                await self._waiter

    def pass_to(self, take: Callable[[bytes], bool]) -> None:
        """See `pipelines.ports.UpstreamAnswer.pass_to`."""
        self._take = take

    def taken(self, size: int) -> None:
        """The reader has taken so many bytes: the sender may go on."""
        raise NotImplementedError

    # For the connection alone.

    def append(self, piece: bytes) -> None:
        """More of the body; its reader hears of it by `arrived`."""
        self._pieces.append(piece)
        self.size += len(piece)

    def arrived(self) -> None:
        """All that has come at once is here."""
        waiter = self._waiter
        if waiter is None or waiter.done() or not self._pieces:
            return
        if self._take is not None and self.size <= AT_ONCE:
            data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            if self._take(data):
                self._pieces.clear()
                self.size = 0
                self.taken(len(data))
                return
        self._wake()

    def end(self) -> None:
        """The answer is whole."""
        self.ended = True
        self._wake()

    def fail(self, error: Exception) -> None:
        """It never will be: error if the head has not come, else a StreamBroken for the body's reader."""
        if not self.head.done():
            self.head.set_exception(error)
        else:
            name = type(error).__name__
            self._error = error if isinstance(error, StreamBroken) else StreamBroken(f"the connection broke: {name}")
        self._wake()

    @property
    def broken(self) -> bool:
        """Whether its body's end will never come."""
        return self._error is not None

    def _taken(self) -> bytes:
        pieces = self._pieces
        if len(pieces) == 1:
            data = pieces.pop()
        elif self.size <= AT_ONCE:
            data = b"".join(pieces)
            pieces.clear()
        else:
            count = size = 0
            while size < AT_ONCE:
                size += len(pieces[count])
                count += 1
            data = b"".join(pieces[:count])
            del pieces[:count]
        self.size -= len(data)
        self.taken(len(data))
        return data

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


async def whole(body: AsyncGenerator[bytes, None], most: int, *, cut: bool = False) -> bytes:
    """The whole of a body, of `most` bytes at the most. More is a ProtocolError; `cut`: as much of it as can be had."""
    parts: list[bytes] = []
    length = 0
    try:
        async with aclosing(body) as chunks:
            async for chunk in chunks:
                parts.append(chunk)
                length += len(chunk)
                if length > most:
                    break
    except (ProtocolError, StreamBroken):
        if not cut:
            raise
    if length > most and not cut:
        raise too_long(most)
    return b"".join(parts)[:most]


def too_long(most: int) -> ProtocolError:
    """An answer's body has more than so many bytes."""
    return ProtocolError(f"the provider's answer is longer than {most} bytes")
