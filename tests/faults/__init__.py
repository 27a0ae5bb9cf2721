"""`make faults` and `make soak`: a whole Penstock on real Ray against providers, callers and processes that fail.

    python -m tests.faults [faults|caller|ray|soak|audit|all] [--only NAME] [--quick] [--keep DIRECTORY]

Each part starts its own Penstock as `make serve` would, with a misbehaving upstream in a process of its own, and
prints a line a case as it goes; the exit code is 1 where a case failed or a rule was violated.

Above it: the Makefile. Below it: `tests.cluster.running`, `tests.upstream`, `tests.clients`, `bench.upstream`.
Outside it: what pytest runs.
"""
