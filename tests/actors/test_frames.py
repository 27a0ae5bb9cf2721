"""Frames of one turn of the loop travel together, and nothing that was sent is lost when the connection ends."""

import asyncio
from typing import cast

from actors.frames import Frames, framed


class Wire:
    """A transport that keeps what was written, each write by itself."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close


def connected() -> tuple[Frames, Wire]:
    frames, wire = Frames(), Wire()
    frames.connection_made(cast(asyncio.Transport, wire))
    return frames, wire


async def test_frames_of_one_turn_are_one_write() -> None:
    frames, wire = connected()
    for number in range(3):
        frames.send(number, 7, b"x" * number)
    assert wire.written == []
    await asyncio.sleep(0)
    assert wire.written == [framed(0, 7, b"") + framed(1, 7, b"x") + framed(2, 7, b"xx")]
    frames.send(3, 7, b"")
    await asyncio.sleep(0)
    assert wire.written[1:] == [framed(3, 7, b"")]


async def test_what_was_sent_goes_out_before_the_end() -> None:
    frames, wire = connected()
    frames.send(1, 7, b"last words")
    frames.close()
    assert wire.written == [framed(1, 7, b"last words")]
    assert wire.closed


async def test_flush_sends_at_once_and_only_once() -> None:
    frames, wire = connected()
    frames.send(1, 7, b"now")
    frames.flush()
    assert wire.written == [framed(1, 7, b"now")]
    await asyncio.sleep(0)
    assert len(wire.written) == 1


async def test_nothing_is_written_to_a_connection_that_was_aborted() -> None:
    frames, wire = connected()
    frames.send(1, 7, b"too late")
    frames.abort()
    await asyncio.sleep(0)
    assert wire.written == []
