"""The ledger actor and all that it keeps: rows, keys and their allowances; and the prices."""
