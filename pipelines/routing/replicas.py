"""Which replica of a provider gets the request: the less loaded of two drawn at random.

Source: M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS 12(10), 2001: two
draws bring the longest queue from O(log n / log log n) down to O(log log n), and unlike "the least loaded of all"
many gateways with the same stale table do not run to the same replica at once.

Above it: the gateway. Below it: `table`. Outside it: which provider (`choose`).
"""

from collections.abc import Callable, Mapping

from pipelines.routing.table import ProviderEntry, ReplicaEntry

UNKNOWN_LIMIT = 100
"""Concurrent requests that a replica is taken to bear when it names no limit."""


def load(replica: ReplicaEntry, own: int) -> float:
    """Share of the replica's limit in use, as it last said, and what this gateway has sent it (`own`)."""
    return (replica.in_flight + replica.queued + own) / (replica.limit or UNKNOWN_LIMIT)


def pick(
    entry: ProviderEntry,
    random: Callable[[], float],
    avoid: frozenset[str] = frozenset(),
    own: Mapping[str, int] | None = None,
) -> ReplicaEntry | None:
    """The replica to ask, or None where there is none outside `avoid` (replica names).

    random gives numbers in [0, 1); own is what this gateway has in flight at each replica, by its name.
    """
    able = [replica for replica in entry.replicas if replica.replica not in avoid]
    if not able:
        return None
    first = int(random() * len(able))
    if len(able) == 1:
        return able[0]
    second = (first + 1 + int(random() * (len(able) - 1))) % len(able)
    one, other = able[first], able[second]
    counts = own or {}
    if load(other, counts.get(other.replica, 0)) < load(one, counts.get(one.replica, 0)):
        return other
    return one
