"""The ASGI face of every deployment that callers reach: authentication, limits, dialects, server-sent events.

One `Front` a replica, worn on up to three kinds of port: Serve's ingress and the replica's own listener for
callers, and the port for the hop between our own processes.

Above it: `gateway`, `provider_replica`. Below it: `books`, `guard`, `paths`, `reading`, `request_log`, `tracing`,
`visit`, `pipelines`.
Outside it: who answers, and how.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Literal, Protocol

import msgspec

from deployments.guard import Guard, permit, sender
from deployments.http.keep_alive import KeepAlive
from deployments.http.reading import HungUp, Receive, Scope, Send, json_object
from deployments.money.books import ACCOUNT_HEADER, COST_HEADER, Books, cost_of, opened, read
from deployments.pages.listing import listed
from deployments.paths import Place, dialect_of, find
from deployments.telemetry import spans
from deployments.telemetry.content import Listener
from deployments.telemetry.request_log import RequestLog
from deployments.telemetry.tracing import Tracing
from deployments.visit import OUTCOME_HEADER, Leaving, Visit, Voice
from pipelines.calls import Answer, Answering, Call, Caller, Lane
from pipelines.conversation import Json, Request
from pipelines.dialects import DIALECTS
from pipelines.dialects.base import with_model
from pipelines.errors import BadRequest, Denied, Overloaded, PenstockError
from pipelines.idempotency import checked
from pipelines.options import options_of
from pipelines.pricing import in_dollars

PASSED = ("anthropic-beta", "anthropic-version", "http-referer", "traceparent", "tracestate", "x-title")
"""Callers' headers that mean something to a provider."""

MAX_TOOLS = 128
"""Tools of one request: what most providers take at the most."""

_PASSED_QUERY = "beta=true"
"""The vendor's clients add it for beta features of the Messages API."""

_MOST = 10**6
"""Tokens, or answers, of a request: more than any provider gives."""

HEALTH_PAGES = frozenset({"/healthz", "/readyz"})
"""Open to everybody: whether this process serves, and whether it takes new work."""

REASON_HEADER = "x-penstock-reason"
"""On a hop, what an error means."""

_logger = logging.getLogger("penstock")


class Desk(Protocol):
    """What a replica tells about itself."""

    def models(self, caller: Caller) -> list[dict[str, Json]]:
        """The models on offer, in OpenAI's list form."""

    def model_name(self, asked: str) -> str:
        """A model as the caller named it, in the words of whoever answers here."""

    def pages(self) -> Mapping[str, Callable[[Caller], Json]]:
        """Further GET paths, each to its JSON."""

    async def elsewhere(self, visit: Visit, caller: Caller) -> bool:
        """Answer a path that the face itself does not know; False where there is nothing either."""

    async def open_page(self, visit: Visit) -> bool:
        """Answer a path that is open to everybody; False where it is none."""

    def unready(self) -> str:
        """Why new work should go elsewhere; "" where it is welcome."""


class Front:
    """One replica's face.

    name: the provider's, whose prefix (`/name`) is taken off paths; "" for the gateway. origins: pages of these may
    read our answers (CORS); "*" stands for all.
    """

    def __init__(
        self,
        answering: Answering,
        desk: Desk,
        guard: Guard,
        books: Books,
        *,
        lane: Lane,
        name: str = "",
        origins: tuple[str, ...] = (),
        log: RequestLog | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._answering = answering
        self._desk = desk
        self._guard = guard
        self._books = books
        self._prefix = f"/{name}" if name else ""
        self._lane = lane
        self._origins = frozenset(origins)
        self._log = log or RequestLog(None, name)
        self._tracing = tracing
        self._present: set[Visit] = set()
        self._empty = asyncio.Event()
        self._closed = False

    @property
    def visits(self) -> int:
        """How many requests are here, over every port."""
        return len(self._present)

    async def empty(self) -> None:
        """Wait until nobody is here."""
        if self._present:
            await self._empty.wait()

    def close(self) -> None:
        """The replica goes now: end with an error whatever is still here, and refuse (503) what comes."""
        self._closed = True
        for visit in self._present:
            visit.interrupt()

    def door(
        self,
        kind: Literal["caller", "hop"],
        *,
        behind_serve: bool = False,
        on_shutdown: Callable[[], Awaitable[None]] | None = None,
    ) -> Callable[..., Awaitable[None]]:
        """An ASGI application for one kind of port. on_shutdown is awaited when its server says that it ends."""

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                await _lifespan(receive, send, on_shutdown)
            elif scope["type"] == "http":
                await self._visit(Visit(scope, receive, send, hop=kind == "hop", behind_serve=behind_serve))
            elif scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1003})

        return application

    async def _visit(self, visit: Visit) -> None:
        if self._prefix and visit.path.startswith(f"{self._prefix}/"):
            visit.path = visit.path[len(self._prefix) :]
        self._present.add(visit)
        self._empty.clear()
        try:
            visit.read_headers()
            await self._receive(visit)
        except HungUp:
            if visit.call is not None and not visit.logged:
                self._log.answered(visit.call, Answer(), time.monotonic() - visit.began)
        except asyncio.CancelledError:
            if not visit.interrupted() or visit.cut is None:
                raise
            await self._refuse(visit, visit.cut)
        except PenstockError as error:
            await self._refuse(visit, error)
        except Exception:
            _logger.exception("request %s failed", visit.id)
            if visit.started:
                raise  # the server cuts the connection: visibly broken, never a clean end
            await self._refuse(visit, PenstockError("internal error; the log has it under this request's id"))
        finally:
            if visit.owing and visit.call is not None:
                self._books.left(visit.call, visit.measures())
            if visit.call is not None and visit.call.story.trace is not None:
                visit.call.story.trace.end("cancelled")
            self._present.discard(visit)
            if not self._present:
                self._empty.set()

    async def _receive(self, visit: Visit) -> None:
        if self._closed:
            raise Overloaded("this replica is leaving", status=503, retry_after=1.0)
        if self._origins and await self._cross_origin(visit):
            return
        if visit.path in HEALTH_PAGES and visit.method in ("GET", "HEAD"):
            await self._health(visit)
            return
        if not visit.hop and await self._desk.open_page(visit):
            return
        caller = sender(visit.headers) if visit.hop else self._guard.caller(visit.headers)
        place = find(visit.path, hop=visit.hop)
        if place is not None:
            _only(visit, "POST")
            await self._converse(visit, caller, place)
            return
        page = self._page(visit, caller)
        if page is not None:
            _only(visit, "GET", "HEAD")
            await visit.reply(200, msgspec.json.encode(page), {})
        elif not await self._desk.elsewhere(visit, caller):
            raise BadRequest(f"there is nothing at {visit.path[:200]!r}", status=404, code="not_found")

    async def _cross_origin(self, visit: Visit) -> bool:
        """Let pages of the configured origins in; answer the browser's question beforehand.

        Source: Fetch Standard, section 3.2 (CORS protocol), https://fetch.spec.whatwg.org/#http-cors-protocol.
        """
        origin = visit.headers.get("origin", "")
        if origin and (origin in self._origins or "*" in self._origins):
            visit.origin = origin
        if visit.method != "OPTIONS" or "access-control-request-method" not in visit.headers:
            return False
        allowed = {
            "access-control-allow-methods": "GET, POST, PATCH, DELETE, OPTIONS",
            "access-control-allow-headers": visit.headers.get("access-control-request-headers", "")[:1000],
            "access-control-max-age": "600",
        }
        await visit.reply(204, b"", allowed if visit.origin else {})
        return True

    def _page(self, visit: Visit, caller: Caller) -> Json:
        if visit.path == "/v1/models" or visit.path.startswith("/v1/models/"):
            models = self._desk.models(caller)
            return listed(models, visit.path.removeprefix("/v1/models").lstrip("/"), visit.headers)
        page = self._desk.pages().get(visit.path)
        return page(caller) if page else None

    async def _health(self, visit: Visit) -> None:
        """Alive is whoever answers; ready is who can take new work."""
        why = self._desk.unready() if visit.path == "/readyz" else ""
        challenge = visit.headers.get("x-penstock-challenge")
        headers = {"x-penstock-proof": self._guard.proof(challenge)} if challenge else {}
        said = {"status": "unavailable", "why": why} if why else {"status": "ok"}
        await visit.reply(503 if why else 200, msgspec.json.encode(said), headers)

    async def _converse(self, visit: Visit, caller: Caller, place: Place) -> None:
        body = await visit.body()
        visit.received = len(body)
        call = self._call(visit, caller, place, json_object(body))
        if not visit.hop:
            permit(call, self._prefix[1:])
        await self.serve(visit, call)

    async def serve(self, visit: Visit, call: Call) -> None:
        """Answer a call that came with this visit, with all that is due to a caller. Raises PenstockError."""
        if not visit.hop:
            await self._books.begin(call, visit.received)
            visit.owing = True
        visit.call = call
        if self._tracing is not None:
            self._tracing.begin(visit, call)
        with Leaving(visit.scope, visit.receive) as leaving:
            # Of the operations only a completion is streamed in frames.
            if call.caller.keep_alive and call.stream and call.operation in ("", "/completions"):
                async with KeepAlive(visit, call.caller.keep_alive) as voice:
                    await self._answer(visit, call, leaving, voice)
            else:
                await self._answer(visit, call, leaving, visit)

    async def _answer(self, visit: Visit, call: Call, leaving: Leaving, voice: Voice) -> None:
        answer: Answer | None = None
        listener: Listener | None = None
        try:
            answer = await self._answering.answer(call)
            if self._log.content and not visit.hop:
                listener = Listener(call, answer)
            self._books.tell(call, answer)
            settle = partial(self._settle, visit, call, answer) if visit.owing else None
            if answer.frames is not None:
                self._books.announce(answer)
                await visit.stream(answer, leaving, voice, settle)
            else:
                leaving.stop()
                if settle is not None:
                    await settle(len(answer.body))
                if visit.hop and answer.outcome is not None:
                    answer.headers[OUTCOME_HEADER] = msgspec.json.encode(answer.outcome).decode()
                elif (cost := cost_of(answer)) is not None:
                    answer.headers[COST_HEADER] = in_dollars(cost)
                await visit.reply(answer.status, answer.body, answer.headers)
        finally:
            if answer is not None:
                try:
                    await answer.close()
                finally:
                    self._over(visit, call, answer, listener)

    def _over(self, visit: Visit, call: Call, answer: Answer, listener: Listener | None) -> None:
        """The answer is closed: into the books, unless it is there, the log and the trace."""
        answer.error = answer.error or visit.cut
        if visit.owing:
            visit.owing = False
            self._books.ended(call, answer, visit.measures())
        self._log.answered(call, answer, time.monotonic() - visit.began, listener)
        visit.logged = True
        if call.story.trace is not None:
            spans.answered(call.story.trace, answer, call.story.last())

    async def _settle(self, visit: Visit, call: Call, answer: Answer, left: int) -> None:
        """The answer is complete but for `left` bytes: its rows first. Raises Overloaded (503) where that cannot be."""
        visit.owing = False
        await self._books.answered(call, answer, visit.measures(left))

    def _call(self, visit: Visit, caller: Caller, place: Place, body: dict[str, Json]) -> Call:
        if place.model and not visit.hop:
            body = {**body, "model": place.model}
        dialect = DIALECTS[place.dialect]
        request = _bare_request(body) if place.operation else dialect.read_request(body)
        if len(request.tools) > MAX_TOOLS:
            raise BadRequest(f"there are {len(request.tools)} tools, more than {MAX_TOOLS}", param="tools")
        if not visit.hop and (name := self._desk.model_name(request.model)) != request.model:
            request = msgspec.structs.replace(request, model=name)
        return Call(
            id=visit.id,
            dialect=place.dialect,
            body=body,
            request=request,
            caller=caller,
            lane="hop" if visit.hop else self._lane,
            headers={name: visit.headers[name] for name in PASSED if name in visit.headers},
            operation=place.operation,
            path=place.path,
            query=_PASSED_QUERY if _PASSED_QUERY in visit.query.split("&") else "",
            options=options_of(body),
            # On a hop the gateway has seen to it.
            idempotency_key="" if visit.hop else checked(visit.headers.get("idempotency-key", "")),
            account=read(visit.headers.get(ACCOUNT_HEADER, ""))
            if visit.hop
            else opened(visit.headers, request.metadata),
        )

    async def _refuse(self, visit: Visit, error: PenstockError) -> None:
        if not visit.logged:
            self._log.refused(visit.id, visit.path, visit.call, error, time.monotonic() - visit.began)
        if visit.call is None and not visit.hop:
            self._books.turned_away(error)
        elif visit.call is not None and visit.call.story.trace is not None:
            visit.call.story.trace.end(error.label)
        if visit.owing and visit.call is not None:
            visit.owing = False
            await self._books.refused(visit.call, error, visit.measures())
        if visit.started:
            await visit.fail(error)
            return
        headers = dict(error.headers)
        if error.retry_after is not None:
            headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
        if isinstance(error, Denied) and error.status == 401:
            headers["www-authenticate"] = "Bearer"
        if visit.hop:
            headers[REASON_HEADER] = error.label
        body = DIALECTS[dialect_of(visit.path, visit.headers)].write_error(error)
        await visit.reply(error.status, msgspec.json.encode(body), headers)


def _only(visit: Visit, *methods: str) -> None:
    if visit.method not in methods:
        raise BadRequest(f"{visit.path[:200]} takes {methods[0]}", status=405, code="method_not_allowed")


def _bare_request(body: dict[str, Json]) -> Request:
    """What is known of a request that is no conversation: its model, whether it wants a stream, how much it wants."""
    model = with_model(body).get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("`model` must be a model's name", param="model")
    prompts = body.get("prompt")
    several = len(prompts) if isinstance(prompts, list) and prompts and not isinstance(prompts[0], int) else 1
    return Request(
        model=model,
        messages=(),
        stream=body.get("stream") is True,
        max_tokens=_number(body, "max_tokens"),
        n=several * max(_number(body, "n") or 1, _number(body, "best_of") or 1),
    )


def _number(body: Mapping[str, Json], name: str) -> int | None:
    """A member that is a positive number of a sane size; of any other one the provider is to judge."""
    value = body.get(name)
    return value if type(value) is int and 0 < value <= _MOST else None


async def _lifespan(receive: Receive, send: Send, on_shutdown: Callable[[], Awaitable[None]] | None) -> None:
    while True:
        message: Mapping[str, Any] = await receive()
        if message["type"] == "lifespan.shutdown" and on_shutdown is not None:
            await on_shutdown()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
