"""What we compute beside what providers say: every recorded exchange that reports a cost, as a table.

Priced as of the day of the recording. Where the provider says apart what the tokens alone cost (`cost_details`), that
is compared: fees for reading a file, say, are in no price list.

    python -m bench.prices

Above it: whoever runs it, `tests/actors/test_price_list.py`. Below it: the recordings, `actors.price_list`.
"""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from actors.price_list import PriceList
from pipelines.conversation import Usage
from pipelines.dialects import WIRES
from pipelines.dialects.base import Wire
from pipelines.errors import PenstockError
from pipelines.events import Event, Finished, Started
from pipelines.pricing import Cost, cost_of, dollars
from tests.recordings import Recording, shared

SELLERS = {"openrouter": "openrouter", "vercel-gateway": "openrouter"}
"""By which of the list's providers a recording's is priced; Vercel's gateway takes over the vendors' prices."""

TOLERANCE = 0.01


class Line(NamedTuple):
    """One exchange: what it used, what the provider said of the cost, and what we say."""

    name: str
    model: str
    usage: Usage
    said: Cost
    computed: Cost

    @property
    def deviation(self) -> float | None:
        """Of the computed cost, relative to the one that was said; None where either is not known."""
        if self.said.nano is None or self.computed.nano is None:
            return None
        return abs(self.computed.nano - self.said.nano) / max(self.said.nano, 1)


def lines() -> Iterator[Line]:
    """One for each recorded answer whose usage has a cost."""
    prices = PriceList()
    for recording in shared():
        if "cost_in_usage" not in recording.features or recording.status != 200:
            continue
        found = _answered(recording)
        if found is None:
            continue
        model, usage, at = found
        computed = Cost(None, "unknown")
        for seller, name in ((SELLERS.get(recording.provider, ""), model), ("", model.rpartition("/")[2])):
            rates = prices.rates(seller, "", name, usage.tier, at)
            if rates is not None:
                computed = cost_of(msgspec.structs.replace(usage, cost=None), rates)
                break
        yield Line(recording.name, model, usage, cost_of(usage, None), computed)


def _answered(recording: Recording) -> tuple[str, Usage, float] | None:
    """A recorded answer's model, usage and time; None for what is no answer (a list of models)."""
    wire = WIRES["openai_responses" if recording.path.endswith("/responses") else "openai_chat"]
    try:
        events = _events(wire, recording)
    except PenstockError:
        return None
    started = next((event for event in events if isinstance(event, Started)), Started())
    usage = next((event.usage for event in events if isinstance(event, Finished)), None)
    if usage is None or usage.cost is None:
        return None
    details = (usage.raw or {}).get("cost_details") or {}
    parts = [details.get(f"upstream_inference_{part}_cost") for part in ("prompt", "completions")]
    if all(isinstance(part, float) for part in parts):
        usage = msgspec.structs.replace(usage, cost=sum(parts))
    return started.model, usage, float(started.created)


def _events(wire: Wire, recording: Recording) -> list[Event]:
    if not recording.streaming:
        return wire.read_answer(recording.body)
    decoder = wire.decoder()
    return decoder.feed(recording.body) + ([] if decoder.done else decoder.close())


def _figure(cost: Cost) -> str:
    return "unknown" if cost.nano is None else f"{dollars(cost.nano):.6f}"


def main() -> None:
    """Print the table."""
    print(f"{'recording':<88} {'model':<34} {'said $':>10} {'ours $':>10} {'off':>7}")
    for line in lines():
        off = "" if line.deviation is None else f"{line.deviation:.1%}"
        print(f"{line.name:<88} {line.model:<34} {_figure(line.said):>10} {_figure(line.computed):>10} {off:>7}")


if __name__ == "__main__":
    main()
