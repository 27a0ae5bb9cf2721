"""How many replicas a deployment should have, by the streams that they have in flight.

Serve pickles this module by value and loads it in its controller, which runs without our code: it imports nothing of
ours. Serve's own policy counts only what comes through its ingress and handles, and so misses the own listeners; this
one sums what every replica says by `record_autoscaling_stats`. Bounds and delays are Serve's, around the policy
(`ray.serve.autoscaling_policy._apply_autoscaling_config`, 2.60).

Above it: `app` names it in the autoscaling configuration. Below it: the standard library. Outside it: which replica
leaves, and how (`replica`).
"""

import math
from typing import Any

IN_FLIGHT = "in_flight"
"""The name under which a replica tells its streams."""

SLACK = 0.1
"""Share of the target by which one replica fewer must still have room: the edge is not crossed to and fro."""


def wanted(in_flight: float, target: float, now: int) -> int:
    """Replicas, 1 at least, for so many streams, `target` on each, where there are `now`.

    Up as soon as it is too much; down only where what is left has room to spare (hysteresis).
    """
    up = max(1, math.ceil(in_flight / target))
    if up >= now:
        return up
    down = max(1, math.ceil(in_flight / (target * (1 - SLACK))))
    return min(down, now)


def by_streams_in_flight(context: Any) -> tuple[int, dict[str, Any]]:
    """Serve's policy function: an `AutoscalingContext` in, the wanted number of replicas and no state out.

    A replica that has not told yet (it or the controller has just started) may hold anything: until it does nothing
    is taken away.
    """
    told = context.raw_metrics.get(IN_FLIGHT, {})
    latest = [series[-1].value for replica, series in told.items() if series and replica in context.running_replicas]
    now = context.target_num_replicas
    number = wanted(sum(latest), context.config.target_ongoing_requests, now)
    if len(latest) < len(context.running_replicas):
        number = max(number, now)
    return number, {}
