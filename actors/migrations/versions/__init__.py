"""One module for each version of the ledger's schema; a released one is never changed.

Above it: `actors.migrations`. Below it: alembic.
"""
