"""A request's first attempt stands in its row, if it gave the answer; the view has all attempts.

Above it: `actors.money.migrations`. Below it: alembic, sqlalchemy.
"""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column, Float, Integer, Text

revision = "0006"
down_revision: str | None = "0005"

_COLUMNS = (
    "id", "time", "request_id", "key", "tag", "task", "provider", "model", "answered", "input", "cached_read",
    "cache_write", "output", "reasoning", "estimated", "cost", "currency", "basis", "prices", "queued", "first_output",
    "seconds", "tokens_per_second", "outcome", "retries", "provisional", "request", "role", "skipped",
)  # fmt: skip

# SQLite reads both halves of the view in order, and sorts nothing, only where their columns have the same affinity.
_RATE = (
    "CAST(CASE WHEN output > 0 AND attempt_seconds > attempt_first_output "
    "THEN output / (attempt_seconds - attempt_first_output) END AS FLOAT)"
)
_ROLE = "CAST('first' AS TEXT)"

_ADDED: tuple[Column[Any], ...] = (
    Column("attempt", Text),
    *(Column(f"attempt_{name}", Float(53)) for name in ("queued", "first_output", "seconds")),
    Column("attempt_outcome", Text),
    Column("attempt_skipped", Integer),
)

_ONCE = {
    "ledger_further_attempts": "SELECT 1 FROM ledger_requests WHERE id = NEW.request AND attempt = NEW.id",
    "ledger_requests": "SELECT 1 FROM ledger_further_attempts WHERE id = NEW.attempt",
}
"""Where else the attempt of a table's new row may stand."""

_TRIGGERS = {
    "sqlite": (
        "CREATE TRIGGER {table}_once BEFORE INSERT ON {table} WHEN EXISTS ({other}) "
        "BEGIN SELECT RAISE(ABORT, 'the attempt has a row'); END",
    ),
    "postgresql": (
        "CREATE FUNCTION {table}_once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF EXISTS ({other}) THEN "
        "RAISE unique_violation USING MESSAGE = 'the attempt has a row'; END IF; RETURN NEW; END $$",
        "CREATE TRIGGER {table}_once BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_once()",
    ),
}
_NO_TRIGGERS = {
    "sqlite": ("DROP TRIGGER {table}_once",),
    "postgresql": ("DROP TRIGGER {table}_once ON {table}", "DROP FUNCTION {table}_once"),
}


def upgrade() -> None:
    """Add the columns; the table of attempts gets another name, and the view its old one."""
    for column in _ADDED:
        op.add_column("ledger_requests", Column(column.name, column.type))
    op.rename_table("ledger_attempts", "ledger_further_attempts")
    op.execute(f"CREATE VIEW ledger_attempts AS {_select(_COLUMNS, 'ledger_further_attempts')} UNION ALL {_first()}")
    _each(_TRIGGERS)
    # No request's row up to here has an attempt: whoever takes old ones out begins behind it.
    last = op.get_bind().execute(sa.text("SELECT max(id) FROM ledger_requests")).scalar()
    if last is not None:
        states = sa.table("ledger_states", *(sa.column(name) for name in ("owner", "name", "data")))
        op.execute(states.insert().values(owner="ledger", name="attempts", data=last.encode()))


def downgrade() -> None:
    """Give each attempt a row of its own again."""
    op.execute("DELETE FROM ledger_states WHERE owner = 'ledger'")
    _each(_NO_TRIGGERS)
    op.execute(f"INSERT INTO ledger_further_attempts ({', '.join(_COLUMNS)}) {_first()}")
    op.execute("DROP VIEW ledger_attempts")
    op.rename_table("ledger_further_attempts", "ledger_attempts")
    for column in _ADDED:
        op.drop_column("ledger_requests", column.name)


def _each(words: dict[str, tuple[str, ...]]) -> None:
    for table, other in _ONCE.items():
        for statement in words[op.get_context().dialect.name]:
            op.execute(statement.format(table=table, other=other))


def _first() -> str:
    """The attempts that stand in requests' rows."""
    own = {
        **{name: f"attempt_{name}" for name in ("queued", "first_output", "seconds", "outcome", "skipped")},
        "tokens_per_second": _RATE,
        "request": "id",
        "role": _ROLE,
    }
    words = [f"{own[name]} AS {name}" if name in own else name for name in _COLUMNS]
    return f"{_select(words, 'ledger_requests')} WHERE attempt IS NOT NULL"


def _select(columns: Iterable[str], table: str) -> str:
    return f"SELECT {', '.join(columns)} FROM {table}"
