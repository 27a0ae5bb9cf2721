"""What crosses the hop: requests and answers of many calls in frames over one connection (`actors.frames`).

    gateway   TOKEN secret                  once, first
              ASK request, MORE body*       one call; its number is that of all its frames
              CREDIT bytes                  read: so many more may come of its answer
              CANCEL                        nobody waits for it any more
              PING                          once a second while calls are under way
    provider  WELCOME                       the secret is right, and this process is alive
              HEAD status, headers; DATA body*; END
              BROKEN                        the answer will never be whole
              PONG

Why not HTTP, of which this is a small part: what many streams have to say soon after each other travels in one
segment, with one system call on either side, and no head is parsed. Like HTTP/2 (RFC 9113, section 5.2) it has a
window for each stream, so that a slow reader stops his own sender and nobody else, and no frame is longer than PIECE,
so that a large body lets others through.

Above it: `link`, `door`. Below it: msgspec. Outside it: connections.
"""

import struct
from collections.abc import Iterator, Sequence

import msgspec

ASK, MORE, CREDIT, CANCEL, PING, WELCOME, HEAD, DATA, END, BROKEN, PONG = range(1, 12)
"""Kinds of frames, beside `actors.frames.TOKEN`."""

PIECE = 32 * 1024
"""Bytes of a body in one frame."""

MOST = 4 * PIECE
"""Bytes of a frame: a request's head, which has MAX_HEADER_BYTES at the most, stands before its body's first piece."""

WINDOW = 64 * 1024
"""Bytes of an answer that may be on their way, or wait for their reader, when its next piece is sent."""

SECONDS_OF_SILENCE = 30.0
"""After which the other end is lost. While a call is under way both ends speak once a second."""

CREDITS = struct.Struct(">I")


class Asked(msgspec.Struct, array_like=True, frozen=True):
    """A request. size: bytes of its body in all, of which these are the first."""

    path: str
    query: bytes
    headers: dict[str, str]
    size: int
    body: bytes


class Head(msgspec.Struct, array_like=True, frozen=True):
    """An answer's beginning."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]


requests = msgspec.msgpack.Decoder(Asked)
heads = msgspec.msgpack.Decoder(Head)
encode = msgspec.msgpack.Encoder().encode


def pieces_of(body: bytes, start: int = 0) -> Iterator[bytes]:
    """The body from `start` on, in pieces of PIECE."""
    return (body[at : at + PIECE] for at in range(start, len(body), PIECE))
