"""A caller on a raw socket, for what HTTP clients do not allow: to stop reading, to reset, to send slowly.

Nothing is read from the socket unless a test asks for it, so a caller that stops reading is one that does not call
`frame`. Waits end in TimeoutError after `timeout` seconds.

It cuts events out of the stream by itself, so that it does not share a fault with the program that it tests.

Above it: tests. Below it: asyncio. Outside it: what the frames mean.
"""

import asyncio
import json
import re
import socket
import struct
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

Headers = Mapping[str, str] | Iterable[tuple[str, str]]
"""Names and values; as pairs where a name comes twice."""


_FRAME_END = re.compile(rb"(?>\r\n|\n|\r){2}")
_LINE_END = re.compile(rb"\r\n|\n|\r")


class Frame(NamedTuple):
    """A server-sent event: its raw bytes without the blank line, its event name, its data. A comment has none."""

    raw: bytes
    event: str
    data: bytes


def read_frame(raw: bytes) -> Frame:
    """The fields of one event."""
    lines = [line.partition(b":")[::2] for line in _LINE_END.split(raw)]
    values = [(name, value.removeprefix(b" ")) for name, value in lines]
    event = next((value.decode() for name, value in values if name == b"event"), "")
    return Frame(raw, event, b"\n".join(value for name, value in values if name == b"data"))


class BrokenBody(Exception):
    """The connection ended before the body did: a transfer that is visibly broken."""


class Head(NamedTuple):
    """Status and headers (names in lower case, the last of a name wins) of a response."""

    status: int
    headers: dict[str, str]


def request_bytes(
    method: str,
    path: str,
    *,
    host: str = "test",
    headers: Headers = (),
    body: bytes = b"",
    length: int | None = None,
) -> bytes:
    """One request as it goes over the wire. length: the Content-Length to claim, by default the true one."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in pairs]
    if body or length is not None:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


class Caller:
    """One connection. `Caller.connect(url)` opens it; as a context manager it is closed at the end."""

    def __init__(self, connection: socket.socket, host: str, timeout: float) -> None:
        self.socket = connection
        self.host = host
        self.timeout = timeout
        self._held = b""
        self._body: AsyncIterator[bytes] | None = None
        self._unframed = b""

    @classmethod
    async def connect(cls, url: str, *, receive_buffer: int | None = None, timeout: float = 60.0) -> Self:
        """Open a connection to the host and port of `url`.

        receive_buffer: bytes of the kernel's receive buffer, to feel backpressure early. Raises OSError.
        """
        parts = urlsplit(url)
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        address = (parts.hostname or "127.0.0.1", parts.port or 80)
        try:
            async with asyncio.timeout(timeout):
                await asyncio.get_running_loop().sock_connect(connection, address)
        except BaseException:
            connection.close()
            raise
        return cls(connection, parts.netloc, timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def send(self, data: bytes) -> None:
        """Send bytes as they are. Raises OSError if the peer has gone."""
        async with asyncio.timeout(self.timeout):
            await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def send_slowly(self, data: bytes, *, piece: int = 1, gap: float = 0.05) -> int:
        """Send `piece` bytes every `gap` seconds; returns how many went out before the peer hung up."""
        sent = 0
        loop = asyncio.get_running_loop()
        while sent < len(data):
            try:
                await loop.sock_sendall(self.socket, data[sent : sent + piece])
            except OSError:
                break
            sent += piece
            await asyncio.sleep(gap)
        return min(sent, len(data))

    async def request(
        self, method: str, path: str, body: Any = None, *, headers: Headers = (), length: int | None = None
    ) -> None:
        """Send a request; `body` goes as JSON unless it is bytes. Send several to pipeline them."""
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
        if raw and "content-type" not in {name.lower() for name, _ in pairs}:
            pairs.append(("Content-Type", "application/json"))
        await self.send(request_bytes(method, path, host=self.host, headers=pairs, body=raw, length=length))

    async def post(self, path: str, body: Any, *, headers: Headers = ()) -> Head:
        """Send a POST and read the head of its response."""
        await self.request("POST", path, body, headers=headers)
        return await self.head()

    async def head(self) -> Head:
        """Read status and headers of the next response. Raises BrokenBody if the peer hung up first."""
        while b"\r\n\r\n" not in self._held:
            await self._more()
        raw, _, self._held = self._held.partition(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        head = Head(int(first.split(" ")[1]), headers)
        self._unframed = b""
        self._body = self._read_body(head)
        return head

    async def body(self) -> bytes:
        """The rest of the body. Raises BrokenBody where it is cut short."""
        return b"".join([piece async for piece in self.pieces()])

    async def pieces(self) -> AsyncIterator[bytes]:
        """The rest of the body as it comes: one HTTP chunk, or one read. Raises BrokenBody."""
        assert self._body is not None, "read the head first"
        async for piece in self._body:
            yield piece

    async def frame(self) -> Frame | None:
        """The next server-sent event, comments included; None at a clean end. Raises BrokenBody."""
        assert self._body is not None, "read the head first"
        while not (end := _FRAME_END.search(self._unframed)):
            piece = await anext(self._body, None)
            if piece is None:
                rest, self._unframed = self._unframed, b""
                return read_frame(rest) if rest.strip() else None
            self._unframed += piece
        raw, self._unframed = self._unframed[: end.start()], self._unframed[end.end() :]
        return read_frame(raw)

    async def frames(self, found: list[Frame] | None = None) -> list[Frame]:
        """All frames to the end, put into `found` as they come. Raises BrokenBody."""
        found = [] if found is None else found
        while (frame := await self.frame()) is not None:
            found.append(frame)
        return found

    async def hung_up(self) -> bool:
        """Wait until the peer closes the connection; False if it sends something instead."""
        try:
            await self._more()
        except BrokenBody:
            return True
        return False

    def close(self) -> None:
        """Close in the usual way."""
        self.socket.close()

    def reset(self) -> None:
        """Close abruptly: the peer gets a RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    async def _more(self) -> None:
        try:
            async with asyncio.timeout(self.timeout):
                data = await asyncio.get_running_loop().sock_recv(self.socket, 65536)
        except ConnectionError as error:
            raise BrokenBody(f"the peer reset the connection: {error}") from error
        if not data:
            raise BrokenBody("the peer closed the connection")
        self._held += data

    async def _take(self, count: int) -> bytes:
        pieces, length = [self._held], len(self._held)
        while length < count:
            self._held = b""
            await self._more()
            pieces.append(self._held)
            length += len(self._held)
        # Joined once: a long body costs no more than its length.
        whole = b"".join(pieces)
        self._held = whole[count:]
        return whole[:count]

    async def _line(self) -> bytes:
        while b"\r\n" not in self._held:
            await self._more()
        line, _, self._held = self._held.partition(b"\r\n")
        return line

    async def _read_body(self, head: Head) -> AsyncIterator[bytes]:
        if "chunked" in head.headers.get("transfer-encoding", ""):
            while size := await self._chunk_size():
                yield (await self._take(size + 2))[:-2]
            while await self._line():
                pass
        elif "content-length" in head.headers:
            if length := int(head.headers["content-length"]):
                yield await self._take(length)
        elif head.status not in (204, 304):
            async for piece in self._until_closed():
                yield piece

    async def _chunk_size(self) -> int:
        line = await self._line()
        try:
            return int(line.partition(b";")[0], 16)
        except ValueError as error:
            raise BrokenBody(f"no chunk size: {line[:40]!r}") from error

    async def _until_closed(self) -> AsyncIterator[bytes]:
        """A body without a length: only a reset tells a broken end from a clean one."""
        while True:
            if self._held:
                piece, self._held = self._held, b""
                yield piece
            try:
                await self._more()
            except BrokenBody as error:
                if error.__cause__ is not None:
                    raise
                return
