"""The first tables: requests, attempts, sums by the hour, reservations.

Above it: `actors.money.migrations`. Below it: alembic, sqlalchemy.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, LargeBinary, Text

revision = "0001"
down_revision: str | None = None


def _common() -> list[Column[Any]]:
    texts = ("request_id", "key", "tag", "task", "provider", "model", "answered")
    counts = ("input", "cached_read", "cache_write", "output", "reasoning")
    return [
        Column("id", Text, primary_key=True),
        Column("time", Float(53), nullable=False),
        *(Column(name, Text, nullable=False) for name in texts),
        *(Column(name, BigInteger, nullable=False) for name in counts),
        Column("estimated", Boolean, nullable=False),
        Column("cost", BigInteger),
        Column("currency", Text, nullable=False),
        Column("basis", Text, nullable=False),
        Column("prices", Text, nullable=False),
        Column("queued", Float(53), nullable=False),
        Column("first_output", Float(53)),
        Column("seconds", Float(53), nullable=False),
        Column("tokens_per_second", Float(53)),
        Column("outcome", Text, nullable=False),
        Column("retries", Integer, nullable=False),
        Column("provisional", Boolean, nullable=False),
    ]


def upgrade() -> None:
    """Make the tables and their indexes."""
    op.create_table(
        "ledger_requests",
        *_common(),
        *(Column(name, Text, nullable=False) for name in ("lane", "dialect", "operation", "asked", "route")),
        Column("stream", Boolean, nullable=False),
        Column("metadata", Text, nullable=False),
        Column("status", Integer, nullable=False),
        Column("received", BigInteger, nullable=False),
        Column("sent", BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "ledger_attempts",
        *_common(),
        Column("request", Text, nullable=False),
        Column("role", Text, nullable=False),
        Column("skipped", Integer, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ledger_requests_by_key", "ledger_requests", ["key", "time"])
    op.create_index("ledger_requests_by_request_id", "ledger_requests", ["request_id"])
    op.create_index("ledger_attempts_by_request", "ledger_attempts", ["request"])
    groups = ("key", "tag", "task", "provider", "model")
    sums = (
        "requests", "failed", "attempts", "estimated", "unknown_cost", "input", "cached_read", "cache_write", "output",
        "reasoning", "cost", "sent",
    )  # fmt: skip
    op.create_table(
        "ledger_hours",
        Column("hour", Integer, nullable=False),
        *(Column(name, Text, nullable=False) for name in groups),
        *(Column(name, BigInteger, nullable=False) for name in sums),
        sa.PrimaryKeyConstraint("hour", *groups),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "ledger_reservations",
        Column("id", Text, primary_key=True),
        Column("reporter", Text, nullable=False),
        Column("row", LargeBinary, nullable=False),
    )


def downgrade() -> None:
    """Take the tables away, and with them everything in them."""
    for table in ("reservations", "hours", "attempts", "requests"):
        op.drop_table(f"ledger_{table}")
