"""A call that waits for a person: what is kept of it, what is shown of it, and what a decision is.

    a turn calls a tool that wants approval
      → its conversation is kept under an id that nobody can guess; the stream ends with what is shown of it
      → POST /v1/approvals/{id} {"decision": "allow"}   takes it out, once, and goes on with that very call

The decision holds for one call with exactly its arguments, of a tool that is defined as it was then.

Above it: the gateway's tool lane and its pages. Below it: `turns`. Outside it: where it is kept, clocks, chance.
"""

from collections.abc import Mapping

import msgspec

from pipelines.conversation import Json
from pipelines.errors import BadRequest
from pipelines.tools.redaction import Redactor
from pipelines.tools.results import shown
from pipelines.turns.ports import Paused

PREVIEW = 2_000
"""Bytes of the arguments that a person is shown."""


class Conversation(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that is needed to go on with an answer. body: the caller's JSON; stream: whether he wanted a stream."""

    dialect: str
    body: dict[str, Json]
    headers: dict[str, str]
    path: str
    tag: str
    paused: Paused


_decoder = msgspec.msgpack.Decoder(Conversation)
encode = msgspec.msgpack.Encoder().encode


def decode(conversation: bytes) -> Conversation:
    """What `encode` made of a conversation. Raises BadRequest (410) where another version of the code kept it."""
    try:
        return _decoder.decode(conversation)
    except msgspec.DecodeError:
        raise BadRequest("what waited was kept by another version", status=410, code="approval_gone") from None


def told(identity: str, paused: Paused, expires: str, redactor: Redactor) -> dict[str, Json]:
    """What is shown of a call that waits. expires: as RFC 3339 has it."""
    call = paused.call
    return {
        "id": identity,
        "tool": call.name,
        "call_id": call.id,
        "arguments": shown(call.arguments or "{}", PREVIEW, redactor),
        "arguments_sha256": paused.arguments,
        "expires": expires,
    }


def decided(body: Mapping[str, Json]) -> bool:
    """Whether a decision's body allows. Raises BadRequest."""
    word = body.get("decision")
    if word not in ("allow", "deny") or len(body) > 1:
        raise BadRequest('the body must be {"decision": "allow"} or {"decision": "deny"}', param="decision")
    return bool(word == "allow")
