"""The ledger's schema, version by version (alembic): `versions` has one module for each, `env` runs them.

Above it: `actors.money.ledger_store`. Below it: alembic. Outside it: what the tables are for
(`actors.money.ledger_tables`).
"""
