"""The ledger actor's part that knows the keys: it keeps them, tells replicas of changes, and says what each may use.

Every key is in memory, with what it has spent; a change is in the database before anybody hears of it. Replicas wait
for changes with a long poll (`Seen`), so that one is everywhere in the time of a message, and nobody polls for nothing.

Where the database is a server, other clusters may write to it too, beside this one or before they give way to it. What
they change and spend is read with every `follow`: the keys by the number of their last change, and the sums of the
recent hours, which say more than was counted here by what the others have added.

It lives in the ledger's own actor, and not in one beside it, since both must agree at every moment: what is committed
is spent, and what is not is held by a replica (`pipelines.allowance`). Commits do not delay it: SQLite's run in a
thread, PostgreSQL's are waited for.

Above it: `ledger`. Below it: `key_store`, `board`'s long poll, `pipelines.allowance`. Outside it: who may change keys.
"""

import asyncio
from bisect import insort
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import takewhile

import msgspec

from actors.board import LONG_POLL
from actors.money import key_store
from actors.money.ledger_store import LedgerStore
from pipelines.allowance import SECONDS, Allowances, Asked, KeyInquiry
from pipelines.keys import Feed, FindKey, Key, KeyAnswer, KeyRequest, ListKeys, Seen
from pipelines.ledger import HOUR, LATE, SUMS, Group

COST = SUMS.index("cost")

_inquiries: msgspec.msgpack.Decoder[KeyInquiry] = msgspec.msgpack.Decoder(KeyInquiry)


class KeyBook:
    """All keys. store: where they are kept; clock: seconds since 1970."""

    def __init__(self, store: LedgerStore, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._keys: dict[str, Key] = {}
        self._order: list[str] = []
        self._changed = key_store.FIRST
        self._allowances = Allowances()
        self._news = asyncio.Event()
        self._sure = True
        # What is counted as spent, by key and hour, of the hours from this one on.
        self._recent: dict[tuple[str, int], int] = {}
        self._since = 0

    async def open(self) -> None:
        """Read the keys, and what they have used. Raises what the database raises."""
        now = self._clock()
        self._take(await self._store.change(partial(key_store.read, 0)))
        for used in await self._store.change(partial(key_store.recent, now - SECONDS), patient=True):
            self._allowances.count(used.key, used.requests, used.tokens, float(used.second))
        self._store.on_sums = self._spent
        await self._recount()

    async def answer(self, inquiry: bytes) -> bytes:
        """An encoded KeyInquiry in, its encoded answer out. Raises what the database raises."""
        asked = _inquiries.decode(inquiry)
        if isinstance(asked, Asked):
            return msgspec.msgpack.encode(self._allowances.answer(asked, self._clock()))
        if isinstance(asked, Seen):
            return msgspec.msgpack.encode(await self._feed(asked))
        return msgspec.msgpack.encode(await self._requested(asked))

    def doubt(self) -> None:
        """A commit has failed, or nobody knows whether it has: what was spent is to be read again."""
        self._sure = False

    async def recount(self) -> None:
        """Read it again, if that is to be. Nothing may be committed here meanwhile."""
        if not self._sure:
            await self._recount()

    async def follow(self) -> None:
        """Take in what other clusters have done, if there can be any. Nothing may be committed here meanwhile."""
        if not self._store.shared:
            return
        await self.recount()
        since = _recent_since(self._clock())
        try:
            keys, sums = await self._store.change(partial(key_store.news, self._changed, since))
        except BaseException:
            self.doubt()
            raise
        self._take(keys)
        sums = {group: cost for group, cost in sums.items() if group[0] in self._keys}
        for group in sums.keys() | self._recent.keys():
            key, hour = group
            more = sums.get(group, 0) - self._recent.get(group, 0)
            if more and hour >= since:
                self._allowances.spend(key, more, hour * HOUR)
        self._recent, self._since = sums, since

    def expire(self) -> None:
        """Take back what replicas hold that have died."""
        self._allowances.expire(self._clock())

    async def _recount(self) -> None:
        now = self._clock()
        since = _recent_since(now)
        self._sure = True
        try:
            found = await self._store.change(partial(key_store.spent, now, since), patient=True)
        except BaseException:
            self._sure = False
            raise
        for key, spent in found.spent.items():
            self._allowances.restore(key, spent, now)
        self._recent, self._since = found.recent, since

    def _spent(self, sums: Mapping[Group, list[int]]) -> None:
        """What was committed just now."""
        for group, figures in sums.items():
            cost = figures[COST]
            if cost and group.key in self._keys:
                self._allowances.spend(group.key, cost, group.hour * HOUR)
                if self._store.shared and group.hour >= self._since:
                    place = group.key, group.hour
                    self._recent[place] = self._recent.get(place, 0) + cost

    async def _requested(self, asked: KeyRequest) -> KeyAnswer:
        if isinstance(asked, ListKeys):
            return self._listed(asked)
        if isinstance(asked, FindKey):
            key = self._keys.get(asked.id)
            return self._shown(key) if key is not None else KeyAnswer(problem="missing")
        work = partial(key_store.change, asked, self._clock(), self._changed)
        problem, keys = await self._store.change(work)
        self._take(keys)
        return KeyAnswer(problem=problem) if problem else self._shown(self._keys[asked.id])

    def _take(self, keys: Iterable[Key]) -> None:
        """Know these, in the order of their changes, then let everybody know."""
        news = [key for key in keys if key.changed > self._changed]
        for key in news:
            if self._keys.pop(key.id, None) is None:
                insort(self._order, key.id)
            # Of two changes in a row the later one is last.
            self._keys[key.id] = key
            self._allowances.limit(key.id, key.settings.limits)
        if news:
            self._changed = news[-1].changed
            waiting, self._news = self._news, asyncio.Event()
            waiting.set()

    def _listed(self, asked: ListKeys) -> KeyAnswer:
        ids = (one for one in self._order if one > asked.after)
        wanted = [self._keys[one] for one in ids if asked.revoked or self._keys[one].revoked is None]
        shown = [(key, self._allowances.spent(key.id, self._clock())) for key in wanted[: asked.most]]
        return KeyAnswer(tuple(shown), more=len(wanted) > asked.most)

    def _shown(self, key: Key) -> KeyAnswer:
        return KeyAnswer(((key, self._allowances.spent(key.id, self._clock())),))

    async def _feed(self, seen: Seen) -> Feed:
        """All keys, or those that have changed since; nothing, if that is so for a while."""
        if seen.changed == self._changed:
            news = self._news
            try:
                async with asyncio.timeout(LONG_POLL):
                    await news.wait()
            except TimeoutError:
                return Feed(seen.changed)
        whole = not 0 < seen.changed <= self._changed
        newest = takewhile(lambda key: whole or key.changed > seen.changed, reversed(self._keys.values()))
        keys = tuple(key for key in newest if not whole or key.revoked is None)
        return Feed(self._changed, keys[::-1], whole=whole)


def _recent_since(now: float) -> int:
    """The first hour to which rows may still come."""
    return int((now - LATE) // HOUR)
