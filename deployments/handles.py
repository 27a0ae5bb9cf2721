"""Calls over a Ray handle: plain dicts in, plain dicts out, for jobs that do not have this code.

Above it: `gateway`. Below it: `pipelines`. Outside it: Ray.
"""

import logging
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import msgspec

from pipelines.calls import Answering, Call, Caller, Lane
from pipelines.conversation import Json
from pipelines.dialects import DIALECTS
from pipelines.dialects.sse import Framer, parse
from pipelines.errors import BadRequest, PenstockError

_CHAT = "openai_chat"
_logger = logging.getLogger("penstock")


def call_from_body(body: Json, caller: Caller, lane: Lane) -> Call:
    """A chat completion body as a call. Raises BadRequest."""
    if not isinstance(body, dict):
        raise BadRequest("the body must be a dict")
    request = DIALECTS[_CHAT].read_request(body)
    return Call(uuid.uuid4().hex, _CHAT, body, request, caller, lane, path="/v1/chat/completions")


async def answer_as_dicts(answering: Answering, make: Callable[[], Call]) -> AsyncGenerator[dict[str, Json], None]:
    """The chunks of a streamed answer; an error, whenever it comes, is a last `{"error": {…}}`."""
    try:
        async with aclosing(_chunks(answering, make)) as chunks:
            async for chunk in chunks:
                yield chunk
    except Exception as error:
        yield _as_dict(error)


async def answer_as_dict(answering: Answering, make: Callable[[], Call]) -> dict[str, Json]:
    """A whole answer, or `{"error": {…}}`."""
    try:
        answer = await answering.answer(make())
        try:
            whole: dict[str, Json] = msgspec.json.decode(answer.body)
            return whole
        finally:
            await answer.close()
    except Exception as error:
        return _as_dict(error)


async def _chunks(answering: Answering, make: Callable[[], Call]) -> AsyncGenerator[dict[str, Json], None]:
    answer = await answering.answer(make())
    framer = Framer()
    try:
        assert answer.frames is not None
        async for data in answer.frames:
            for raw in framer.cut(data):
                said = parse(raw).data
                if said and said != b"[DONE]":
                    yield msgspec.json.decode(said)
    finally:
        await answer.close()


def _as_dict(error: Exception) -> dict[str, Json]:
    """Whatever went wrong, as plain values: a job without this code could not unpickle a class of ours."""
    if not isinstance(error, PenstockError):
        _logger.error("a call over a handle failed", exc_info=error)
        error = PenstockError("internal error; the log has it")
    return DIALECTS[_CHAT].write_error(error)
