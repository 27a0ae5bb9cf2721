"""What other actors keep in the ledger's database: pieces of bytes, by owner and name.

Above it: `ledger`. Below it: `ledger_tables`, sqlalchemy. Outside it: what the bytes mean.
"""

from collections.abc import Mapping

from sqlalchemy import Connection, delete, insert, select

from actors.money.ledger_tables import STATES


def put(connection: Connection, owner: str, pieces: Mapping[str, bytes]) -> None:
    """Put pieces in the place of those of the same names; an empty one takes the old one away."""
    columns = STATES.c
    for name in sorted(pieces):
        connection.execute(delete(STATES).where(columns.owner == owner, columns.name == name))
        if pieces[name]:
            connection.execute(insert(STATES).values(owner=owner, name=name, data=pieces[name]))


def pieces_of(connection: Connection, owner: str) -> dict[str, bytes]:
    """All pieces of an owner."""
    found = connection.execute(select(STATES.c.name, STATES.c.data).where(STATES.c.owner == owner))
    return {name: bytes(data) for name, data in found}
