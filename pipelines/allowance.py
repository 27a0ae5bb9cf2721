"""What keys may still use: the account of each, of which every replica holds a piece for a while.

Four kinds are counted, in whole numbers: requests and tokens in any 60 seconds, streams at once, nano-dollars by day,
month and ever. A replica admits requests from what it was granted and asks for more in time; while there is plenty it
holds what the next second is likely to take, near the end only what waits at it now, so that it asks before it admits.

    allowed to a replica <= limit - counted - held by the others

so that replicas together never admit more than the limit: the error is one-sided. What one holds and does not use is
missing for the others until it asks again, a quarter of a second later; and what is used counts from the moment that is
told. Both, and the length of a slot, cost at most some 2 % of what might have been used.

The window slides: a minute's limit holds for any 60 seconds, and not for two halves that belong to different minutes,
as with fixed windows, nor for a full bucket and what is filled in meanwhile. It is a log of what was used, with slots
of a quarter second in place of single entries, each counted until its end is a minute old. Sources: "sliding window
log", A. Rodriguez, "An alternative approach to rate limiting" (Figma, 2017); that holders have leases, which run out
when they are silent, C. Gray, D. Cheriton, "Leases" (SOSP 1989).

Money: what is committed is spent; what is reserved, or spent and not known to be committed, is held. Rows are committed
before their replica hears of it, so nothing is in neither. A budget is overdrawn by no more than what requests in
flight cost beyond their reservations: once it is, every replica hears within a quarter of a second to give back what it
kept.

A pure core: `now` is an argument, in seconds since 1970. Above it: `actors.money.key_book`. Below it: `keys`,
`spending`. Outside it: what a request needs (`lease` is a replica's side), rows, time.
"""

import math
from collections import deque
from typing import Literal, NamedTuple

import msgspec

from pipelines.keys import NO_LIMITS, KeyRequest, Limits, Seen, Spent
from pipelines.spending import Spending

SECONDS = 60.0
SLOT = 0.25
"""Seconds of one entry of a window."""

LEASE = 10.0
"""Seconds after it was asked for in which a piece may be used."""

GONE = 20.0
"""Seconds of silence after which a replica has died and its piece comes back; the ledger has settled by then what was
under way there, and a reservation has become a row."""

RETURN = 0.25
"""Seconds between two questions of a replica that is at work; what others hold may come back with the next one."""

Kind = Literal["requests", "tokens", "streams", "money"]
KINDS: tuple[Kind, ...] = ("requests", "tokens", "streams", "money")
UNLIMITED = 1 << 62
"""Of a kind that has no limit."""

NEVER = math.inf

Lack = Literal["", "requests", "tokens", "streams", "day", "month", "total"]


class Need(NamedTuple):
    """What one request takes, by kind; of what is not counted for its key, 0."""

    requests: int = 0
    tokens: int = 0
    streams: int = 0
    money: int = 0


class Wish(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """Of one kind. held: what the replica has, and what it keeps of what it was granted; need: what the requests that
    wait take beyond that; least: the smallest of them; likely: what the next second is likely to take beyond it.
    used: requests or tokens since the replica first asked.
    """

    need: int = 0
    least: int = 0
    likely: int = 0
    used: int = 0
    held: int = 0


class Ask(msgspec.Struct, frozen=True, array_like=True):
    """About one key, by kind. over: the replica has no use for it any more."""

    key: str
    wishes: tuple[Wish, Wish, Wish, Wish]
    over: bool = False


class Asked(msgspec.Struct, frozen=True, tag="allow"):
    """One replica's questions. number counts up; what arrives late, after a later one, is passed over."""

    reporter: str
    number: int
    asks: tuple[Ask, ...]


KeyInquiry = KeyRequest | Seen | Asked
"""All that the ledger actor is asked about keys: of a KeyRequest comes a KeyAnswer, of Seen a Feed as soon as there is
news, of Asked what is Granted."""


class Grant(msgspec.Struct, frozen=True, array_like=True):
    """About one key, by kind: free is what may be taken beyond what was kept when it was asked for; or, below zero, how
    much less.

    left: what is not counted, nor held by others; full: seconds until nothing is counted. lack: of what there was not
    enough for somebody who waits; wait: seconds until there may be (NEVER: the limit itself is smaller).
    """

    key: str
    free: tuple[int, int, int, int]
    left: tuple[int, int] = (UNLIMITED, UNLIMITED)
    full: tuple[float, float] = (0.0, 0.0)
    lack: Lack = ""
    wait: float = 0.0


class Granted(msgspec.Struct, frozen=True):
    """The answers, in the order of the questions."""

    grants: tuple[Grant, ...] = ()


class Window:
    """What was used in the last 60 seconds."""

    def __init__(self) -> None:
        self._slots: deque[tuple[int, int]] = deque()
        self._sum = 0

    def add(self, amount: int, now: float) -> None:
        """So much was used now."""
        if amount <= 0:
            return
        slot = int(now // SLOT)
        if self._slots and self._slots[-1][0] >= slot:
            last, before = self._slots.pop()
            self._slots.append((last, before + amount))
        else:
            self._slots.append((slot, amount))
        self._sum += amount

    def total(self, now: float) -> int:
        """All that counts now."""
        while self._slots and _end(self._slots[0][0]) <= now:
            self._sum -= self._slots.popleft()[1]
        return self._sum

    def free_in(self, amount: int, now: float) -> float:
        """Seconds until so much of it counts no longer; 0 where nothing has to."""
        for slot, some in self._slots if amount > 0 else ():
            amount -= some
            if amount <= 0:
                return max(0.0, _end(slot) - now)
        return 0.0 if amount <= 0 else NEVER

    def empty_in(self, now: float) -> float:
        """Seconds until nothing counts."""
        return max(0.0, _end(self._slots[-1][0]) - now) if self._slots else 0.0


def _end(slot: int) -> float:
    return (slot + 1) * SLOT + SECONDS


class _Holder:
    """One replica's piece: used is what it has told of, held what it has kept, free what it was granted beyond."""

    def __init__(self) -> None:
        self.heard = 0.0
        self.used = [0, 0]
        self.held = [0, 0, 0, 0]
        self.free = [0, 0, 0, 0]


class _Account:
    """One key."""

    def __init__(self, limits: Limits, spending: Spending) -> None:
        self.limits = limits
        self.spending = spending
        self.windows = (Window(), Window())
        self.holders: dict[str, _Holder] = {}

    def expire(self, now: float) -> None:
        """Take back what those hold who have died. What they could have used without telling counts as used."""
        for reporter, holder in list(self.holders.items()):
            if now - holder.heard > GONE:
                del self.holders[reporter]
                for window, held, free in zip(self.windows, holder.held, holder.free, strict=False):
                    window.add(held + (free if free < UNLIMITED else 0), now)

    def answer(self, reporter: str, ask: Ask, now: float) -> Grant:
        self.expire(now)
        holder = self._told(reporter, ask, now)
        if ask.over:
            self.holders.pop(reporter, None)
            return Grant(ask.key, (0, 0, 0, 0))
        lack: Lack = ""
        wait = 0.0
        granted: list[int] = []
        left: list[int] = []
        for place, wish in enumerate(ask.wishes):
            room, name = self._room(place, now)
            others = sum(one.held[place] + one.free[place] for one in self.holders.values() if one is not holder)
            free = room - others - holder.held[place] if room < UNLIMITED else UNLIMITED
            left.append(max(0, room - others))
            granted.append(_share(free, wish, len(self.holders)) if free < UNLIMITED else UNLIMITED)
            # What is to be given back may be in use by now: it counts as held until the replica says that it is not.
            holder.free[place] = max(0, granted[place])
            if wish.need > granted[place]:
                lack, wait = name, max(wait, self._wait(place, max(wish.least, 1), free, others, now))
        full = [window.empty_in(now) for window in self.windows]
        requests, tokens, streams, money = granted
        return Grant(ask.key, (requests, tokens, streams, money), (left[0], left[1]), (full[0], full[1]), lack, wait)

    def _told(self, reporter: str, ask: Ask, now: float) -> _Holder:
        """Take in what the replica says of itself."""
        holder = self.holders.get(reporter)
        if holder is None:
            holder = self.holders[reporter] = _Holder()
            # What it used before it was known here is in rows.
            holder.used = [wish.used for wish in ask.wishes[:2]]
        for place, wish in enumerate(ask.wishes[:2]):
            before = holder.used[place]
            self.windows[place].add(wish.used - before if wish.used >= before else wish.used, now)
            holder.used[place] = wish.used
        holder.held = [max(0, wish.held) for wish in ask.wishes]
        holder.free = [0, 0, 0, 0]
        holder.heard = now
        return holder

    def _room(self, place: int, now: float) -> tuple[int, Lack]:
        """What is not counted of a limit, and its name."""
        limits = self.limits
        if place == 3:
            return self.spending.room(limits.budget, now)
        most = (limits.requests_per_minute, limits.tokens_per_minute, limits.streams)[place]
        name: Lack = ("requests", "tokens", "streams")[place]
        if most is None:
            return UNLIMITED, name
        return most - (self.windows[place].total(now) if place < 2 else 0), name

    def _wait(self, place: int, least: int, free: int, others: int, now: float) -> float:
        """Seconds until so much may be there."""
        if free + others >= least or place >= 2:
            return RETURN if others else 1.0
        most = (self.limits.requests_per_minute, self.limits.tokens_per_minute)[place] or 0
        if least > most:
            return NEVER
        return max(RETURN if others else 0.0, self.windows[place].free_in(least - free - others, now))


def _share(free: int, wish: Wish, holders: int) -> int:
    """A replica's piece of what is free: what waits there, and of the rest what leaves enough for the others.

    Where less than nothing is free, since something used more than was expected, it has to give back what it kept.
    """
    if free < wish.least or free <= 0:
        return max(min(free, 0), -wish.held)
    sure = min(free, wish.need)
    return sure + min(wish.likely, (free - sure) // (2 * holders))


class Allowances:
    """The accounts of all keys."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}
        self._numbers: dict[str, tuple[int, float]] = {}

    def limit(self, key: str, limits: Limits) -> None:
        """From now on these are the key's limits; what was used stays."""
        account = self._accounts.get(key)
        if account is None:
            self._accounts[key] = _Account(limits, Spending())
        else:
            account.limits = limits

    def restore(self, key: str, spent: Spent, now: float) -> None:
        """So much was spent up to now."""
        if (account := self._accounts.get(key)) is not None:
            account.spending.restore(spent, now)

    def count(self, key: str, requests: int, tokens: int, now: float) -> None:
        """So much was used at that moment, before anybody kept accounts; moments must not run back."""
        if (account := self._accounts.get(key)) is not None:
            account.windows[0].add(requests, now)
            account.windows[1].add(tokens, now)

    def spend(self, key: str, nano: int, at: float) -> None:
        """So many nano-dollars more are committed as spent by what began at that time."""
        if (account := self._accounts.get(key)) is not None:
            account.spending.add(nano, at)

    def spent(self, key: str, now: float) -> Spent:
        """What the key has spent."""
        account = self._accounts.get(key)
        return account.spending.spent(now) if account is not None else Spent()

    def answer(self, asked: Asked, now: float) -> Granted:
        """What a replica gets. Of a key that is not known it gets as much as it wants: its limits are not known."""
        last, _ = self._numbers.get(asked.reporter, (-1, 0.0))
        if asked.number <= last:
            return Granted()
        self._numbers[asked.reporter] = (asked.number, now)
        return Granted(tuple(self._answer(asked.reporter, ask, now) for ask in asked.asks))

    def expire(self, now: float) -> None:
        """Take back what those hold who have died."""
        for account in self._accounts.values():
            if account.holders:
                account.expire(now)
        for reporter, (_, heard) in list(self._numbers.items()):
            if now - heard > 10 * GONE:
                del self._numbers[reporter]

    def _answer(self, reporter: str, ask: Ask, now: float) -> Grant:
        account = self._accounts.get(ask.key)
        if account is None:
            # A replica that does not know yet that the key is gone: it learns of that in the same second.
            account = _Account(NO_LIMITS, Spending())
        return account.answer(reporter, ask, now)
