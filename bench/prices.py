"""What we compute beside what providers say: every recorded exchange that reports a cost, as a table.

Priced as of the day of the recording. Where the provider says apart what the tokens alone cost (`cost_details`), that
is compared: fees for reading a file, say, are in no price list.

A line that is off says why: OpenRouter may have another host answer than the one whose price it lists, and a price list
has one price a model. What the host charged for a token follows from the parts of the cost; where it is not that of the
list, the price of this answer is not known. With a real request that does not matter: what the provider says wins.

    python -m bench.prices

Above it: whoever runs it, `tests/actors/test_price_list.py`. Below it: the recordings, `actors.money.price_list`.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from actors.money.price_list import PriceList
from pipelines.conversation import Usage
from pipelines.dialects import WIRES
from pipelines.dialects.base import Wire
from pipelines.errors import PenstockError
from pipelines.events import Event, Finished, Started
from pipelines.pricing import PICO_PER_DOLLAR, Cost, Rates, cost_of, dollars
from tests.recordings import Recording, shared

SELLERS = {"openrouter": "openrouter", "vercel-gateway": "openrouter"}
"""By which of the list's providers a recording's is priced; Vercel's gateway takes over the vendors' prices."""

TOLERANCE = 0.01

_HOST = re.compile(rb'"provider": ?"([^"]+)"')
"""Who answered, in OpenRouter's answers."""


class Line(NamedTuple):
    """One exchange: what it used, what the provider said of the cost, and what we say. host: who answered, "" where
    nobody says.
    """

    name: str
    model: str
    usage: Usage
    said: Cost
    computed: Cost
    rates: Rates | None = None
    host: str = ""

    @property
    def deviation(self) -> float | None:
        """Of the computed cost, relative to the one that was said; None where either is not known."""
        if self.said.nano is None or self.computed.nano is None:
            return None
        return abs(self.computed.nano - self.said.nano) / max(self.said.nano, 1)

    @property
    def verdict(self) -> str:
        """Why there is nothing to compare, or why it is off; "" where all is well."""
        if self.deviation is None:
            return "the list has no price"
        if self.deviation <= TOLERANCE:
            return ""
        charged, listed = self._charged(), self._listed()
        if self.host and charged and listed and charged != listed:
            return f"another host's price: {self.host} charged ${charged} a million tokens, the list has ${listed}"
        return "WRONG"

    def _charged(self) -> str:
        """Dollars for a million tokens of input and of output, by what the provider says; "" where that is unclear."""
        prompt, completion = _parts(self.usage)
        plain = not (self.usage.cached_read or self.usage.cache_write)
        if prompt is None or completion is None or not (plain and self.usage.input and self.usage.output):
            return ""
        return f"{prompt / self.usage.input * 1e6:.3f} / {completion / self.usage.output * 1e6:.3f}"

    def _listed(self) -> str:
        if self.rates is None or self.rates.input is None or self.rates.output is None:
            return ""
        each = (rate.at(self.usage.input) * 1e6 / PICO_PER_DOLLAR for rate in (self.rates.input, self.rates.output))
        return " / ".join(f"{price:.3f}" for price in each)


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
        computed, rates = Cost(None, "unknown"), None
        for seller, name in ((SELLERS.get(recording.provider, ""), model), ("", model.rpartition("/")[2])):
            rates = prices.rates(seller, "", name, usage.tier, at)
            if rates is not None:
                computed = cost_of(msgspec.structs.replace(usage, cost=None), rates)
                break
        host = _HOST.search(recording.body)
        said = cost_of(usage, None)
        yield Line(recording.name, model, usage, said, computed, rates, host[1].decode() if host else "")


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
    prompt, completion = _parts(usage)
    if prompt is not None and completion is not None:
        usage = msgspec.structs.replace(usage, cost=prompt + completion)
    return started.model, usage, float(started.created)


def _parts(usage: Usage) -> tuple[float | None, float | None]:
    """What the tokens of question and answer cost in dollars, where the provider says so."""
    details = (usage.raw or {}).get("cost_details") or {}
    prompt, completion = (details.get(f"upstream_inference_{part}_cost") for part in ("prompt", "completions"))
    return (prompt, completion) if isinstance(prompt, float) and isinstance(completion, float) else (None, None)


def _events(wire: Wire, recording: Recording) -> list[Event]:
    if not recording.streaming:
        return wire.read_answer(recording.body)
    decoder = wire.decoder()
    return decoder.feed(recording.body) + ([] if decoder.done else decoder.close())


def _figure(cost: Cost) -> str:
    return "unknown" if cost.nano is None else f"{dollars(cost.nano):.6f}"


def main() -> None:
    """Print the table, and its sum."""
    every = list(lines())
    print(f"{'recording':<102} {'model':<36} {'said $':>10} {'ours $':>10} {'off':>6}")
    for line in every:
        off = "" if line.deviation is None else f"{line.deviation:.1%}"
        told = f"{line.name:<102} {line.model:<36} {_figure(line.said):>10} {_figure(line.computed):>10} {off:>6}"
        print(f"{told}  {line.verdict}".rstrip())
    good = [line for line in every if line.deviation is not None and not line.verdict]
    wrong = [line for line in every if line.verdict == "WRONG"]
    unlisted = sum(line.deviation is None for line in every)
    others = len(every) - unlisted - len(good) - len(wrong)
    print(f"{len(every)} exchanges report a cost: of {unlisted} the list has no price, {others} had another host's;")
    print(f"of the other {len(good) + len(wrong)} {len(good)} agree within {TOLERANCE:.0%} and {len(wrong)} do not")


if __name__ == "__main__":
    main()
