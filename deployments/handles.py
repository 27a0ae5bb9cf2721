"""Calls over a Ray handle: plain dicts in, plain dicts out, for jobs that do not have this code.

Above it: `gateway`. Below it: `request_log`, `pipelines`. Outside it: Ray.
"""

import logging
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import msgspec

from deployments.request_log import RequestLog
from pipelines.calls import Answer, Answering, Call, Caller, Lane
from pipelines.conversation import Json
from pipelines.dialects import DIALECTS
from pipelines.dialects.sse import Framer, parse
from pipelines.errors import BadRequest, PenstockError
from pipelines.idempotency import checked
from pipelines.options import options_of

_CHAT = "openai_chat"
_PATH = "/v1/chat/completions"
_logger = logging.getLogger("penstock")


def call_from_body(body: Json, caller: Caller, lane: Lane, idempotency_key: str = "") -> Call:
    """A chat completion body as a call. Raises BadRequest."""
    if not isinstance(body, dict):
        raise BadRequest("the body must be a dict")
    request = DIALECTS[_CHAT].read_request(body)
    return Call(
        uuid.uuid4().hex,
        _CHAT,
        body,
        request,
        caller,
        lane,
        path=_PATH,
        options=options_of(body),
        idempotency_key=checked(idempotency_key),
    )


class HandleCalls:
    """Answers calls over a handle, and logs them."""

    def __init__(self, answering: Answering, log: RequestLog) -> None:
        self._answering = answering
        self._log = log

    async def stream(self, make: Callable[[], Call]) -> AsyncGenerator[dict[str, Json], None]:
        """The chunks of a streamed answer; an error, whenever it comes, is a last `{"error": {…}}`."""
        framer = Framer()
        try:
            async with self._answered(make) as answer:
                assert answer.frames is not None
                async for data in answer.frames:
                    for raw in framer.cut(data):
                        said = parse(raw).data
                        if said and said != b"[DONE]":
                            yield msgspec.json.decode(said)
        except Exception as error:
            yield _as_dict(error)

    async def whole(self, make: Callable[[], Call]) -> dict[str, Json]:
        """A whole answer, or `{"error": {…}}`."""
        try:
            async with self._answered(make) as answer:
                body: dict[str, Json] = msgspec.json.decode(answer.body)
                return body
        except Exception as error:
            return _as_dict(error)

    @asynccontextmanager
    async def _answered(self, make: Callable[[], Call]) -> AsyncGenerator[Answer, None]:
        began, call = time.monotonic(), None
        try:
            call = make()
            answer = await self._answering.answer(call)
        except PenstockError as error:
            self._log.refused(call.id if call else "", _PATH, call, error, time.monotonic() - began)
            raise
        try:
            yield answer
        finally:
            await answer.close()
            self._log.answered(call, answer, time.monotonic() - began)


def _as_dict(error: Exception) -> dict[str, Json]:
    """Whatever went wrong, as plain values: a job without this code could not unpickle a class of ours."""
    if not isinstance(error, PenstockError):
        _logger.error("a call over a handle failed", exc_info=error)
        error = PenstockError("internal error; the log has it")
    return DIALECTS[_CHAT].write_error(error)
