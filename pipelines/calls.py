"""One call and its answer, as they pass between a face (`deployments.front`) and whoever answers.

Above it: `front`, `gateway`, the providers. Below it: `conversation`, `options`, `routing.table`.
Outside it: HTTP. An `Answer`'s bytes are already in the caller's dialect.
"""

from collections.abc import AsyncGenerator, Callable
from typing import Literal, Protocol

import msgspec

from pipelines.conversation import Json, Request
from pipelines.errors import PenstockError
from pipelines.keys import WAYS, Limits, Right, Way
from pipelines.options import Options, Recovery, RouteOptions
from pipelines.routing.table import Outcome, Role
from pipelines.story import Story

Lane = Literal["direct", "routed", "hop"]


COUNT_TOKENS = "/messages/count_tokens"
"""The operation (`Call.operation`) that asks how many tokens a conversation has."""


class Caller(msgspec.Struct, frozen=True):
    """Whose key it is, and what goes for all its calls. id is safe to log.

    priority: who is served first where calls wait, and who is refused last; higher comes first.
    recovery: what becomes of a stream that breaks, where the call itself does not say.
    keep_alive: seconds between comments to a caller who waits for the first output of a stream; 0: none.
    explore: whether a model may be tried on his requests for what it may turn out to be.
    route: by what a model is chosen, where the call itself does not say.
    rights: what he may do beyond asking models and seeing what is his own; admin: all of it. models, tools, lanes: what
    he may ask for (`keys.Settings`). limits: what he may use; None: as much as there is.
    cache: seconds for which an answer may be given again to the very same request; 0: it may not.
    """

    id: str
    admin: bool = False
    priority: int = 0
    recovery: Recovery = "error"
    keep_alive: float = 0.0
    explore: bool = True
    route: RouteOptions = RouteOptions()
    rights: tuple[Right, ...] = ()
    models: tuple[str, ...] | None = None
    tools: tuple[str, ...] | None = None
    lanes: tuple[Way, ...] = WAYS
    limits: Limits | None = None
    cache: float = 0.0

    def may(self, right: Right) -> bool:
        """Whether he has that right."""
        return self.admin or right in self.rights


class Account(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the ledger's rows of a call say that the call itself does not; it goes along on a hop.

    entry: the id of the request's row; began: when it came, in seconds since 1970; tag: the caller's own; task: what
    kind of request it is, "" where nobody looked.
    attempt, asked, role, queued: the same of the attempt under way: its row's id, its beginning, why it was made, and
    how many seconds it waited for its turn.
    """

    entry: str = ""
    began: float = 0.0
    tag: str = ""
    task: str = ""
    attempt: str = ""
    asked: float = 0.0
    role: Role = "first"
    queued: float = 0.0


class Decision(msgspec.Struct, frozen=True):
    """What a person decided about the call that waits under this id. key: whose call it must be; "" for anybody's."""

    id: str
    allow: bool
    key: str = ""


class Call(msgspec.Struct, frozen=True):
    """A request for an answer in one dialect.

    body is the caller's JSON as it came, request the same in our own words. headers are the caller's, lower
    case, and only those that mean something to a provider (`anthropic-beta`). operation: "" for a conversation, else
    the provider's own path below its base URL (`/embeddings`), and `request` knows only model and stream.
    path: where it was posted; query: what of its query string is for the provider (`beta=true`).
    options: what the body's `penstock` asks of us; idempotency_key: the caller's `Idempotency-Key`, "" without one.
    account: for the ledger. story: what becomes of it, for logs and traces; a call's copies share it.
    decision: what a person has decided about a call of a tool, where this goes on with what waited for it.
    """

    id: str
    dialect: str
    body: dict[str, Json]
    request: Request
    caller: Caller
    lane: Lane
    headers: dict[str, str] = {}
    operation: str = ""
    path: str = ""
    query: str = ""
    options: Options = Options()
    idempotency_key: str = ""
    account: Account = Account()
    story: Story = msgspec.field(default_factory=Story)
    decision: Decision | None = None

    @property
    def recovery(self) -> Recovery:
        """What becomes of the stream if it breaks after its first output."""
        return self.options.recovery or self.caller.recovery

    @property
    def may_explore(self) -> bool:
        """Whether a model may be tried on this request."""
        return self.caller.explore and False not in (self.caller.route.explore, self.options.route.explore)

    @property
    def cache(self) -> float:
        """Seconds for which its answer may be given again to the very same request; 0: it may not."""
        return self.caller.cache if self.options.cache is None else self.options.cache.ttl

    @property
    def stream(self) -> bool:
        """Whether the caller wants a stream."""
        return self.request.stream


class Outlet(Protocol):
    """Where pieces of a stream may go past the reader of its frames, while he waits for the next."""

    @property
    def free(self) -> bool:
        """Whether one may go now."""

    def put(self, data: bytes) -> None:
        """Send one; only where it is `free`."""


class Source(Protocol):
    """Where an answer comes from: an upstream's answer, or another `Answer`."""

    async def close(self) -> None:
        """Done with it. Further calls do nothing."""


class Answer:
    """What goes back: headers, and either a whole body or frames.

    frames yields bytes that end at frame boundaries; it ends by itself with an error frame where the answer
    breaks after its beginning, so that whoever sends it needs to know nothing of dialects.
    outcome and error say how it went; they are set when the body is whole or the frames have ended.
    asked: the call as the attempt that gives this answer has it; booked: the ledger has been told of that attempt.
    queued: seconds that the call waited for its turn.
    outlet: where whole frames that hold content and nothing else may go past the readers of frames; None: nowhere. It
    is for the source that has said so (`let_past`). Whoever replaces frames by his own reading of them closes this way,
    unless he says that he need not see each (`read_through`).
    Whoever takes an answer calls `close` when done with it, however it went.
    """

    def __init__(
        self,
        *,
        status: int = 200,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        frames: AsyncGenerator[bytes, None] | None = None,
    ) -> None:
        self.status = status
        self.headers = headers if headers is not None else {}
        self.body = body
        self.frames = frames
        self.outlet: Outlet | None = None
        self._passable: AsyncGenerator[bytes, None] | None = None
        self.outcome: Outcome | None = None
        self.error: PenstockError | None = None
        self.asked: Call | None = None
        self.booked = False
        self.queued = 0.0
        self._closers: list[Callable[[], None]] = []
        self._sources: list[Source] = []

    @property
    def result(self) -> str:
        """How it went, in one word: "ok", "cancelled", or the reason of the failure."""
        if self.error is not None:
            return self.error.label
        if self.outcome is None or self.outcome.cancelled:
            return "cancelled"
        return self.outcome.reason or "ok"

    def let_past(self, frames: AsyncGenerator[bytes, None]) -> None:
        """Answer with `frames`, whose source sends content to `outlet` while they are waited for."""
        self.frames = self._passable = frames

    def let_out(self, outlet: Outlet) -> None:
        """Whoever reads `frames` does nothing but send them: while he waits, content may go to `outlet` by itself."""
        if self._passable is self.frames:
            self.outlet = outlet

    def read_through(self, frames: AsyncGenerator[bytes, None]) -> None:
        """Replace `frames` by a reading of them that looks only at how they end."""
        if self._passable is self.frames:
            self._passable = frames
        self.frames = frames

    def hold(self, source: "Source") -> None:
        """Have `source` closed with the answer, which `frames` alone cannot: begun by nobody, it ends nothing."""
        self._sources.append(source)

    def on_close(self, closer: Callable[[], None]) -> None:
        """Have `closer` called once the answer is done with."""
        self._closers.append(closer)

    async def close(self) -> None:
        """Done with it: an unread rest is cancelled at its source. Further calls do nothing.

        All that is to be closed is closed, whatever of it fails: one holds a place that another call waits for. The
        first failure is raised in the end.
        """
        failures: list[BaseException] = []
        if self.frames is not None:
            try:
                await self.frames.aclose()
            except BaseException as error:  # a cancellation too waits for the rest
                failures.append(error)
        while self._sources:
            try:
                await self._sources.pop(0).close()
            except BaseException as error:
                failures.append(error)
        closers, self._closers = self._closers, []
        for closer in closers:
            try:
                closer()
            except Exception as error:
                failures.append(error)
        if failures:
            raise failures[0]


class Answering(Protocol):
    """Whoever answers calls: a provider, or the gateway that chooses one."""

    async def answer(self, call: Call) -> Answer:
        """The answer. Raises PenstockError where there is none; a stream is returned at its first output."""
