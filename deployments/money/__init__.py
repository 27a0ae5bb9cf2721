"""A replica's part in the money: rows for the ledger, keys' limits, prices, and how long rows are kept."""
