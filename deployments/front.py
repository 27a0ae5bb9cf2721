"""The ASGI face of every deployment that callers reach: authentication, limits, dialects, server-sent events.

One `Front` a replica, worn on up to three kinds of port: Serve's ingress and the replica's own listener for
callers (`Door("caller")`), and the port for the hop between our own processes (`Door("hop")`).

It owns what Serve does not do fully: a caller who goes away cancels the work at once, before the first token too;
a caller who reads slowly is waited for, frame by frame; what broke is never ended like a success.

Above it: `gateway`, `provider_replica`. Below it: `guard`, `reading`, `pipelines`. Outside it: who answers.
"""

import asyncio
import logging
import math
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, Protocol

import msgspec

from deployments.guard import Guard
from deployments.reading import HungUp, Receive, Scope, Send, body_of, headers_of, json_object
from deployments.request_log import RequestLog
from pipelines.calls import Answer, Answering, Call, Caller, Lane
from pipelines.conversation import Json
from pipelines.dialects import DIALECTS
from pipelines.errors import BadRequest, Denied, PenstockError, UpstreamError

PATHS = {
    "/v1/chat/completions": "openai_chat",
    "/v1/messages": "anthropic_messages",
    "/v1/responses": "openai_responses",
}
"""Where a conversation may be posted, and in which dialect."""

PASSED = ("anthropic-beta", "http-referer", "x-title")
"""Callers' headers that mean something to a provider."""

REASON_HEADER = "x-penstock-reason"
OUTCOME_HEADER = "x-penstock-outcome"
TRAILER = b": penstock "
"""Begins the comment that ends a complete stream on a hop; what follows is its outcome as JSON."""

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_logger = logging.getLogger("penstock")


class Desk(Protocol):
    """What a replica tells about itself."""

    def models(self, caller: Caller) -> list[dict[str, Json]]:
        """The models on offer, in OpenAI's list form."""

    def model_name(self, asked: str) -> str:
        """A model as the caller named it, in the words of whoever answers here."""

    def pages(self) -> Mapping[str, Callable[[Caller], Json]]:
        """Further GET paths, each to its JSON."""

    def healthy(self) -> bool:
        """Whether new work is welcome."""


class Visit:
    """One HTTP request while it is here: what is known of it, for whoever handles it."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.path = path
        self.headers: dict[str, str] = {}
        self.id = ""
        self.call: Call | None = None
        self.began = time.monotonic()
        self.started = False


class Front:
    """One replica's face. name: the provider's, whose prefix (`/name`) is taken off paths and models; "" for the
    gateway. behind_serve tells a door whose requests Serve has already given their `x-request-id`.
    """

    def __init__(
        self,
        answering: Answering,
        desk: Desk,
        guard: Guard,
        *,
        lane: Lane,
        name: str = "",
        log: RequestLog | None = None,
    ) -> None:
        self._answering = answering
        self._desk = desk
        self._guard = guard
        self._prefix = f"/{name}" if name else ""
        self._lane = lane
        self._log = log or RequestLog(None, name)
        self.visits = 0
        self._empty = asyncio.Event()

    async def empty(self) -> None:
        """Wait until nobody is here."""
        if self.visits:
            await self._empty.wait()

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
                await self._visit(scope, receive, send, hop=kind == "hop", behind_serve=behind_serve)
            elif scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1003})

        return application

    async def _visit(self, scope: Scope, receive: Receive, send: Send, *, hop: bool, behind_serve: bool) -> None:
        path: str = scope["path"]
        if self._prefix and path.startswith(f"{self._prefix}/"):
            path = path[len(self._prefix) :]
        visit = Visit(scope, receive, send, path)
        self.visits += 1
        self._empty.clear()
        try:
            visit.headers = headers_of(scope)
            visit.id = _request_id(visit.headers)
            await self._serve(visit, hop=hop, behind_serve=behind_serve)
        except HungUp:
            pass
        except PenstockError as error:
            await self._refuse(visit, error, hop=hop, behind_serve=behind_serve)
        except Exception:
            _logger.exception("request %s failed", visit.id)
            if visit.started:
                raise  # the server cuts the connection: visibly broken, never a clean end
            broken = PenstockError("internal error; the log has it under this request's id")
            await self._refuse(visit, broken, hop=hop, behind_serve=behind_serve)
        finally:
            self.visits -= 1
            if not self.visits:
                self._empty.set()

    async def _serve(self, visit: Visit, *, hop: bool, behind_serve: bool) -> None:
        method = visit.scope["method"]
        if visit.path == "/healthz" and method in ("GET", "HEAD"):
            await self._health(visit)
            return
        caller = self._guard.hop(visit.headers) if hop else self._guard.caller(visit.headers)
        if visit.path in PATHS:
            if method != "POST":
                raise BadRequest(f"{visit.path} takes POST", status=405, code="method_not_allowed")
            await self._converse(visit, caller, hop=hop, behind_serve=behind_serve)
            return
        page = self._page(visit.path, caller)
        if page is None:
            raise BadRequest(f"there is nothing at {visit.path[:200]!r}", status=404, code="not_found")
        if method not in ("GET", "HEAD"):
            raise BadRequest(f"{visit.path[:200]} takes GET", status=405, code="method_not_allowed")
        await _reply(visit, 200, msgspec.json.encode(page), {} if behind_serve else {"x-request-id": visit.id})

    def _page(self, path: str, caller: Caller) -> Json:
        if path == "/v1/models":
            return {"object": "list", "data": self._desk.models(caller)}
        if path.startswith("/v1/models/"):
            wanted = path.removeprefix("/v1/models/")
            return next((model for model in self._desk.models(caller) if model["id"] == wanted), None)
        page = self._desk.pages().get(path)
        return page(caller) if page else None

    async def _health(self, visit: Visit) -> None:
        healthy = self._desk.healthy()
        headers = {}
        if challenge := visit.headers.get("x-penstock-challenge"):
            headers["x-penstock-proof"] = self._guard.proof(challenge)
        body = b'{"status":"ok"}' if healthy else b'{"status":"unavailable"}'
        await _reply(visit, 200 if healthy else 503, body, headers)

    async def _converse(self, visit: Visit, caller: Caller, *, hop: bool, behind_serve: bool) -> None:
        raw = await body_of(visit.receive, visit.headers)
        call = self._call(visit, caller, json_object(raw), hop=hop)
        del raw
        visit.call = call
        task = asyncio.current_task()
        assert task is not None
        watch = asyncio.get_running_loop().create_task(_hang_up(visit.receive, task))
        answer: Answer | None = None
        try:
            answer = await self._answering.answer(call)
            answer.headers.setdefault("content-type", "application/json")
            if not behind_serve:
                answer.headers["x-request-id"] = visit.id
            if answer.frames is not None:
                await _stream(visit, answer, watch, hop=hop)
            else:
                watch.cancel()
                if hop and answer.outcome is not None:
                    answer.headers[OUTCOME_HEADER] = msgspec.json.encode(answer.outcome).decode()
                await _reply(visit, answer.status, answer.body, answer.headers)
        except asyncio.CancelledError:
            if watch.done() and not watch.cancelled() and task.uncancel() == 0:
                raise HungUp from None
            raise
        finally:
            watch.cancel()
            if answer is not None:
                await answer.close()
                self._note(visit, answer)

    def _call(self, visit: Visit, caller: Caller, body: dict[str, Json], *, hop: bool) -> Call:
        dialect = DIALECTS[PATHS[visit.path]]
        request = dialect.read_request(body)
        if not hop and (name := self._desk.model_name(request.model)) != request.model:
            request = msgspec.structs.replace(request, model=name)
        return Call(
            id=visit.id,
            dialect=dialect.name,
            body=body,
            request=request,
            caller=caller,
            lane="hop" if hop else self._lane,
            headers={name: visit.headers[name] for name in PASSED if name in visit.headers},
        )

    def _note(self, visit: Visit, answer: Answer) -> None:
        outcome, call = answer.outcome, visit.call
        self._log.add(
            request=visit.id,
            caller=call.caller.id if call else None,
            lane=call.lane if call else None,
            path=visit.path,
            asked=call.request.model[:200] if call else None,
            stream=call.stream if call else None,
            provider=outcome.provider if outcome else answer.headers.get("x-penstock-provider"),
            model=outcome.model[:200] if outcome else None,
            route=answer.headers.get("x-penstock-route"),
            seconds=round(time.monotonic() - visit.began, 4),
            first_output=outcome.first_output if outcome else None,
            input_tokens=outcome.input_tokens if outcome else None,
            output_tokens=outcome.output_tokens if outcome else None,
            cost=outcome.cost if outcome else None,
            result=_result(answer),
        )

    async def _refuse(self, visit: Visit, error: PenstockError, *, hop: bool, behind_serve: bool) -> None:
        if visit.started:
            raise error
        body = DIALECTS[PATHS.get(visit.path, "openai_chat")].write_error(error)
        headers = {} if behind_serve else {"x-request-id": visit.id or uuid.uuid4().hex}
        if error.retry_after is not None:
            headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
        if isinstance(error, Denied) and error.status == 401:
            headers["www-authenticate"] = "Bearer"
        if hop:
            headers[REASON_HEADER] = error.reason if isinstance(error, UpstreamError) else error.code
        self._log.add(
            request=visit.id,
            caller=visit.call.caller.id if visit.call else None,
            path=visit.path[:200],
            asked=visit.call.request.model[:200] if visit.call else None,
            seconds=round(time.monotonic() - visit.began, 4),
            status=error.status,
            result=error.reason if isinstance(error, UpstreamError) else error.code,
        )
        await _reply(visit, error.status, msgspec.json.encode(body), headers)


def _result(answer: Answer) -> str:
    """How it went, in one word: "ok", "cancelled", or the reason of the failure."""
    if answer.outcome is None:
        return answer.error.code if answer.error else "cancelled"
    return "cancelled" if answer.outcome.cancelled else answer.outcome.reason or "ok"


async def _lifespan(receive: Receive, send: Send, on_shutdown: Callable[[], Awaitable[None]] | None) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.shutdown" and on_shutdown is not None:
            await on_shutdown()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _hang_up(receive: Receive, task: asyncio.Task[Any]) -> None:
    """Wait for the caller to go away, and then cancel the work for him."""
    while (await receive())["type"] != "http.disconnect":
        pass
    task.cancel()


async def _stream(visit: Visit, answer: Answer, watch: asyncio.Task[None], *, hop: bool) -> None:
    """Send frames as they come; on a hop, end a stream that has an outcome with the trailer that carries it."""
    assert answer.frames is not None
    send = visit.send
    visit.started = True
    headers = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"), *_raw(answer.headers)]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    async for data in answer.frames:
        await send({"type": "http.response.body", "body": data, "more_body": True})
    last = b""
    if hop and answer.outcome is not None:
        last = TRAILER + msgspec.json.encode(answer.outcome) + b"\n\n"
    watch.cancel()
    await send({"type": "http.response.body", "body": last, "more_body": False})


async def _reply(visit: Visit, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    visit.started = True
    head = [(b"content-length", str(len(body)).encode()), *_raw({"content-type": "application/json", **headers})]
    await visit.send({"type": "http.response.start", "status": status, "headers": head})
    content = b"" if visit.scope["method"] == "HEAD" else body
    await visit.send({"type": "http.response.body", "body": content, "more_body": False})


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as bytes; what no header may hold is replaced."""
    return [
        (name.encode("latin-1"), value.replace("\r", " ").replace("\n", " ").encode("latin-1", "replace"))
        for name, value in headers.items()
    ]


def _request_id(headers: Mapping[str, str]) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
