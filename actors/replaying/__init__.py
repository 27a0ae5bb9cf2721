"""The replays actor: stored answers by `Idempotency-Key`, and a replica's side of it."""
