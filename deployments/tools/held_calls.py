"""Conversations that wait until a person has decided about a call of a tool, kept in the ledger's database.

Above it: `tool_lane`, `approval_pages`. Below it: `actors.money.ledger_client`, `pipelines.tools.approvals`. Outside
it: who may decide, and going on.
"""

import secrets
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from actors.money.ledger_client import LedgerClient
from pipelines.calls import Decision
from pipelines.conversation import Json
from pipelines.errors import BadRequest
from pipelines.ledger_questions import Held, Waiting
from pipelines.tools import approvals
from pipelines.tools.approvals import Conversation
from pipelines.tools.redaction import Redactor

_found = msgspec.msgpack.Decoder(list[Held])


class Kept(NamedTuple):
    """A conversation that waits, and whose it is."""

    key: str
    conversation: Conversation


class HeldCalls:
    """lifetime: seconds that one waits. Times are in seconds since 1970. Everything raises Overloaded (503) where the
    ledger is away.
    """

    def __init__(self, ledger: LedgerClient, lifetime: float) -> None:
        self._ledger = ledger
        self._lifetime = lifetime

    async def keep(self, key: str, conversation: Conversation, redactor: Redactor, now: float) -> dict[str, Json]:
        """Keep it, durably; what the caller is told."""
        identity = f"appr_{secrets.token_urlsafe(24)}"
        expires = now + self._lifetime
        shown = datetime.fromtimestamp(expires, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        told = approvals.told(identity, conversation.paused, shown, redactor)
        held = Held(id=identity, key=key, expires=expires, told=told, conversation=approvals.encode(conversation))
        await self._ledger.report(msgspec.msgpack.encode(held))
        return told

    async def find(self, identity: str, key: str, now: float) -> Kept:
        """The one of that id. key: whose it must be; "" for anybody's. Raises BadRequest (404)."""
        return await self._one(Waiting(now=now, id=identity, key=key))

    async def take(self, decision: Decision, now: float) -> Conversation:
        """The one that is decided: nobody can take it again. Raises BadRequest (404)."""
        return (await self._one(Waiting(now=now, id=decision.id, key=decision.key, take=True))).conversation

    async def pending(self, key: str, now: float) -> list[dict[str, Json]]:
        """What is shown of all that wait. key: of one key; "" for all."""
        return [held.told for held in await self._asked(Waiting(now=now, key=key))]

    async def _one(self, question: Waiting) -> Kept:
        found = await self._asked(question)
        if not found:
            message = "nothing waits under this id: it was decided, has expired, or never was"
            raise BadRequest(message, status=404, code="approval_not_found")
        return Kept(found[0].key, approvals.decode(found[0].conversation))

    async def _asked(self, question: Waiting) -> list[Held]:
        return _found.decode(await self._ledger.report(msgspec.msgpack.encode(question)))
