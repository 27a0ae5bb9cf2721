"""Server-sent events: bytes to frames, and back.

Source: WHATWG HTML, section 9.2.6 (https://html.spec.whatwg.org/multipage/server-sent-events.html): lines end in
LF, CRLF or CR; a blank line ends a frame; a line that begins with a colon is a comment; one space after the
field's colon is dropped; several `data` lines are joined by LF.

Above it: the dialects and `exchange`. Below it: `errors`. Outside it: what the data means.
"""

import re
from typing import NamedTuple

from pipelines.errors import ProtocolError

MAX_FRAME = 32 * 1024 * 1024
"""Bytes of one frame; a longer one is a fault of the provider (`ProtocolError`)."""

_FRAME_END = re.compile(rb"(?>\r\n|\n|\r){2}")
_LINE_END = re.compile(rb"\r\n|\n|\r")


class Frame(NamedTuple):
    """One frame: its `raw` bytes with the blank line, and its fields. A lone comment has no data."""

    raw: bytes
    event: str
    data: bytes


class Framer:
    """Cuts a byte stream, however it is split, into frames; each is handed out with the byte that ends it.

    What has not ended yet is held in pieces, so that a very long frame costs no more than its length.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._tail = b""
        self._length = 0
        self._after_cr = False

    @property
    def empty(self) -> bool:
        """Whether nothing is held: the next byte begins a frame."""
        return not self._pieces and not self._after_cr

    def cut(self, data: bytes) -> list[bytes]:
        """Take more bytes; return the raw frames that they complete."""
        if self._after_cr:
            # The last frame ended in CR and was handed out at once; this LF is the second half of it.
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if not self._pieces and b"\r" not in data and data.endswith(b"\n\n"):
            return [piece + b"\n\n" for piece in data[:-2].split(b"\n\n")]
        # A piece of a very long line is not worth the search.
        if (b"\n" not in data and b"\r" not in data) or not _FRAME_END.search(self._tail + data):
            self._hold(data)
            return []
        return self._cut_joined(b"".join([*self._pieces, data]))

    def feed(self, data: bytes) -> list[Frame]:
        """Take more bytes; return the parsed frames that they complete."""
        return [parse(raw) for raw in self.cut(data)]

    def passes(self, data: bytes) -> bool:
        """Whether these bytes are whole frames by themselves, in the usual form. Nothing is taken."""
        return not self._pieces and not self._after_cr and data.endswith(b"\n\n") and b"\r" not in data

    def whole(self, data: bytes) -> bytes:
        """Take more bytes; return all that now stands before a frame's end, uncut. The usual chunk passes as is."""
        if self.passes(data):
            return data
        return b"".join(self.cut(data))

    def rest(self) -> bytes:
        """The bytes of a frame that has not ended."""
        return b"".join(self._pieces)

    def close(self) -> list[Frame]:
        """The stream ended. A last frame without its blank line is returned too: servers forget it."""
        held = b"".join(self._pieces)
        self._forget()
        return [parse(held)] if held.strip() else []

    def _cut_joined(self, held: bytes) -> list[bytes]:
        frames, start = [], 0
        for found in _FRAME_END.finditer(held):
            frames.append(held[start : found.end()])
            start = found.end()
        self._forget()
        if start == len(held):
            self._after_cr = held.endswith(b"\r")
        else:
            self._hold(held[start:])
        return frames

    def _forget(self) -> None:
        self._pieces, self._tail, self._length = [], b"", 0

    def _hold(self, data: bytes) -> None:
        self._pieces.append(data)
        self._tail = (self._tail + data[-3:])[-3:]
        self._length += len(data)
        if self._length > MAX_FRAME:
            raise ProtocolError(f"a single event is longer than {MAX_FRAME} bytes")


def parse(raw: bytes) -> Frame:
    """The fields of one raw frame. `id` and `retry` have no meaning here and are passed over."""
    if raw.startswith(b"data: ") and raw.endswith(b"\n\n") and raw.find(b"\n") == len(raw) - 2 and b"\r" not in raw:
        return Frame(raw, "", raw[6:-2])
    event, data = "", []
    for line in _LINE_END.split(raw.removeprefix(b"\xef\xbb\xbf")):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"event":
            event = value.decode("utf-8", "replace")
        elif name == b"error" and not data:
            # No field of the standard: llama.cpp's server said its errors so until September 2025 (ggml-org/llama.cpp,
            # pull request 16109).
            event, data = "error", [value]
    return Frame(raw, event, b"\n".join(data))


def frame(data: bytes, event: str = "") -> bytes:
    """One frame on the wire. `data` must hold no line end (JSON has none)."""
    if event:
        return b"event: " + event.encode() + b"\ndata: " + data + b"\n\n"
    return b"data: " + data + b"\n\n"
