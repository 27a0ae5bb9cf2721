"""How far one request's loop may go, and how far it has gone.

Above it: `loop`. Below it: `conversation`. Outside it: the clock; times are arguments, in seconds.
"""

from typing import Literal

import msgspec

from pipelines.conversation import Usage

Limit = Literal["turns", "calls", "repeats", "mistakes", "seconds", "cost"]
"""What a loop can be ended by."""


class Limits(msgspec.Struct, frozen=True, omit_defaults=True):
    """The limits of one request.

    turns: answers of models; calls: of tools that run here; parallel: of them at the same time; call_seconds: of one
    call, which the tool's own limit may make less; seconds: of the whole loop; cost: US dollars of all turns, None for
    no limit; result: bytes of one result's text that the model is shown, the tool's own limit likewise; data: bytes of
    pictures and files, in base64, of all results together, which every later turn sends again; repeats: the same call
    with the same arguments that often ends the loop, and is not run; mistakes: bad calls that the model may make.
    """

    turns: int = 10
    calls: int = 32
    parallel: int = 8
    call_seconds: float = 30.0
    seconds: float = 600.0
    cost: float | None = None
    result: int = 65_536
    data: int = 8 * 1024 * 1024
    repeats: int = 3
    mistakes: int = 2


class Tally(msgspec.Struct, omit_defaults=True):
    """How far it has gone; it is kept with a call that waits for approval, so that waiting wins nothing.

    repeats: by the call's fingerprint; parts: of all turns, which is the index of the next one; seconds, cost: before
    the last wait; data: bytes of pictures and files that the model is shown; ids: of every call so far.
    """

    turns: int = 0
    calls: int = 0
    mistakes: int = 0
    repeats: dict[str, int] = {}
    parts: int = 0
    seconds: float = 0.0
    cost: float = 0.0
    data: int = 0
    ids: set[str] = set()
    usages: list[Usage] = []

    def mistake(self, limits: Limits) -> Limit | None:
        """One more bad call."""
        self.mistakes += 1
        return "mistakes" if self.mistakes > limits.mistakes else None

    def call(self, fingerprint: str, limits: Limits) -> Limit | None:
        """One more good call; the limit that forbids it to be run, if one does."""
        self.repeats[fingerprint] = count = self.repeats.get(fingerprint, 0) + 1
        if count >= limits.repeats:
            return "repeats"
        if self.calls >= limits.calls:
            return "calls"
        self.calls += 1
        return None

    def unique(self, call_id: str) -> str:
        """An id that no call of this loop has had: some servers count from 0 in every turn, or give none."""
        own, number = call_id or f"call_{self.turns}", 1
        while own in self.ids:
            number += 1
            own = f"{call_id or 'call'}_{self.turns}_{number}"
        self.ids.add(own)
        return own


def total(usages: list[Usage]) -> Usage | None:
    """The tokens of all turns; the cost is known only if each one's is. None where no provider counted."""
    if not usages:
        return None
    costs = [usage.cost for usage in usages if usage.cost is not None]
    sums = {
        name: sum(getattr(usage, name) for usage in usages)
        for name in ("input", "output", "cached_read", "cache_write", "reasoning", "cache_write_long", "input_audio",
                     "output_audio", "searches")
    }  # fmt: skip
    return Usage(
        **sums,
        cost=sum(costs) if len(costs) == len(usages) else None,
        estimated=any(usage.estimated for usage in usages),
        tier=usages[-1].tier,
    )
