"""One module for each version of the ledger's schema; a released one is never changed.

Above it: `actors.money.migrations`. Below it: alembic.
"""
