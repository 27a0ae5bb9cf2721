"""Numbered frames over a connection: what an actor and its clients speak where an actor call would cost too much.

    frame = length (4 bytes), number of the call (4), kind (1), payload      big-endian; length: of what follows it

Above it: `ledger_socket`, `tool_socket`. Below it: asyncio. Outside it: what kinds there are.
"""

import asyncio
import struct
from typing import NamedTuple, cast

MOST_BYTES = 64 * 1024 * 1024
"""Of one frame."""

_HEAD = struct.Struct(">IIB")


class Door(NamedTuple):
    """Where a listener is, and its token."""

    host: str
    port: int
    token: bytes


class Frames(asyncio.Protocol):
    """Cuts a connection's bytes into frames."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        # uvloop's transports are no subclass of it.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        held = self._held
        held += data
        while len(held) >= _HEAD.size:
            length, number, kind = _HEAD.unpack_from(held)
            if not 5 <= length <= MOST_BYTES:
                self.close()
                return
            if len(held) < length + 4:
                return
            payload = bytes(held[_HEAD.size : length + 4])
            del held[: length + 4]
            self.frame(number, kind, payload)

    def frame(self, number: int, kind: int, payload: bytes) -> None:
        """One frame came."""
        raise NotImplementedError

    def send(self, number: int, kind: int, payload: bytes) -> None:
        """Send one, if there is still somebody."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(_HEAD.pack(len(payload) + 5, number, kind) + payload)

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()
