"""A server that answers as Ollama does, with recorded bodies, on a real socket."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from tests.recordings import Recording

TAGS = {
    "models": [
        {"name": "qwen3:4b", "model": "qwen3:4b", "digest": "aa", "details": {"family": "qwen3"}},
        {"name": "old:latest", "model": "old:latest", "digest": "bb"},
    ]
}
SHOWN = {"qwen3:4b": {"capabilities": ["completion", "vision", "thinking", "tools"]}, "old:latest": {"details": {}}}


class Asked(NamedTuple):
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


class OllamaServer:
    """What it was asked, and what it answers to the next conversations: status, type and body."""

    def __init__(self) -> None:
        self.requests: list[Asked] = []
        self.answer: tuple[int, str, bytes] = (500, "application/json", b"{}")
        self.url = ""

    def replay(self, recording: Recording, *, cut: int | None = None) -> None:
        """Answer conversations with a recording from now on; `cut`: only so many bytes of it."""
        kind = "application/x-ndjson" if recording.streaming else "application/json; charset=utf-8"
        self.answer = (recording.status, kind, recording.body[:cut])

    def chats(self) -> list[Asked]:
        """The conversations that it was asked for."""
        return [asked for asked in self.requests if asked.path == "/api/chat"]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        asked = Asked(method, path, headers, json.loads(body) if body else None)
        self.requests.append(asked)
        status, kind, said = self._said(asked)
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\nconnection: close\r\n".encode())
        writer.write(b"transfer-encoding: chunked\r\n\r\n")
        # Chunks that end anywhere but at a line's end.
        for at in range(0, len(said), 61):
            piece = said[at : at + 61]
            writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        writer.close()

    def _said(self, asked: Asked) -> tuple[int, str, bytes]:
        match asked.path:
            case "/api/chat":
                return self.answer
            case "/api/tags":
                return 200, "application/json", json.dumps(TAGS).encode()
            case "/api/show":
                return 200, "application/json", json.dumps(SHOWN[asked.body["model"]]).encode()
            case "/v1/embeddings":
                vector = {"object": "embedding", "index": 0, "embedding": [0.5]}
                listed = {"object": "list", "data": [vector], "model": "m", "usage": {"prompt_tokens": 4}}
                return 200, "application/json", json.dumps(listed).encode()
        return 404, "text/plain", b"404 page not found"


@asynccontextmanager
async def ollama_server() -> AsyncIterator[OllamaServer]:
    """The server, as long as the block lasts."""
    server = OllamaServer()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    host, port = listening.sockets[0].getsockname()
    server.url = f"http://{host}:{port}"
    try:
        yield server
    finally:
        listening.close()
        await listening.wait_closed()
