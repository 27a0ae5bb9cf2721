"""A caller that costs next to nothing: one kept connection, answers scanned and not parsed, every text compared.

Above it: `soak`. Below it: asyncio. Outside it: faults, and who leaves (`hearing` and `tests.clients` do those).
"""

import asyncio
import json
import re
from typing import Any
from urllib.parse import urlsplit

from tests.cluster.running import KEY
from tests.faults.ways import Dialect

_TEXTS: dict[Dialect, re.Pattern[bytes]] = {
    "chat": re.compile(rb'"content": ?"([^"]*)"'),
    "messages": re.compile(rb'"text": ?"([^"]*)"'),
}
_ENDS: dict[Dialect, bytes] = {"chat": b"data: [DONE]", "messages": b'"message_stop"'}
_LENGTH = re.compile(rb"(?i)content-length: *(\d+)")
LAST_CHUNK = b"\r\n0\r\n\r\n"
LIMIT = 2**20
"""Bytes of an answer."""

PATIENCE = 30.0


def request(url: str, path: str, body: dict[str, Any]) -> bytes:
    """The bytes of a POST."""
    raw = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {urlsplit(url).netloc}\r\nauthorization: Bearer {KEY}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(raw)}\r\n\r\n"
    )
    return head.encode() + raw


class Line:
    """A connection to one port, opened again where it was closed."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, raw: bytes, dialect: Dialect, *, stream: bool, text: bytes) -> str:
        """Send a request and compare its answer; "" if it is whole, else what is wrong. Raises nothing."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._ask(raw, dialect, stream, text)
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError) as error:
            self.close()
            return f"{type(error).__name__}: {str(error)[:60]}"

    def close(self) -> None:
        """Hang up."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def _ask(self, raw: bytes, dialect: Dialect, stream: bool, text: bytes) -> str:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port, limit=LIMIT)
        self._writer.write(raw)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if length:
            body = await self._reader.readexactly(int(length[1]))
        else:
            body = b"\r\n" + await self._reader.readuntil(LAST_CHUNK)
        if not head.startswith(b"HTTP/1.1 200"):
            return f"{head[9:12].decode()} {body[:80]!r}"
        if stream and _ENDS[dialect] not in body:
            return "a stream without its end"
        if b"".join(_TEXTS[dialect].findall(body)) != text:
            return f"another text: {body[-80:]!r}"
        return ""
