"""Numbered frames over a connection: what our own processes speak where an actor call, or HTTP, would cost too much.

    frame = length (4 bytes), number of the call (4), kind (1), payload      big-endian; length: of what follows it

Who comes to a listener says its token first (`Visited`), in a frame of the kind TOKEN.

Frames that are sent in one turn of the loop go out together: a segment, a system call and the other end's waking cost
more than most frames.

Above it: `ledger_socket`, `tool_socket`, `deployments.hop`. Below it: asyncio. Outside it: what kinds there are.
"""

import asyncio
import struct
from collections.abc import Callable
from typing import NamedTuple, cast

MOST_BYTES = 64 * 1024 * 1024
"""Of one frame."""

MOST_UNKNOWN = 1024
"""Of one frame of somebody who has not said yet who he is."""

TOKEN = 0
"""The kind of the first frame."""

_HEAD = struct.Struct(">IIB")


class Endpoint(NamedTuple):
    """Where a listener is, and its token."""

    host: str
    port: int
    token: bytes


def framed(number: int, kind: int, payload: bytes) -> bytes:
    """A frame."""
    return _HEAD.pack(len(payload) + 5, number, kind) + payload


class Frames(asyncio.Protocol):
    """Cuts a connection's bytes into frames. most: bytes of one frame; a larger one ends the connection.

    writable: cleared while the other end takes nothing.
    """

    def __init__(self, most: int = MOST_BYTES) -> None:
        self.most = most
        self.writable = asyncio.Event()
        self.writable.set()
        self._held = bytearray()
        self._unsent: list[bytes] = []
        self._soon: asyncio.Handle | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        # uvloop's transports are no subclass of it.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        held = self._held
        if held:
            held += data
            del held[: self._cut(held)]
        else:
            # Mostly whole frames come: nothing is copied but their payloads.
            done = self._cut(data)
            if done < len(data):
                held += data[done:]

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self.writable.clear()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self.writable.set()

    def frame(self, number: int, kind: int, payload: bytes) -> None:
        """One frame came."""
        raise NotImplementedError

    def send(self, number: int, kind: int, payload: bytes) -> None:
        """Send one, if there is still somebody, with whatever else is sent in this turn of the loop."""
        self._unsent.append(framed(number, kind, payload))
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Send now what would go out when the turn ends."""
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        unsent, self._unsent = self._unsent, []
        if unsent and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(unsent))

    def close(self) -> None:
        """End the connection, once what was sent has gone out; nothing more is heard."""
        self.most = 0
        self.flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End the connection now."""
        self.most = 0
        if self._transport is not None:
            self._transport.abort()

    def _cut(self, held: bytes | bytearray) -> int:
        """Handle the frames that are whole; how many bytes they were."""
        at, size = 0, len(held)
        while size - at >= _HEAD.size:
            length, number, kind = _HEAD.unpack_from(held, at)
            if not 5 <= length <= self.most:
                self.close()
                return size
            end = at + 4 + length
            if end > size:
                break
            self.frame(number, kind, bytes(held[at + _HEAD.size : end]))
            at = end
        return at


class Visited(Frames):
    """The end of a listener. knows: whether that is the token; without it the connection ends, and says little before.

    most: bytes of one frame from then on.
    """

    def __init__(self, knows: Callable[[bytes], bool], most: int = MOST_BYTES) -> None:
        super().__init__(MOST_UNKNOWN)
        self._knows = knows
        self._most_known = most
        self.known = False

    def frame(self, number: int, kind: int, payload: bytes) -> None:
        """The token first, then calls."""
        if self.known:
            self.told(number, kind, payload)
            return
        self.known = kind == TOKEN and self._knows(payload)
        if self.known:
            self.most = self._most_known
        else:
            self.close()
        self.greeted()

    def greeted(self) -> None:
        """Whether the other end is `known` is decided."""

    def told(self, number: int, kind: int, payload: bytes) -> None:
        """One frame came of who is known."""
        raise NotImplementedError
