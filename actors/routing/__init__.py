"""The router actor, what it learns and counts, and a replica's side of it."""
