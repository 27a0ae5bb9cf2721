"""The ledger actor's part that knows the keys: it keeps them, tells replicas of changes, and says what each may use.

Every key is in memory, with what it has spent; a change is in the database before anybody hears of it. Replicas wait
for changes with a long poll (`Seen`), so that one is everywhere in the time of a message, and nobody polls for nothing.

It lives in the ledger's own actor, and not in one beside it, since both must agree at every moment: what is committed
is spent, and what is not is held by a replica (`pipelines.allowance`). Commits do not delay it: SQLite's run in a
thread, PostgreSQL's are waited for.

Above it: `ledger`. Below it: `key_store`, `board`'s long poll, `pipelines.allowance`. Outside it: who may change keys.
"""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from itertools import takewhile

import msgspec

from actors.board import LONG_POLL
from actors.money import key_store
from actors.money.ledger_store import LedgerStore
from pipelines.allowance import SECONDS, Allowances, Asked, KeyInquiry
from pipelines.keys import (
    ChangeKey,
    Feed,
    FindKey,
    Key,
    KeyAnswer,
    KeyRequest,
    ListKeys,
    MakeKey,
    RevokeKey,
    RotateKey,
    Seen,
)
from pipelines.ledger import HOUR, SUMS, Group

COST = SUMS.index("cost")

_inquiries: msgspec.msgpack.Decoder[KeyInquiry] = msgspec.msgpack.Decoder(KeyInquiry)


class KeyBook:
    """All keys. store: where they are kept; clock: seconds since 1970."""

    def __init__(self, store: LedgerStore, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._keys: dict[str, Key] = {}
        self._order: list[str] = []
        self._changed = 0
        self._allowances = Allowances()
        self._news = asyncio.Event()
        self._changing = asyncio.Lock()
        self._sure = True

    async def open(self) -> None:
        """Read the keys, and what they have used. Raises what the database raises."""
        now = self._clock()
        keys = await self._store.change(key_store.read)
        # Of two changes in a row the later one is last.
        self._keys = {key.id: key for key in keys}
        self._order = sorted(self._keys)
        # Who knows of no change yet says 0.
        self._changed = max((key.changed for key in keys), default=1)
        for key in keys:
            self._limit(key)
        for used in await self._store.change(partial(key_store.recent, now - SECONDS)):
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
        """Read it again, if that is to be. Nothing may be committed meanwhile."""
        if not self._sure:
            await self._recount()

    def expire(self) -> None:
        """Take back what replicas hold that have died."""
        self._allowances.expire(self._clock())

    async def _recount(self) -> None:
        now = self._clock()
        self._sure = True
        try:
            found = await self._store.change(partial(key_store.spent, now))
        except BaseException:
            self._sure = False
            raise
        for key, spent in found.items():
            self._allowances.restore(key, spent, now)

    def _spent(self, sums: Mapping[Group, list[int]]) -> None:
        """What was committed just now."""
        for group, figures in sums.items():
            if figures[COST]:
                self._allowances.spend(group.key, figures[COST], group.hour * HOUR)

    async def _requested(self, asked: KeyRequest) -> KeyAnswer:
        if isinstance(asked, ListKeys):
            return self._listed(asked)
        if isinstance(asked, FindKey):
            key = self._keys.get(asked.id)
            return self._shown(key) if key is not None else KeyAnswer(problem="missing")
        async with self._changing:
            return await self._change(asked)

    async def _change(self, asked: MakeKey | ChangeKey | RevokeKey | RotateKey) -> KeyAnswer:
        now = self._clock()
        known = self._keys.get(asked.id)
        if isinstance(asked, MakeKey):
            return await self._put(Key(asked.id, asked.settings, asked.hash, now, 0), fresh=True)
        if known is None:
            return KeyAnswer(problem="missing")
        if isinstance(asked, RevokeKey):
            if known.revoked is not None:
                return self._shown(known)
            return await self._put(msgspec.structs.replace(known, revoked=now, old_hash="", old_until=0.0))
        if known.revoked is not None:
            return KeyAnswer(problem="revoked")
        if isinstance(asked, RotateKey):
            old_until = now + asked.overlap
            return await self._put(
                msgspec.structs.replace(known, hash=asked.hash, old_hash=known.hash, old_until=old_until)
            )
        if asked.changed != known.changed:
            return KeyAnswer(problem="conflict")
        return await self._put(msgspec.structs.replace(known, settings=asked.settings))

    async def _put(self, key: Key, *, fresh: bool = False) -> KeyAnswer:
        """Write a key down, then let everybody know."""
        key = msgspec.structs.replace(key, changed=self._changed + 1)
        await self._store.change(partial(key_store.put, key, fresh))
        self._changed = key.changed
        self._keys.pop(key.id, None)
        self._keys[key.id] = key
        if fresh:
            self._order.append(key.id)
            self._order.sort()
        self._limit(key)
        news, self._news = self._news, asyncio.Event()
        news.set()
        return self._shown(key)

    def _limit(self, key: Key) -> None:
        self._allowances.limit(key.id, key.settings.limits)

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
