"""The callers' keys.

Above it: `actors.money.migrations`. Below it: alembic, sqlalchemy.
"""

from alembic import op
from sqlalchemy import BigInteger, Column, Float, Text

revision = "0003"
down_revision: str | None = "0002"


def upgrade() -> None:
    """Make the table and its indexes."""
    op.create_table(
        "keys",
        Column("id", Text, primary_key=True),
        Column("name", Text, nullable=False),
        Column("hash", Text, nullable=False),
        Column("old_hash", Text, nullable=False),
        Column("old_until", Float(53), nullable=False),
        Column("created", Float(53), nullable=False),
        Column("revoked", Float(53)),
        Column("changed", BigInteger, nullable=False),
        Column("settings", Text, nullable=False),
    )
    op.create_index("keys_by_hash", "keys", ["hash"], unique=True)


def downgrade() -> None:
    """Take the table away, and with it every key."""
    op.drop_table("keys")
