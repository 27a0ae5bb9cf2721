"""A replica's side of the replays: begins with a key, then leads (`Recording`) or reads along (`ReplayClient.pieces`).

Every call is made outside the context of any request (a call that Ray sees as made while serving a request is
cancelled with that request). One connection attempt at a time runs in the background, whoever waits for it.

A recording never slows the stream that it records: `add` only takes a note, a task of its own sends. It keeps the
answer (up to `MAX_ANSWER` bytes) until the end, so that an actor that comes back knowing nothing gets all of it.

Above it: `deployments.replaying`. Below it: `replay_link`, `pipelines.idempotency`. Outside it: HTTP, dialects.
"""

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import msgspec

from actors.replaying.replay_link import ReplaysConnector, ReplaysLink, replays_connector_to
from pipelines.errors import Overloaded
from pipelines.idempotency import LEASE, MAX_ANSWER, RENEWAL, Begun, Head, Opening, Piece, Progress, Push
from pipelines.routing.table import Outcome

BEGINNING = 1.0
"""Seconds in which the actor must say what a request with a key is to do; after them it is refused."""

LOOKING = 0.25
"""Seconds in which it must say so to one that can do without."""

CALL_TIMEOUT = 4.0
"""Seconds after which any other call has failed; a long poll itself ends after 2."""

PAUSE = 0.1
"""Seconds between two tries of a call."""

BATCH_SECONDS = 0.05
BATCH_BYTES = 64 * 1024
"""What a leader hands out is sent so long after it, or as soon as it is so much; the first of it at once."""

LAST_WORDS = 30.0
"""Seconds for which the end of an answer is offered to an actor that is away."""

_Result = TypeVar("_Result")
_log = logging.getLogger("penstock.replays")
_begun = msgspec.msgpack.Decoder(Begun)
_progress = msgspec.msgpack.Decoder(Progress)
_pieces = msgspec.msgpack.Decoder(Piece)


class Lost(Exception):
    """The rest of the answer that one reads will never come."""


class ReplayClient:
    """One replica's tie to the replays. state_directory: where an actor that has to be started finds its file."""

    def __init__(self, state_directory: str = "", connector: ReplaysConnector | None = None) -> None:
        self._connector = connector or replays_connector_to(state_directory)
        self._link: ReplaysLink | None = None
        self._linking: asyncio.Task[ReplaysLink] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self) -> None:
        """Look for the actor in the background, so that the first request with a key finds it there."""
        self._connecting()

    async def close(self, patience: float = 2.0) -> None:
        """Let recordings say their last words, for `patience` seconds, and stop."""
        if self._linking is not None:
            self._linking.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=patience)
        for task in self._tasks:
            task.cancel()

    async def begin(self, opening: Opening) -> Begun:
        """What a request is to do. Raises Overloaded (503) where the actor does not say so in time.

        A caller who sends a key wants his request done once at the most, so without an answer it is not done.
        """
        encoded = msgspec.msgpack.encode(opening)
        try:
            async with asyncio.timeout(BEGINNING):
                while True:
                    with contextlib.suppress(Exception):
                        begun = _begun.decode(await self.call(lambda link: link.begin(encoded), BEGINNING))
                        if begun.verdict != "unsettled":
                            return begun
                    await asyncio.sleep(PAUSE)
        except BaseException as error:
            # It may have been made the leader after all.
            self.spawn(self.abandon(opening))
            if isinstance(error, TimeoutError):
                message = "the Idempotency-Key cannot be looked up now"
                raise Overloaded(message, status=503, retry_after=1.0) from None
            raise

    async def look(self, opening: Opening) -> Begun | None:
        """What a request is to do that can do without the actor: one try; None where it does not answer at once."""
        encoded = msgspec.msgpack.encode(opening)
        try:
            return _begun.decode(await self.call(lambda link: link.begin(encoded), LOOKING))
        except Exception:  # Ray raises many classes when an actor is away; each means the same here.
            self.spawn(self.abandon(opening))
            return None
        except BaseException:
            # It may have been made the leader after all.
            self.spawn(self.abandon(opening))
            raise

    def record(self, opening: Opening) -> "Recording":
        """Lead a run that `begin` gave."""
        recording = Recording(self, opening)
        self.spawn(recording.send())
        return recording

    async def pieces(self, opening: Opening) -> AsyncGenerator[Piece, None]:
        """What a run has handed out, and what it goes on to hand out. Raises Lost if it ends before it is whole."""
        encoded, offset = msgspec.msgpack.encode(opening), 0
        loop = asyncio.get_running_loop()
        heard = loop.time()
        while True:
            try:
                data = await self.call(partial(_read, encoded, offset))
            except Exception:
                if loop.time() - heard > LEASE + CALL_TIMEOUT:
                    raise Lost from None
                await asyncio.sleep(PAUSE)
                continue
            heard = loop.time()
            if data is None:
                continue
            piece = _pieces.decode(data)
            if piece.state == "lost":
                raise Lost
            offset += len(piece.data)
            yield piece
            if piece.state == "whole":
                return

    async def abandon(self, opening: Opening) -> None:
        """Give a run up; an actor that cannot be told finds out when the lease ends."""
        encoded = msgspec.msgpack.encode(opening)
        with contextlib.suppress(Exception):
            await self.call(lambda link: link.abandon(encoded))

    def spawn(self, work: Coroutine[Any, Any, _Result]) -> asyncio.Task[_Result]:
        """Run `work` in no request's context."""
        task = contextvars.Context().run(asyncio.get_running_loop().create_task, work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def call(self, method: Callable[[ReplaysLink], Awaitable[_Result]], timeout: float = CALL_TIMEOUT) -> _Result:
        """One call of the actor. Raises what Ray raises where it is away, TimeoutError where it is silent."""
        return await self.spawn(self._call(method, timeout))

    async def _call(self, method: Callable[[ReplaysLink], Awaitable[_Result]], timeout: float) -> _Result:
        link = self._link
        try:
            async with asyncio.timeout(timeout):
                if link is None:
                    link = await asyncio.shield(self._connecting())
                return await method(link)
        except Exception:
            if self._link is link:
                self._link = None
            raise

    def _connecting(self) -> asyncio.Task[ReplaysLink]:
        if self._linking is None or self._linking.done():
            self._linking = contextvars.Context().run(asyncio.get_running_loop().create_task, self._connect())
            self._linking.add_done_callback(_mourn)
        return self._linking

    async def _connect(self) -> ReplaysLink:
        self._link = await self._connector()
        return self._link


def _mourn(linking: asyncio.Task[ReplaysLink]) -> None:
    if not linking.cancelled() and (error := linking.exception()):
        _log.warning("the replays do not answer, requests with an Idempotency-Key are refused: %s", error)


async def _read(opening: bytes, offset: int, link: ReplaysLink) -> bytes | None:
    return await link.read(opening, offset)


class Recording:
    """A leader's answer on its way to the actor. Ends with `finish` or `abandon`; after that nothing counts."""

    def __init__(self, client: ReplayClient, opening: Opening) -> None:
        self._client = client
        self._opening = opening
        self._head: Head | None = None
        self._body = bytearray()
        self._have = 0
        self._swollen = False
        self._outcome: Outcome | None = None
        self._end = ""
        self._some = asyncio.Event()
        self._much = asyncio.Event()

    def begin(self, head: Head) -> None:
        """The answer begins."""
        self._head = head

    def add(self, data: bytes) -> None:
        """More of the answer's bytes, up to the end of a frame."""
        if self._swollen or self._end:
            return
        self._body += data
        if len(self._body) > MAX_ANSWER:
            self._swollen = True
            self._body.clear()
        self._some.set()
        if self._have == 0 or len(self._body) - self._have >= BATCH_BYTES:
            self._much.set()

    def finish(self, outcome: Outcome | None) -> None:
        """The answer is whole; it went as `outcome` says."""
        self._outcome = outcome
        self._over("finish")

    def abandon(self) -> None:
        """There is no answer, or none to be kept."""
        self._over("abandon")

    def _over(self, end: str) -> None:
        self._end = self._end or end
        self._wake()

    def _wake(self) -> None:
        self._some.set()
        self._much.set()

    async def send(self) -> None:
        """Send what there is, and signs of life, until the end. Ends early where the actor has another leader."""
        loop = asyncio.get_running_loop()
        last_words = float("inf")
        while self._end != "abandon":
            await self._wait()
            if self._end and last_words == float("inf"):
                last_words = loop.time() + LAST_WORDS
            try:
                progress = await self._push()
            except Exception as error:
                # Ray raises many classes when an actor is away; each means the same here: try again.
                if loop.time() > last_words:
                    _log.warning("an answer with an Idempotency-Key could not be kept: %s", error)
                    return
                await asyncio.sleep(PAUSE)
                self._wake()
                continue
            if progress.over or not progress.leading:
                return
            if progress.have < self._have:
                self._wake()
            self._have = progress.have
        await self._client.abandon(self._opening)

    async def _wait(self) -> None:
        """Until there is something to send and it is time to, or a sign of life is due."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RENEWAL):
                await self._some.wait()
        if self._some.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BATCH_SECONDS):
                    await self._much.wait()
        self._some.clear()
        self._much.clear()

    async def _push(self) -> Progress:
        news = (0, b"") if self._swollen else (self._have, bytes(self._body[self._have :]))
        push = Push(self._opening, *news, self._head, self._end == "finish", self._outcome, self._swollen)
        encoded = msgspec.msgpack.encode(push)
        return _progress.decode(await self._client.call(lambda link: link.push(encoded)))
