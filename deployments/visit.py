"""One HTTP request while it is here: what is known of it, and how it is answered over ASGI.

A caller who goes away cancels the work at once (`leaving`); one who reads slowly is waited for, since `send` waits
for the socket; a stream that breaks is never ended like a success.

Above it: `front`. Below it: `reading`, `pipelines.calls`. Outside it: what is answered.
"""

import asyncio
import re
import secrets
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

import msgspec

from deployments.reading import HungUp, Receive, Scope, Send, headers_of
from pipelines.calls import Answer, Call
from pipelines.exchange import RESERVED

OUTCOME_HEADER = "x-penstock-outcome"
"""On a hop, the outcome of an answer without a stream, as JSON."""

TRAILER = RESERVED + b" "
"""On a hop, begins the comment that ends a complete stream; what follows is its outcome as JSON."""

_EXPOSED = "x-request-id, x-penstock-provider, x-penstock-model, x-penstock-route, x-penstock-dropped, retry-after"
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


class Visit:
    """One request. hop: from one of our own processes; behind_serve: Serve adds the `x-request-id` itself.

    origin is set where the caller is a page of an origin that may read our answers.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, hop: bool, behind_serve: bool) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.hop = hop
        self.behind_serve = behind_serve
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: str = scope.get("query_string", b"").decode("latin-1")
        self.headers: dict[str, str] = {}
        self.id = ""
        self.origin = ""
        self.call: Call | None = None
        self.began = time.monotonic()
        self.started = False

    def read_headers(self) -> None:
        """Take the headers in. Raises BadRequest (431) where they are too many."""
        self.headers = headers_of(self.scope)
        given = self.headers.get("x-request-id", "")
        self.id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)

    async def reply(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        """Answer with a whole body."""
        length = {"content-length": str(len(body)), "content-type": "application/json"}
        await self.begin(status, {**length, **headers})
        await self.end(b"" if self.method == "HEAD" else body)

    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Begin an answer whose body comes by `more` and ends with `end`."""
        self.started = True
        head = [*_raw(headers), *self._common()]
        await self.send({"type": "http.response.start", "status": status, "headers": head})

    async def more(self, data: bytes) -> None:
        """Send a piece of the body; returns when the socket has room for the next."""
        await self.send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        """Send the last piece of the body."""
        await self.send({"type": "http.response.body", "body": data, "more_body": False})

    async def stream(self, answer: Answer, leaving: "Leaving") -> None:
        """Answer with frames as they come; on a hop, a stream that has an outcome ends with the trailer."""
        assert answer.frames is not None
        await self.begin(answer.status, {"cache-control": "no-cache", "x-accel-buffering": "no", **answer.headers})
        async for data in answer.frames:
            await self.more(data)
        leaving.stop()
        if self.hop and answer.outcome is not None:
            await self.end(TRAILER + msgspec.json.encode(answer.outcome) + b"\n\n")
        else:
            await self.end()

    def _common(self) -> Iterable[tuple[bytes, bytes]]:
        if not self.behind_serve and self.id:
            yield b"x-request-id", self.id.encode()
        if self.origin:
            yield b"access-control-allow-origin", self.origin.encode("latin-1")
            yield b"access-control-expose-headers", _EXPOSED.encode()
            yield b"vary", b"origin"


class Leaving:
    """Cancels the current task when the caller goes away, and turns that cancellation into HungUp.

    Used as `with Leaving(receive) as leaving`; the request's body must have been read.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._watch: asyncio.Task[None] | None = None
        self._task: asyncio.Task[Any] | None = None
        self._left = False

    def stop(self) -> None:
        """Watch no longer: what comes now is the end of the answer, not the caller's leaving."""
        if self._watch is not None:
            self._watch.cancel()

    def __enter__(self) -> Self:
        """Begin to watch."""
        self._task = asyncio.current_task()
        self._watch = asyncio.get_running_loop().create_task(self._wait())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching; raise HungUp in place of the cancellation that the caller's leaving caused."""
        self.stop()
        task, self._task = self._task, None
        if not self._left or task is None:
            return
        if task.uncancel() == 0 and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise HungUp from None

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if self._task is not None:
            self._left = True
            self._task.cancel()


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as bytes; what no header may hold is replaced."""
    return [
        (name.encode("latin-1"), value.replace("\r", " ").replace("\n", " ").encode("latin-1", "replace"))
        for name, value in headers.items()
    ]
