"""A small HTTP proxy on a real socket: tunnels (CONNECT), forwarded requests, and a password if it is to want one."""

import asyncio
import base64
import contextlib
from typing import Self
from urllib.parse import urlsplit


class Proxy:
    """seen: the request lines; password: `user:password`, "" for none."""

    def __init__(self, password: str = "") -> None:
        self.seen: list[str] = []
        self._wanted = f"basic {base64.b64encode(password.encode()).decode()}" if password else ""
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.host, self.port = self._server.sockets[0].getsockname()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            line, *lines = head.splitlines()
            self.seen.append(line)
            headers = dict(text.lower().split(": ", 1) for text in lines if text)
            if headers.get("proxy-authorization", "") != self._wanted.lower():
                writer.write(b"HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n")
                return
            method, target, _ = line.split()
            there = target if method == "CONNECT" else urlsplit(target).netloc
            host, _, port = there.rpartition(":")
            upstream_reader, upstream_writer = await asyncio.open_connection(host, int(port))
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Yes\r\n\r\n")
            else:
                upstream_writer.write(head.encode())
            with contextlib.closing(upstream_writer):
                await asyncio.gather(_pump(reader, upstream_writer), _pump(upstream_reader, writer))
        self._tasks.discard(task)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(2**16):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()
