"""Calls over a Ray handle: plain dicts in, plain dicts out, for jobs that do not have this code.

Above it: `gateway`. Below it: `pipelines`. Outside it: Ray.
"""

import uuid
from collections.abc import AsyncGenerator, Callable

import msgspec

from pipelines.calls import Answering, Call, Caller, Lane
from pipelines.conversation import Json
from pipelines.dialects import DIALECTS
from pipelines.dialects.sse import Framer, parse
from pipelines.errors import BadRequest, PenstockError

_CHAT = "openai_chat"


def call_from_body(body: Json, caller: Caller, lane: Lane) -> Call:
    """A chat completion body as a call. Raises BadRequest."""
    if not isinstance(body, dict):
        raise BadRequest("the body must be a dict")
    return Call(uuid.uuid4().hex, _CHAT, body, DIALECTS[_CHAT].read_request(body), caller, lane)


async def answer_as_dicts(answering: Answering, make: Callable[[], Call]) -> AsyncGenerator[dict[str, Json], None]:
    """The chunks of a streamed answer; an error, whenever it comes, is a last `{"error": {…}}`."""
    try:
        answer = await answering.answer(make())
    except PenstockError as error:
        yield DIALECTS[_CHAT].write_error(error)
        return
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


async def answer_as_dict(answering: Answering, make: Callable[[], Call]) -> dict[str, Json]:
    """A whole answer, or `{"error": {…}}`."""
    try:
        answer = await answering.answer(make())
    except PenstockError as error:
        return DIALECTS[_CHAT].write_error(error)
    try:
        whole: dict[str, Json] = msgspec.json.decode(answer.body)
        return whole
    finally:
        await answer.close()
