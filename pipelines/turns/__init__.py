"""The loop of a request whose tools run here: route, stream, tools, again.

Above it: the gateway's tool lane. Below it: `tools`, `stages`, `events`. Outside it: routing, wires, clocks, actors.
"""

from pipelines.turns.limits import Limits, Tally, total
from pipelines.turns.loop import turns
from pipelines.turns.ports import CallRecord, Model, Paused, Resumed, Setting, unguarded

__all__ = [
    "CallRecord",
    "Limits",
    "Model",
    "Paused",
    "Resumed",
    "Setting",
    "Tally",
    "total",
    "turns",
    "unguarded",
]
