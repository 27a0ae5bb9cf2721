"""Who answers which question to the ledger.

Above it: `ledger`. Below it: `approval_store`, `ledger_reports`, `ledger_browsing`, `ledger_erasing`.
Outside it: who may ask.
"""

from functools import partial
from typing import Any

import msgspec
from sqlalchemy import Connection

from actors.money.approval_store import keep, waiting
from actors.money.ledger_browsing import page, story
from actors.money.ledger_erasing import erase, expire
from actors.money.ledger_reports import report
from actors.money.ledger_store import LedgerStore
from pipelines.ledger import Question
from pipelines.ledger_questions import Erasure, Expiry, Held, Inquiry, RowsQuestion, Waiting


async def answered(store: LedgerStore, inquiry: Inquiry) -> bytes:
    """The encoded answer. Raises SQLAlchemyError or OSError where the database is away."""
    if isinstance(inquiry, Expiry):
        return msgspec.msgpack.encode(await expire(store, inquiry))
    if isinstance(inquiry, Erasure):
        return msgspec.msgpack.encode(await erase(store, inquiry))
    if isinstance(inquiry, Held):
        return await store.change(partial(keep, inquiry))
    if isinstance(inquiry, Waiting):
        return msgspec.msgpack.encode(await store.change(partial(waiting, inquiry)))
    return await store.read(partial(_read, inquiry))


def _read(inquiry: Any, connection: Connection) -> bytes:
    """Encoded where it was read: of SQLite in the reader's thread, not on the loop of those who wait for a commit."""
    if isinstance(inquiry, Question):
        return msgspec.msgpack.encode(report(connection, inquiry))
    if isinstance(inquiry, RowsQuestion):
        return msgspec.msgpack.encode(page(connection, inquiry))
    return msgspec.msgpack.encode(story(connection, inquiry))
