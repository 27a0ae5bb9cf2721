"""The ledger's schema, version by version (alembic): `versions` has one module for each, `env` runs them.

Above it: `actors.ledger_store`. Below it: alembic. Outside it: what the tables are for (`actors.ledger_tables`).
"""
