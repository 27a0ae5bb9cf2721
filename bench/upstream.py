"""A provider that costs next to nothing, to measure a gateway against.

One asyncio protocol and bytes rendered ahead of time; the model name says what to do, whatever stands before its
last slash:

    s-CHUNKS-GAP[-SIZE[-DELAY]]   CHUNKS pieces of SIZE bytes (default 16), GAP ms apart, the first after DELAY ms
    u-SIZE[-DELAY]                one answer of SIZE bytes of text, after DELAY ms

The body's `stream` decides the form: an `s` model that is asked without it gives its whole text at once, a `u`
model that is asked with it gives one piece. `text_of` is what a complete answer says, for the caller to check.

A reader that is slow stops the sending (`pause_writing`), and what fell due meanwhile follows when it reads again.

    GET /_stats    what was asked and sent, as `Upstream.stats` has it
    POST /_reset   forget the counts

Run as `python -m bench.upstream --port N` (0: any; the address is printed), or embedded with `Upstream`.

Above it: the benchmarks. Below it: `bench.answers`, asyncio, uvloop. Outside it: faults (`tests.upstream`).
"""

import argparse
import asyncio
import re
import time
from collections import Counter, deque
from functools import lru_cache
from typing import Any, NamedTuple, Self, cast

import msgspec
import uvloop

from bench.answers import Tokens, Wire, model_list, stream, unary, wire_of

HISTORY = 20_000
"""Ended connections that are remembered; older ones are only counted."""

_LENGTH = re.compile(rb"(?i)\r\ncontent-length:[ \t]*(\d+)")
_CHUNKED = re.compile(rb"(?i)\r\ntransfer-encoding:[ \t]*chunked")
_MODEL = re.compile(rb'"model"\s*:\s*"((?:[^"\\]|\\.)*)"')
_STREAM = re.compile(rb'"stream"\s*:\s*true')
_USAGE = re.compile(rb'"include_usage"\s*:\s*true')
_OK = b"HTTP/1.1 200 OK\r\nserver: upstream\r\n"
_STREAM_HEAD = _OK + b"content-type: text/event-stream\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"


class Spec(NamedTuple):
    """What a model name asks for. gap and delay are in milliseconds, size in bytes of text a piece."""

    streams: bool
    chunks: int
    gap: float
    size: int
    delay: float


def read_model(model: str) -> Spec:
    """A model name to what it asks for. Raises ValueError for a name of another form."""
    letter, *numbers = model.rpartition("/")[2].split("-")
    values = [int(number) for number in numbers]
    if letter == "s" and 2 <= len(values) <= 4:
        chunks, gap, size, delay = (*values, *(16, 0)[len(values) - 2 :])
        return Spec(True, chunks, gap, size, delay)
    if letter == "u" and 1 <= len(values) <= 2:
        return Spec(False, 1, 0, values[0], values[1] if len(values) == 2 else 0)
    raise ValueError(f"no such model: {model}")


def texts_of(spec: Spec) -> list[str]:
    """The pieces: each begins with its number, so that a lost, doubled or swapped one shows."""
    return [f"{i:06d} ".ljust(spec.size, "x")[: spec.size] for i in range(spec.chunks)]


def text_of(model: str) -> str:
    """The text of a model's complete answer."""
    return "".join(texts_of(read_model(model)))


class Rendered(NamedTuple):
    """A stream's bytes, HTTP chunks and all; what opens and closes it goes with the first and the last piece."""

    pieces: tuple[bytes, ...]
    delay: float
    gap: float


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@lru_cache(maxsize=64)
def rendered_stream(wire: Wire, model: str, include_usage: bool) -> Rendered:
    """The stream of `model`, with delays in seconds. Raises ValueError as `read_model` does."""
    spec = read_model(model)
    frames = stream(wire, model, texts_of(spec), tokens=Tokens(16, spec.chunks), include_usage=include_usage)
    opening = b"".join(map(_chunk, frames.opening))
    pieces = [_chunk(piece) for piece in frames.pieces]
    closing = b"".join(map(_chunk, frames.closing)) + b"0\r\n\r\n"
    if pieces:
        pieces[0] = opening + pieces[0]
        pieces[-1] += closing
    else:
        pieces = [opening + closing]
    return Rendered(tuple(pieces), spec.delay / 1000, spec.gap / 1000)


@lru_cache(maxsize=64)
def rendered_answer(wire: Wire, model: str) -> tuple[bytes, float]:
    """The whole non-streaming response of `model`, and the seconds to wait before it."""
    spec = read_model(model)
    body = unary(wire, model, text_of(model), tokens=Tokens(16, spec.chunks))
    return _json_response(body), spec.delay / 1000


def _json_response(body: bytes, status: bytes = b"200 OK") -> bytes:
    head = b"HTTP/1.1 %b\r\nserver: upstream\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(body)) + body


class Upstream:
    """The server and its counts: an asynchronous context manager."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host, self.port = host, port
        self.open: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self.reset()

    @property
    def url(self) -> str:
        """The base URL, without a path."""
        return f"http://{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), self.host, self.port, backlog=4096)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self.open):
            connection.abort()
        await self._server.wait_closed()

    def reset(self) -> None:
        """Forget all counts; connections that are open stay open."""
        self.requests: Counter[str] = Counter()
        self.ended: deque[dict[str, Any]] = deque(maxlen=HISTORY)
        self.chunks = self.streams_completed = self.streams_aborted = self.connections = self.refused = 0
        for connection in self.open:
            connection.chunks = 0
        self._cpu = time.process_time()

    def stats(self) -> dict[str, Any]:
        """The counts since the last reset; times are `time.monotonic()`, the same for all processes of a machine.

        requests: by model; chunks: pieces of text handed to the transport; streams_aborted: the peer went away in
        mid-stream; open: connection number to pieces sent on it; ended: one for each connection that ended, by
        whom and whether in mid-stream; cpu_seconds: of this process.
        """
        return {
            "requests": dict(self.requests),
            "requests_total": self.requests.total(),
            "refused": self.refused,
            "chunks": self.chunks,
            "connections": self.connections,
            "open_connections": len(self.open),
            "streams_completed": self.streams_completed,
            "streams_aborted": self.streams_aborted,
            "open": {str(connection.number): connection.chunks for connection in self.open},
            "ended": list(self.ended),
            "cpu_seconds": time.process_time() - self._cpu,
            "now": time.monotonic(),
        }


class _Connection(asyncio.Protocol):
    """One connection: requests one after another, each answered before the next is looked at."""

    def __init__(self, server: Upstream) -> None:
        self.server = server
        self.loop = asyncio.get_running_loop()
        self.buffer = b""
        self.chunks = 0
        self.paused = self.due_while_paused = self.peer_closed = False
        self.busy = False
        self.rendered: Rendered | None = None
        self.position = 0
        self.due = 0.0
        self.timer: asyncio.Handle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not asserted: uvloop's transports are no subclass.
        self.transport = cast(asyncio.Transport, transport)
        self.server.connections += 1
        self.number = self.server.connections
        self.server.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        server = self.server
        server.open.discard(self)
        if self.timer is not None:
            self.timer.cancel()
        streaming = self.rendered is not None
        server.streams_aborted += streaming
        by_peer = self.peer_closed or exc is not None
        server.ended.append(
            {
                "connection": self.number,
                "at": time.monotonic(),
                "by": "peer" if by_peer else "us",
                "chunks": self.chunks,
                "in_stream": streaming,
            }
        )

    def eof_received(self) -> None:
        self.peer_closed = True

    def abort(self) -> None:
        """Close at once."""
        self.transport.abort()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self.due_while_paused:
            self.due_while_paused = False
            self._send_due()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while not self.busy and self.buffer:
            found = _cut(self.buffer)
            if found is None:
                return
            head, body, self.buffer = found
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        method, target, _ = head.split(b" ", 2)
        path = target.partition(b"?")[0].decode("latin-1")
        if method == b"GET" or path.startswith("/_"):
            self.transport.write(self._side_answer(path))
            return
        named = _MODEL.search(body)
        model = named[1].decode() if named else ""
        try:
            self._start(wire_of(path), model, bool(_STREAM.search(body)), body)
        except ValueError:
            self.server.refused += 1
            self.transport.write(_json_response(b'{"error":{"message":"no such model"}}', b"404 Not Found"))

    def _start(self, wire: Wire, model: str, streaming: bool, body: bytes) -> None:
        if not streaming:
            answer, delay = rendered_answer(wire, model)
            self.server.requests[model] += 1
            if not delay:
                self.transport.write(answer)
                return
            self.busy = True
            self.timer = self.loop.call_later(delay, self._send_answer, answer)
            return
        self.rendered = rendered_stream(wire, model, bool(_USAGE.search(body)))
        self.server.requests[model] += 1
        self.busy, self.position = True, 0
        self.transport.write(_STREAM_HEAD)
        self.due = self.loop.time() + self.rendered.delay
        if self.rendered.delay:
            self.timer = self.loop.call_at(self.due, self._send_due)
        else:
            self._send_due()

    def _send_answer(self, answer: bytes) -> None:
        self.transport.write(answer)
        self._done()

    def _send_due(self) -> None:
        """Send the piece that is due and set the clock for the next; without a gap, until the buffer is full."""
        rendered = self.rendered
        if rendered is None or self.transport.is_closing():
            return
        pieces, gap = rendered.pieces, rendered.gap
        while not self.paused:
            self.transport.write(pieces[self.position])
            self.position += 1
            self.chunks += 1
            self.server.chunks += 1
            if self.position == len(pieces):
                self.rendered = None
                self.server.streams_completed += 1
                self._done()
                return
            if gap:
                # Counted from the schedule, not from now: a late piece does not make the next one late.
                self.due += gap
                self.timer = self.loop.call_at(self.due, self._send_due)
                return
        self.due_while_paused = True

    def _done(self) -> None:
        self.busy, self.timer = False, None
        if self.buffer:
            self.loop.call_soon(self.data_received, b"")

    def _side_answer(self, path: str) -> bytes:
        if path == "/_reset":
            self.server.reset()
            return _json_response(b"{}")
        if path == "/_stats":
            return _json_response(msgspec.json.encode(self.server.stats()))
        return _json_response(model_list("chat", ["s-64-20", "u-1024"]))


def _cut(buffer: bytes) -> tuple[bytes, bytes, bytes] | None:
    """The first request's head and body and what follows it; None while it is not whole."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    head, start = buffer[:end], end + 4
    if _CHUNKED.search(head):
        # The model's name is found in a chunked body as it stands; only its end matters.
        stop = buffer.find(b"0\r\n\r\n", start)
        return None if stop < 0 else (head, buffer[start:stop], buffer[stop + 5 :])
    length = _LENGTH.search(head)
    stop = start + (int(length[1]) if length else 0)
    return None if len(buffer) < stop else (head, buffer[start:stop], buffer[stop:])


async def run(host: str, port: int) -> None:
    """Serve until cancelled; prints the address on the first line."""
    async with Upstream(host, port) as upstream:
        print(upstream.url, flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    try:
        uvloop.run(run(arguments.host, arguments.port))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
