"""One HTTP request while it is here: what is known of it, and how it is answered over ASGI.

A caller who goes away cancels the work at once (`Leaving`); one who reads slowly is waited for, since `send` waits
for the socket; a stream that breaks is never ended like a success (`Visit.fail`).

Above it: `front`, `keep_alive`. Below it: `reading`, `line`, `pipelines`. Outside it: what is answered.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec

from deployments.http import line
from deployments.http.reading import READ_HEADERS, HungUp, Receive, Scope, Send, body_of, headers_of
from deployments.identity import new_id
from deployments.money.books import Measures
from pipelines.calls import Answer, Call
from pipelines.dialects import DIALECTS
from pipelines.errors import Overloaded, PenstockError, StreamBroken
from pipelines.exchange import RESERVED

OUTCOME_HEADER = "x-penstock-outcome"
"""On a hop, the outcome of an answer without a stream, as JSON."""

TRAILER = RESERVED + b" "
"""On a hop, begins the comment that ends a complete stream; what follows is its outcome as JSON."""

_EXPOSED = (
    "x-request-id, x-penstock-provider, x-penstock-model, x-penstock-route, x-penstock-dropped, "
    "x-penstock-idempotency, x-penstock-cost, x-penstock-cache, x-penstock-duel, "
    "x-penstock-tries, x-penstock-ledger, x-penstock-estimated, retry-after"
)
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")

STREAMING = {"cache-control": "no-cache", "x-accel-buffering": "no"}
"""Headers of every stream: nobody on the way may hold it back."""

_SPACES = bytes.maketrans(line.CONTROLS, b" " * len(line.CONTROLS))

FAREWELL_SECONDS = 2.0
"""How long a caller who reads slowly is waited for with the error that ends his stream."""


class Voice(Protocol):
    """How a streamed answer is spoken: by the visit itself, or by one that fills silences."""

    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """See `Visit.begin`."""

    async def more(self, data: bytes) -> None:
        """See `Visit.more`."""

    async def end(self, data: bytes = b"") -> None:
        """See `Visit.end`."""


class Visit:
    """One request. hop: from one of our own processes; behind_serve: Serve adds the `x-request-id` itself.

    origin is set where the caller is a page of an origin that may read our answers; cut where `interrupt` ended it;
    logged once the request log has its line. owing: the ledger waits for the row of its request. received, sent: bytes
    of the two bodies; first: when the first of a stream was there.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, hop: bool, behind_serve: bool) -> None:
        self.scope = scope
        self.receive = receive
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
        self.ended = False
        self.logged = False
        self.owing = False
        self.received = self.sent = 0
        self.first: float | None = None
        self.cut: PenstockError | None = None
        self._latest = b""
        self._line = line.of(scope)
        self._way: line.Outgoing = self._line or line.Messages(send)
        self._task = asyncio.current_task()

    def read_headers(self) -> None:
        """Take the headers in. Raises BadRequest (431) where they are too many."""
        self.headers = self.scope[READ_HEADERS] if self.hop else headers_of(self.scope)
        given = self.headers.get("x-request-id", "")
        self.id = given if _REQUEST_ID.fullmatch(given) else new_id()

    async def body(self) -> bytes:
        """The request's whole body. Raises as `reading.body_of`."""
        return await body_of(self.receive, self.headers, here=self._line is not None and self._line.whole)

    async def reply(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        """Answer with a whole body."""
        said = {"content-length": str(len(body)), "content-type": "application/json", **headers}
        body = b"" if self.method == "HEAD" else body
        self.started = self.ended = True
        self.sent += len(body)
        await self._way.reply(status, [*_raw(said), *self._common()], body)

    async def begin(self, status: int, headers: Mapping[str, str], *, hold: bool = False) -> None:
        """Begin an answer whose body comes by `more` and ends with `end`. hold: its first piece comes at once."""
        self.started = True
        await self._way.begin(status, [*_raw(headers), *self._common()], hold=hold)

    async def more(self, data: bytes) -> None:
        """Send a piece of the body; returns when the socket has room for the next."""
        self.sent += len(data)
        await self._way.more(data)

    @property
    def free(self) -> bool:
        """Whether `put` may send a piece of a stream now. See `pipelines.calls.Outlet`."""
        return self._way.free

    def put(self, data: bytes) -> None:
        """Send a piece of a stream at once, which is neither its first nor its last."""
        self.sent += len(data)
        self._latest = data
        self._way.put(data)

    async def end(self, data: bytes = b"") -> None:
        """Send the last piece of the body."""
        self.ended = True
        self.sent += len(data)
        await self._way.end(data)

    async def stream(
        self,
        answer: Answer,
        leaving: "Leaving",
        voice: Voice | None = None,
        settle: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        """Answer with frames as they come; on a hop, a stream that has an outcome ends with the trailer.

        settle: what the end of the answer waits for, with the frame that says that it is whole, or broken; it is told
        how many bytes these are.
        """
        frames = answer.frames
        assert frames is not None
        voice = voice or self
        last = DIALECTS[self.call.dialect].last if settle is not None and self.call is not None else None
        head = {**STREAMING, **answer.headers}
        self.first = time.monotonic()
        if voice is self:
            await self.begin(answer.status, head, hold=True)
            held = await self._pass(await anext(frames, b""), answer, last, voice)
            if not held and self.free:
                answer.let_out(self)
        else:
            await voice.begin(answer.status, head)
            held = b""
        more = voice.more
        async for data in frames:
            if held or answer.error is not None or (last is not None and last.search(data)):
                held += await self._pass(data, answer, last, voice)
            else:
                self._latest = data
                await more(data)
        leaving.stop()
        if settle is not None:
            await settle(len(held))
        if self.hop and answer.outcome is not None:
            held += TRAILER + msgspec.json.encode(answer.outcome) + b"\n\n"
        await voice.end(held)

    async def _pass(self, data: bytes, answer: Answer, last: re.Pattern[bytes] | None, voice: Voice) -> bytes:
        """Send a piece but for the frame that ends the stream, which is returned."""
        end = last.search(data) if last is not None else None
        cut = len(data)
        if answer.error is not None:
            cut = 0
        elif end is not None:
            cut = data.rfind(b"\n\n", 0, end.start()) + 2
            cut = cut if cut >= 2 else 0
        if cut:
            self._latest = data[:cut]
            await voice.more(self._latest)
        return data[cut:]

    async def fail(self, error: PenstockError) -> None:
        """End an answer that has begun and not ended: a caller's stream with the dialect's error frame.

        Raises `error` where no frame can say it, so that the connection is cut: a body without frames, a caller who
        does not read, and the hop, where the missing trailer says it.
        """
        if self.ended:
            return
        if self.hop or self.call is None or not self.call.stream:
            raise error
        dialect = DIALECTS[self.call.dialect]
        whole = dialect.last.search(self._latest)
        frame = b"" if whole else dialect.encoder(self.call.request).error(error)
        try:
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self.end(frame)
        except TimeoutError:
            raise error from None

    def measures(self, more: int = 0) -> Measures:
        """What there is to be told of it, as of now. more: bytes that are still to be sent."""
        first = None if self.first is None else self.first - self.began
        return Measures(time.monotonic() - self.began, first, self.received, self.sent + more)

    def interrupt(self) -> None:
        """End this visit with an error: the replica goes before it is done. The task gets a CancelledError."""
        if self._task is None:
            return
        if self.started:
            self.cut = StreamBroken("the replica that answered is leaving")
        else:
            self.cut = Overloaded("this replica is leaving", status=503, retry_after=1.0)
        self._task.cancel()

    def interrupted(self) -> bool:
        """Whether the CancelledError that has just come is `interrupt`'s alone; it counts no longer then."""
        return self.cut is not None and self._task is not None and self._task.uncancel() == 0

    def _common(self) -> Iterable[tuple[bytes, bytes]]:
        if not self.behind_serve and self.id:
            yield b"x-request-id", self.id.encode()
        if self.origin:
            yield b"access-control-allow-origin", self.origin.encode("latin-1")
            yield b"access-control-expose-headers", _EXPOSED.encode()
            yield b"vary", b"origin"


class Leaving:
    """Cancels the current task when the caller goes away, and turns that cancellation into HungUp.

    Used as `with Leaving(scope, receive) as leaving`; the request's body must have been read. Our own connections
    tell of it; of Serve's ingress ASGI's `receive` does, in a task.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._line = line.of(scope)
        self._receive = receive
        self._watch: asyncio.Task[None] | None = None
        self._task: asyncio.Task[Any] | None = None
        self._left = False

    def stop(self) -> None:
        """Watch no longer: what comes now is the end of the answer, not the caller's leaving."""
        if self._line is not None:
            self._line.gone.discard(self._gone)
        elif self._watch is not None:
            self._watch.cancel()

    def __enter__(self) -> Self:
        """Begin to watch."""
        self._task = asyncio.current_task()
        if self._line is not None:
            self._line.watch(self._gone)
        else:
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
        self._gone()

    def _gone(self) -> None:
        if self._task is not None:
            self._left = True
            self._task.cancel()


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as bytes; what no header may hold (RFC 9110, section 5.5) becomes a space."""
    raw = []
    for name, text in headers.items():
        value = text.encode("latin-1", "replace")
        raw.append((name.encode("latin-1"), value if text.isprintable() else value.translate(_SPACES)))
    return raw
