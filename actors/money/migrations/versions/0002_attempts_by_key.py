"""An index that finds the attempts of one key by time.

Above it: `actors.money.migrations`. Below it: alembic.
"""

from alembic import op

revision = "0002"
down_revision: str | None = "0001"


def upgrade() -> None:
    """Make the index."""
    op.create_index("ledger_attempts_by_key", "ledger_attempts", ["key", "time"])


def downgrade() -> None:
    """Take it away."""
    op.drop_index("ledger_attempts_by_key", "ledger_attempts")
