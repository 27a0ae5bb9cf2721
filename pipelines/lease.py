"""A replica's piece of a key's allowance: a request takes from it, and it is renewed before it is used up.

Of each kind two running figures are kept: what was ever used or is held (`used`), and how far that may go (`allowed`).
A request fits while it leads no figure beyond its bound. A question says what of the rest is kept, and gives the other
part back at once; its answer moves the bound on. So a renewal can be under way while requests come and go.

A pure core: `now` is an argument, in seconds of a clock that never runs back.

Above it: `actors.money.allowance_client`. Below it: `allowance`. Outside it: asking, waiting, what a request needs.
"""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from pipelines.allowance import KINDS, LEASE, NEVER, RETURN, UNLIMITED, Ask, Grant, Lack, Need, Wish
from pipelines.errors import OverBudget, OverLimit, PenstockError
from pipelines.keys import NO_BUDGET, Limits
from pipelines.pricing import in_dollars

LASTING = 2.5
"""Seconds between two questions about a key with which nothing happens."""

IDLE = 5.0
"""Seconds without a request after which a piece is given back."""

UNBILLED = 1.0
"""Seconds that a reservation is held after its request, where another replica writes the row that says the cost."""

LONGEST_NO = 5.0
"""Seconds that a refusal is repeated without asking again."""


class Figures(NamedTuple):
    """What a key's owner is told of its limits: the limit, what is left, seconds until all of it is; None: no limit."""

    limit: int
    left: int
    full: float


class _Row(NamedTuple):
    """Money of a request that is over, held until that time, and until its last row is known to be committed."""

    number: int
    until: float
    nano: int


class Lease:
    """One key's piece at one replica."""

    def __init__(self, key: str, limits: Limits, now: float) -> None:
        self.key = key
        self.limits = limits
        self.counted = _counted(limits)
        self.busy = now
        self._until = 0.0
        self._used = [0, 0, 0, 0]
        self._allowed = [UNLIMITED] * len(KINDS)
        self._held = [0, 0, 0, 0]
        self._wanted = [0, 0, 0, 0]
        self._likely = [0, 0, 0, 0]
        self._asked_at = now
        self._asked_with = [0, 0]
        self._rows: deque[_Row] = deque()
        self._stale = True
        self._left, self._full, self._told_at, self._told_with = (0, 0), (0.0, 0.0), now, [0, 0]
        self._lack: Lack = ""
        self._no_until = self._no_at = 0.0
        self._no_wait = 0.0
        self._no_need = Need()

    def change(self, limits: Limits) -> None:
        """The key has other limits now: nothing is known of what they leave."""
        self.limits = limits
        self.counted = _counted(limits)
        self._until = self._no_until = 0.0

    def take(self, need: Need, now: float) -> bool:
        """Admit a request, if it fits."""
        self.busy = now
        used, allowed, wanted = self._used, self._allowed, self._wanted
        requests, tokens, streams, money = need
        wanted[0] += requests
        wanted[1] += tokens
        wanted[2] += streams
        wanted[3] += money
        if (
            now >= self._until
            or used[0] + requests > allowed[0]
            or used[1] + tokens > allowed[1]
            or used[2] + streams > allowed[2]
            or used[3] + money > allowed[3]
        ):
            return False
        used[0] += requests
        used[1] += tokens
        used[2] += streams
        used[3] += money
        self._held[2] += streams
        self._held[3] += money
        self._stale = True
        return True

    def end(self, need: Need, tokens: int, nano: int | None, row: int, now: float) -> None:
        """A request that was admitted is over. tokens: what it used in all; nano: what it cost, None: no row here says
        so; row: the number of the last row of it.

        What was taken too much of tokens is not given back: a window that is added to twice for one request, once with
        a minus, would let the second stand when the first has gone.
        """
        if self.counted[1]:
            self._used[1] += max(0, tokens - need.tokens)
        self._used[2] -= need.streams
        self._held[2] -= need.streams
        if need.money:
            cost = need.money if nano is None else nano
            self._used[3] += cost - need.money
            self._held[3] += cost - need.money
            if cost:
                self._rows.append(_Row(row, now + UNBILLED if nano is None else now, cost))
        self._stale = True

    def refusal(self, need: Need, now: float) -> PenstockError | None:
        """What to say at once, where not long ago nothing was left for as small a request; None: it is to be asked."""
        if now >= self._no_until:
            return None
        if not any(asked and asked >= lacked for asked, lacked in zip(need, self._no_need, strict=True) if lacked):
            return None
        return refused(self.limits, self._lack, need, max(0.0, self._no_at + self._no_wait - now))

    def due(self, now: float) -> bool:
        """Whether it is time to renew it, or to give it back."""
        since = now - self._asked_at
        return since >= RETURN and (self._stale or since >= LASTING)

    def idle(self, now: float) -> bool:
        """Whether it is of no use any more."""
        return now - self.busy > IDLE and not any(self._held)

    def ask(self, waiting: Iterable[Need], arrived: int, now: float, *, over: bool = False) -> Ask:
        """What to ask for. waiting: the needs of those who wait; arrived: how many rows are known to be committed.

        over: give it back, whoever uses it; an idle one is given back anyway.
        """
        for _ in range(len(self._rows)):
            row = self._rows.popleft()
            if row.number <= arrived and row.until <= now:
                self._held[3] -= row.nano
            else:
                self._rows.append(row)
        seconds = max(now - self._asked_at, RETURN)
        needs = list(waiting)
        if over := over or (not needs and self.idle(now)):
            self._until = 0.0
        wishes: list[Wish] = []
        for kind in range(len(KINDS)):
            amounts = [need[kind] for need in needs]
            likely = 0 if over else max(int(self._wanted[kind] / seconds), self._likely[kind] // 2)
            self._likely[kind], self._wanted[kind] = likely, 0
            kept = self._kept(kind, max(likely, sum(amounts)), now)
            need, least = max(0, sum(amounts) - kept), max(0, min(amounts, default=0) - kept)
            used = self._used[kind] if kind < 2 else 0
            wishes.append(Wish(need, least, max(0, likely - kept), used, self._held[kind] + kept))
        self._asked_at, self._asked_with = now, self._used[:2]
        self._stale = bool(self._rows)
        return Ask(self.key, (wishes[0], wishes[1], wishes[2], wishes[3]), over)

    def _kept(self, kind: int, most: int, now: float) -> int:
        """What may still be taken while an answer is under way; the rest is given back."""
        if not self.counted[kind]:
            return 0
        used = self._used[kind]
        kept = min(self._allowed[kind] - used, most) if now < self._until else 0
        self._allowed[kind] = used + max(0, kept)
        return max(0, kept)

    def granted(self, grant: Grant, waiting: Iterable[Need], now: float) -> None:
        """The answer to the last question. waiting: as it was then."""
        self._until = self._asked_at + LEASE
        for kind, free in enumerate(grant.free):
            self._allowed[kind] = self._allowed[kind] + free if self.counted[kind] else UNLIMITED
        self._left, self._full, self._told_at, self._told_with = grant.left, grant.full, now, self._asked_with
        self._lack = grant.lack
        if grant.lack:
            place = {"requests": 0, "tokens": 1, "streams": 2}.get(grant.lack, 3)
            least = min((need[place] for need in waiting), default=1)
            self._no_need = Need(*(least if kind == place else 0 for kind in range(len(KINDS))))
            self._no_at, self._no_wait = now, grant.wait
            self._no_until = now + min(grant.wait, LONGEST_NO)

    def lacking(self, need: Need) -> PenstockError:
        """What to say where it does not fit after the last answer."""
        return refused(self.limits, self._lack, need, self._no_wait if self._lack else RETURN)

    def figures(self, now: float) -> tuple[Figures | None, Figures | None]:
        """Of requests and of tokens, as far as it is known here."""
        found: list[Figures | None] = []
        for kind, limit in enumerate((self.limits.requests_per_minute, self.limits.tokens_per_minute)):
            if limit is None:
                found.append(None)
                continue
            since = self._used[kind] - self._told_with[kind]
            full = 60.0 if since else max(0.0, self._full[kind] - (now - self._told_at))
            found.append(Figures(limit, max(0, self._left[kind] - since), full))
        return found[0], found[1]


def _counted(limits: Limits) -> tuple[bool, ...]:
    """Which kinds have a limit."""
    most = (limits.requests_per_minute, limits.tokens_per_minute, limits.streams)
    return (*(limit is not None for limit in most), limits.budget != NO_BUDGET)


def refused(limits: Limits, lack: Lack, need: Need, wait: float) -> PenstockError:
    """An error that says which limit it is."""
    if lack in ("day", "month", "total"):
        return _over_budget(limits, lack, need)
    if lack == "streams":
        return OverLimit(f"this key may have {limits.streams} streams at once", retry_after=max(wait, 1.0))
    if lack == "tokens":
        most = limits.tokens_per_minute
        if wait == NEVER:
            return OverLimit(f"the request has about {need.tokens} tokens, this key may use {most} in a minute")
        return OverLimit(f"this key has used its {most} tokens of a minute", retry_after=wait)
    if lack == "requests":
        return OverLimit(f"this key has made its {limits.requests_per_minute} requests of a minute", retry_after=wait)
    return OverLimit("this key is at its limits", retry_after=wait)


def _over_budget(limits: Limits, lack: Lack, need: Need) -> OverBudget:
    amount = {"day": limits.budget.day, "month": limits.budget.month}.get(lack, limits.budget.total) or 0
    whose = {"day": "of the day (UTC)", "month": "of the month (UTC)"}.get(lack, "in all")
    message = f"the budget of this key, {in_dollars(amount)} dollars {whose}, leaves nothing for this request"
    return OverBudget(f"{message}, which may cost {in_dollars(need.money)}" if need.money > 1 else message)
