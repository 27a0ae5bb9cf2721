"""Calls of tools that ran here, and those that wait for a person.

Above it: `actors.money.migrations`. Below it: alembic, sqlalchemy.
"""

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, LargeBinary, Text

revision = "0004"
down_revision: str | None = "0003"


def upgrade() -> None:
    """Make the tables and their indexes."""
    before = ("request_id", "key", "request")
    behind = ("call", "tool", "source", "arguments", "preview", "decisions", "outcome")
    op.create_table(
        "tool_calls",
        Column("id", Text, primary_key=True),
        Column("time", Float(53), nullable=False),
        *(Column(name, Text, nullable=False) for name in before),
        Column("turn", Integer, nullable=False),
        *(Column(name, Text, nullable=False) for name in behind),
        Column("seconds", Float(53), nullable=False),
        Column("size", BigInteger, nullable=False),
        Column("cut", Boolean, nullable=False),
        Column("provisional", Boolean, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("tool_calls_by_request", "tool_calls", ["request"])
    op.create_index("tool_calls_by_key", "tool_calls", ["key", "time"])
    op.create_table(
        "approvals",
        Column("id", Text, primary_key=True),
        Column("key", Text, nullable=False),
        Column("expires", Float(53), nullable=False),
        Column("held", LargeBinary, nullable=False),
    )
    op.create_index("approvals_by_key", "approvals", ["key"])


def downgrade() -> None:
    """Take the tables away, and with them everything in them."""
    for table in ("approvals", "tool_calls"):
        op.drop_table(table)
