"""Runs the migrations on a connection that is given (`attributes["connection"]`); alembic executes this file.

Above it: `actors.money.ledger_store`. Below it: alembic, `actors.money.ledger_tables`.
"""

from alembic import context

from actors.money.ledger_tables import METADATA, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
    # SQLite changes a table by copying it.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
