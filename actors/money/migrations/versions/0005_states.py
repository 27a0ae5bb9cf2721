"""A table for what other actors keep.

Above it: `actors.money.migrations`. Below it: alembic, sqlalchemy.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision: str | None = "0004"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "ledger_states",
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("owner", "name"),
    )


def downgrade() -> None:
    """Take it away, and with it what was learned."""
    op.drop_table("ledger_states")
