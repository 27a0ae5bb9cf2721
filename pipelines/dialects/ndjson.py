"""Newline-delimited JSON: bytes to lines, each handed on as a frame.

Source: https://github.com/ndjson/ndjson-spec: values are separated by LF, a CR before it is white space, and empty
lines are passed over. JSON holds no raw line end, so a line is a value.

Above it: the dialects that stream so. Below it: `sse`, for what a frame is. Outside it: what the values mean.
"""

from pipelines.dialects.sse import MAX_FRAME, Frame
from pipelines.errors import ProtocolError


class Framer:
    """Cuts a byte stream, however it is split, into lines. See `base.Framing`."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._length = 0

    def feed(self, data: bytes) -> list[Frame]:
        """Take more bytes; return the lines that they complete. Raises ProtocolError for one beyond `MAX_FRAME`."""
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = self._held() + lines[0]
        self._pieces.append(rest)
        self._length += len(rest)
        if self._length > MAX_FRAME:
            raise ProtocolError(f"a single line is longer than {MAX_FRAME} bytes")
        return [_frame(line) for line in lines if line.strip()]

    def close(self) -> list[Frame]:
        """The stream ended. A last line without its line end is returned too: it may be whole."""
        held = self._held()
        return [_frame(held)] if held.strip() else []

    def _held(self) -> bytes:
        held = b"".join(self._pieces)
        self._pieces, self._length = [], 0
        return held


def _frame(line: bytes) -> Frame:
    return Frame(line + b"\n", "", line.strip())
