"""OpenAI Responses, put together from the readers and writers of this package.

A relayed body keeps the caller's own `store`: where he left it out the provider's default holds, for forcing
`store: false` would make ids of reasoning useless that he may send back.

Above it: `pipelines.dialects`. Below it: every other module of this package, and OpenAI's error bodies, which the
chat dialect reads and writes.
"""

import re

from pipelines.conversation import Json
from pipelines.dialects.base import Dialect
from pipelines.dialects.openai_chat import failures
from pipelines.dialects.openai_responses.decoder import ResponsesDecoder, read_answer
from pipelines.dialects.openai_responses.encoder import ResponsesEncoder
from pipelines.dialects.openai_responses.input_writer import add_user_turn, relay_request
from pipelines.dialects.openai_responses.opaque import NAME
from pipelines.dialects.openai_responses.output import write_answer
from pipelines.dialects.openai_responses.request_reader import read_request
from pipelines.dialects.openai_responses.request_writer import unforced, write_request

TELLING = re.compile(
    rb"\A(?!(?:(?:event: ?response\.[a-z_]+\.delta(?:\r\n|\n|\r)data:"
    rb'|data: ?\{"type": ?"response\.[a-z_]+\.delta")[^\r\n]*+(?:\r\n|\n|\r)*+)+\Z)'
)
"""Matches whatever is not deltas and nothing else; written so that a delta costs one pass at the speed of C."""


def set_cost(event: dict[str, Json], cost: float | None) -> bool:
    """See `base.Dialect.set_cost`: the member `penstock` of the response that has ended; clients pass it over."""
    response = event.get("response")
    if event.get("type") not in ("response.completed", "response.incomplete") or not isinstance(response, dict):
        return False
    response["penstock"] = {**(response.get("penstock") or {}), "cost": cost}
    return True


OPENAI_RESPONSES = Dialect(
    name=NAME,
    path="/responses",
    sentinel=b"",
    last=re.compile(rb'"type": ?"response\.(?:completed|incomplete)"[^\n]*\s*\Z'),
    telling=TELLING,
    read_request=read_request,
    encoder=ResponsesEncoder,
    write_answer=write_answer,
    write_error=failures.write_error,
    add_user_turn=add_user_turn,
    relay_request=relay_request,
    write_request=write_request,
    decoder=ResponsesDecoder,
    read_answer=read_answer,
    read_error=failures.read_error,
    unforced=unforced,
    set_cost=set_cost,
)
