"""Penstock on several machines: `python -m tests.nodes [name …]`, or `make nodes`.

Each machine is a network namespace with an address of its own (ip-netns(8), veth(4)), its own Ray node, state directory
and ports, on one bridge with the callers. A machine dies by SIGKILL to all its processes; it is cut off by taking its
link down. Needs root, `ip`, and for two scenarios PostgreSQL and Redis from the distribution.

Not part of `make test`: it takes minutes, and says how long things took.
"""
