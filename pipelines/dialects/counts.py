"""What a provider's count may be, and what it says that an answer cost, whichever dialect it is written in.

Sources of the cost: OpenRouter, "Usage accounting" (`cost`; with a key of one's own, `is_byok`, that is its fee alone,
and `cost_details.upstream_inference_cost` is what the vendor takes); Perplexity (`cost.total_cost`); xAI
(`cost_in_usd_ticks`); DeepInfra (`estimated_cost`).

Above it: the dialects' token counts. Below it: `conversation`.
"""

from pipelines.conversation import Json

LARGEST = 2**53
"""A count beyond it is none: no database takes it, and JSON's numbers are exact up to here only."""

TICKS = 10_000_000_000
"""xAI's units of cost in a US dollar, as its API reference has it."""


def count(value: Json) -> int:
    """What a provider wrote as a count; 0 for anything but a number from 0 to `LARGEST`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST:
        return 0
    return int(value)


def reported_cost(usage: dict[str, Json]) -> float | None:
    """US dollars that an answer cost by its provider's own word; None where it says none."""
    cost = usage.get("cost")
    if isinstance(cost, dict):
        return _amount(cost.get("total_cost"))
    said = _amount(cost)
    if usage.get("is_byok") is True:
        details = usage.get("cost_details")
        upstream = _amount(details.get("upstream_inference_cost")) if isinstance(details, dict) else None
        return None if upstream is None else (said or 0.0) + upstream
    if said is not None:
        return said
    ticks = _amount(usage.get("cost_in_usd_ticks"))
    return _amount(usage.get("estimated_cost")) if ticks is None else ticks / TICKS


def _amount(value: Json) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST:
        return None
    return float(value)
