"""Calls over a Ray handle: plain dicts in, plain dicts out, for jobs that do not have this code.

Above it: `gateway`. Below it: `books`, `request_log`, `pipelines`. Outside it: Ray.
"""

import logging
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from deployments.identity import new_id
from deployments.money.books import Books, Measures, cost_of, opened
from deployments.telemetry.request_log import RequestLog
from pipelines.calls import Answer, Answering, Call, Caller, Lane
from pipelines.conversation import Json
from pipelines.dialects import DIALECTS, lenient
from pipelines.dialects.sse import Framer, parse
from pipelines.errors import BadRequest, PenstockError
from pipelines.idempotency import checked
from pipelines.options import options_of
from pipelines.pricing import dollars

_CHAT = "openai_chat"
_PATH = "/v1/chat/completions"
_LAST = re.compile(rb'"finish_reason": ?"|"choices": ?\[\]')
"""In a chunk that nothing but the usage comes after, or that is the usage."""

_logger = logging.getLogger("penstock")

Settle = Callable[[], Awaitable[None]]


def call_from_body(body: Json, caller: Caller, lane: Lane, idempotency_key: str = "", *, dialect: str = _CHAT) -> Call:
    """A body as a call: a chat completion, or another dialect's conversation. Raises BadRequest."""
    if not isinstance(body, dict):
        raise BadRequest("the body must be a dict")
    request = DIALECTS[dialect].read_request(body)
    return Call(
        new_id(),
        dialect,
        body,
        request,
        caller,
        lane,
        path=_PATH,
        options=options_of(body),
        idempotency_key=checked(idempotency_key),
        account=opened({}, request.metadata),
    )


class HandleCalls:
    """Answers calls over a handle, and logs them."""

    def __init__(self, answering: Answering, books: Books, log: RequestLog) -> None:
        self._answering = answering
        self._books = books
        self._log = log

    async def stream(self, make: Callable[[], Call]) -> AsyncGenerator[dict[str, Json], None]:
        """The chunks of a streamed answer; an error, whenever it comes, is a last `{"error": {…}}`."""
        framer = Framer()
        try:
            async with self._answered(make) as (answer, settle):
                assert answer.frames is not None
                held: dict[str, Json] | None = None
                async for data in answer.frames:
                    for raw in framer.cut(data):
                        said = parse(raw).data
                        if not said or said == b"[DONE]":
                            continue
                        if held is not None:
                            yield held
                        held = lenient.read(said)
                        if not _LAST.search(said) and answer.error is None:
                            yield held
                            held = None
                await settle()
                if held is not None:
                    yield held
        except Exception as error:
            yield _as_dict(error)

    async def whole(self, make: Callable[[], Call]) -> dict[str, Json]:
        """A whole answer, or `{"error": {…}}`."""
        try:
            async with self._answered(make) as (answer, settle):
                body: dict[str, Json] = lenient.read(answer.body)
                cost = cost_of(answer)
                DIALECTS[_CHAT].set_cost(body, None if cost is None else dollars(cost))
                await settle()
                return body
        except Exception as error:
            return _as_dict(error)

    @asynccontextmanager
    async def _answered(self, make: Callable[[], Call]) -> AsyncGenerator[tuple[Answer, Settle], None]:
        """A call's answer, and what is to be awaited before its end is handed out."""
        began, call, owing = time.monotonic(), None, False

        async def settle() -> None:
            nonlocal owing
            assert call is not None
            owing = False
            await self._books.answered(call, answer, Measures(time.monotonic() - began, sent=len(answer.body)))

        try:
            call = make()
            await self._books.begin(call)
            owing = True
            answer = await self._answering.answer(call)
        except BaseException as error:
            seconds = time.monotonic() - began
            if isinstance(error, PenstockError):
                self._log.refused(call.id if call else "", _PATH, call, error, seconds)
                if owing and call is not None:
                    await self._books.refused(call, error, Measures(seconds))
            elif owing and call is not None:
                self._books.left(call, Measures(seconds))
            raise
        try:
            yield answer, settle
        finally:
            await answer.close()
            if owing:
                self._books.ended(call, answer, Measures(time.monotonic() - began))
            self._log.answered(call, answer, time.monotonic() - began)


def _as_dict(error: Exception) -> dict[str, Json]:
    """Whatever went wrong, as plain values: a job without this code could not unpickle a class of ours."""
    if not isinstance(error, PenstockError):
        _logger.error("a call over a handle failed", exc_info=error)
        error = PenstockError("internal error; the log has it")
    return DIALECTS[_CHAT].write_error(error)
