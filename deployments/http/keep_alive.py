"""Comments in a long silence, so that no load balancer on the way takes a waiting caller's connection for dead.

Opt-in per key (`Caller.keep_alive`), for streams. When nothing has gone out for that long, the 200 and its headers go
out if they have not, and a comment. This is no commitment to an answer: retries, fallback and hedging go on behind
it, and where they come to nothing the stream ends with the dialect's error frame. The headers that only the answer
knows (`x-penstock-provider` and the like) are not sent then.

Above it: `front`. Below it: `visit`. Outside it: what is answered.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Self

from deployments.visit import STREAMING, Visit

COMMENT = b": keep-alive\n\n"
"""A line that begins with a colon is nothing to any reader (WHATWG HTML, section 9.2.6)."""


class KeepAlive:
    """A visit's voice (`visit.Voice`) that is never silent for longer than `seconds`.

    Used as `async with KeepAlive(visit, seconds) as voice`. One task a stream writes the comments, in turn with the
    frames, so that a slow reader is waited for by both.
    """

    def __init__(self, visit: Visit, seconds: float) -> None:
        self._visit = visit
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._said = self._loop.time()
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Begin the answer, unless a silence has."""
        async with self._turn:
            if not self._visit.started:
                await self._visit.begin(status, headers)
            self._said = self._loop.time()

    async def more(self, data: bytes) -> None:
        """Send a piece of the body."""
        async with self._turn:
            await self._visit.more(data)
            self._said = self._loop.time()

    async def end(self, data: bytes = b"") -> None:
        """Send the last piece of the body."""
        await self._stop()
        await self._visit.end(data)

    async def __aenter__(self) -> Self:
        """Begin to listen for silence."""
        self._task = self._loop.create_task(self._fill())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self._stop()

    async def _stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def _fill(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                await asyncio.sleep(self._said + self._seconds - self._loop.time())
                async with self._turn:
                    if self._loop.time() - self._said < self._seconds:
                        continue
                    if not self._visit.started:
                        await self._visit.begin(200, {"content-type": "text/event-stream", **STREAMING})
                    await self._visit.more(COMMENT)
                    self._said = self._loop.time()
