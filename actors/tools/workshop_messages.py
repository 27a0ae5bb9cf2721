"""What an executor and its workshop tell each other, over two pipes, and what a call's own process tells the executor.

    message = length (4 bytes, big-endian), MessagePack of one of the structs below
    a call's pipe = (length (4 bytes), MessagePack of Progress or Ran)*

Above it: `workshop`, `workshop_client`. Below it: `confinement`, `pipelines.tools.catalogue`. Outside it: pipes.
"""

import struct
from collections.abc import Iterator

import msgspec

from actors.tools.confinement import Isolation, Limits
from pipelines.tools.catalogue import Progress, Ran, Tool

MOST_FRAME = 8 * 1024 * 1024
"""Bytes of one frame of a call's pipe."""

_LENGTH = struct.Struct(">I")


class Setup(msgspec.Struct, frozen=True):
    """The first message: what a workshop is for.

    functions: "module" or "module:function" each. network: whether what runs may reach it. users: first and last
    number of the users that calls run as. hidden: directories that must look empty; roots: those that tools work in.
    folder: a directory of the workshop's own.
    """

    functions: tuple[str, ...]
    network: bool
    users: tuple[int, int]
    hidden: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()
    folder: str = ""


class Begin(msgspec.Struct, frozen=True, tag="begin"):
    """Run a tool. number: the executor's own for this call; pipe: the path of the named pipe that its process writes
    to; arguments: where that process finds them, an encoded dict; result: bytes of it at most."""

    number: int
    tool: str
    arguments: str
    pipe: str
    limits: Limits
    result: int


class Kill(msgspec.Struct, frozen=True, tag="kill"):
    """End that call, whatever it does."""

    number: int


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The workshop's first message: its tools, and what can be had; or why it is of no use."""

    tools: tuple[Tool, ...] = ()
    isolation: Isolation = Isolation(False, False)
    error: str = ""


class Gone(msgspec.Struct, frozen=True, tag="gone"):
    """Nothing of a call is left. status: exit code of its process, minus the signal that ended it; why: what kept it
    from beginning, if anything did."""

    number: int
    status: int = 0
    why: str = ""


orders: msgspec.msgpack.Decoder[Begin | Kill] = msgspec.msgpack.Decoder(Begin | Kill)
reports: msgspec.msgpack.Decoder[Ready | Gone] = msgspec.msgpack.Decoder(Ready | Gone)
steps: msgspec.msgpack.Decoder[Progress | Ran] = msgspec.msgpack.Decoder(Progress | Ran)


def framed(value: msgspec.Struct) -> bytes:
    """A value with its length before it."""
    data = msgspec.msgpack.encode(value)
    return _LENGTH.pack(len(data)) + data


def frames(held: bytearray, most: int = 2**32 - 1) -> Iterator[bytes]:
    """The complete frames of what has come so far, which are taken out of it. ValueError for one beyond `most`."""
    while len(held) >= _LENGTH.size:
        (length,) = _LENGTH.unpack_from(held)
        if length > most:
            raise ValueError(f"a frame of {length} bytes")
        end = _LENGTH.size + length
        if len(held) < end:
            return
        frame = bytes(held[_LENGTH.size : end])
        del held[:end]
        yield frame
