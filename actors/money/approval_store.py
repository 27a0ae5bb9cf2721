"""Calls of tools that wait for a person, in the ledger's database: there they outlive every replica.

A row holds text of the conversation. It goes as soon as it is decided, has expired, or its key's rows are erased.

Above it: `ledger_answers`. Below it: `ledger_tables`. Outside it: who may decide; what a conversation is.
"""

import msgspec
from sqlalchemy import Connection, delete, insert, select

from actors.money.ledger_tables import APPROVALS
from pipelines.ledger_questions import Held, Waiting

MOST = 100
"""Calls of one key that wait; older ones give way."""

_held = msgspec.msgpack.Decoder(Held)


def keep(held: Held, connection: Connection) -> bytes:
    """Keep one; it says so when it is durable. One that is there already stays."""
    known = connection.execute(select(APPROVALS.c.id).where(APPROVALS.c.id == held.id)).first()
    if known is None:
        own = APPROVALS.c.key == held.key
        older = select(APPROVALS.c.id).where(own).order_by(APPROVALS.c.expires.desc()).offset(MOST - 1)
        gone = list(connection.execute(older.limit(MOST)).scalars())
        connection.execute(delete(APPROVALS).where(APPROVALS.c.id.in_(gone)))
        row = {"id": held.id, "key": held.key, "expires": held.expires, "held": msgspec.msgpack.encode(held)}
        connection.execute(insert(APPROVALS).values(row))
    return b""


def waiting(question: Waiting, connection: Connection) -> list[Held]:
    """Those that are asked for. What has expired is taken out."""
    connection.execute(delete(APPROVALS).where(APPROVALS.c.expires <= question.now))
    asked = select(APPROVALS.c.held).order_by(APPROVALS.c.expires)
    if question.key:
        asked = asked.where(APPROVALS.c.key == question.key)
    if not question.id:
        found = (_held.decode(row) for row in connection.execute(asked).scalars())
        return [msgspec.structs.replace(held, conversation=b"") for held in found]
    mine = APPROVALS.c.id == question.id
    if not question.take:
        return [_held.decode(row) for row in connection.execute(asked.where(mine)).scalars()]
    # Of two who take it at the same time one deletes the row and has it; the other finds none.
    taken = delete(APPROVALS).where(mine)
    taken = taken.where(APPROVALS.c.key == question.key) if question.key else taken
    return [_held.decode(row) for row in connection.execute(taken.returning(APPROVALS.c.held)).scalars()]


def forget(key: str, connection: Connection) -> None:
    """Take out all of a key."""
    connection.execute(delete(APPROVALS).where(APPROVALS.c.key == key))
