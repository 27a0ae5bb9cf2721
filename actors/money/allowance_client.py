"""A replica's side of the keys' allowances: requests take from leases, which are renewed while they are used.

A request whose key has plenty takes from what is here: no call, some microseconds. One that does not fit waits for the
next question to the ledger actor, one for all keys and all who wait; at most one is under way. A task asks again every
quarter second about the keys that were used, and ends when none is held.

While the ledger is away a key goes on with what it was granted, for `LEASE` seconds at most. Then its requests are
refused (503), or where the ledger's `when_away` is `continue` admitted without limits.

Above it: `deployments.money.allowance`. Below it: `ledger_client`, `pipelines.lease`. Outside it: what a request needs.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping

import msgspec

from actors.money.ledger_client import LedgerClient
from pipelines.allowance import RETURN, Ask, Asked, Granted, Need
from pipelines.errors import Overloaded
from pipelines.keys import Limits
from pipelines.lease import Lease

PATIENCE = 2.0
"""Seconds that a request waits for an answer where work is refused without the ledger."""

SHORT_PATIENCE = 0.25
"""Seconds that it waits where work goes on without."""

CALL_TIMEOUT = 5.0
"""Seconds after which a question has failed."""

ROUNDS = 3
"""Answers after which a request is refused that others have always been quicker than."""

MOST_ASKS = 2_000
"""Keys of one question."""

_log = logging.getLogger("penstock.allowance")
_answers = msgspec.msgpack.Decoder(Granted)


class _Waiting:
    """A request that waits."""

    def __init__(self, lease: Lease, need: Need, heard: "asyncio.Future[None]") -> None:
        self.lease = lease
        self.need = need
        self.heard = heard


class AllowanceClient:
    """The leases of one replica. client: its tie to the ledger; now: seconds of a clock that never runs back."""

    def __init__(self, client: LedgerClient, now: Callable[[], float]) -> None:
        self._client = client
        self._now = now
        self._leases: dict[str, Lease] = {}
        self._waiting: list[_Waiting] = []
        self._number = 0
        self._keeping: asyncio.Task[None] | None = None
        self._some = asyncio.Event()
        self._looked = 0.0
        self._away = False

    def lease(self, key: str, limits: Limits) -> Lease:
        """The key's lease, by these limits."""
        lease = self._leases.get(key)
        if lease is None:
            lease = self._leases[key] = Lease(key, limits, self._now())
        elif lease.limits is not limits and lease.limits != limits:
            lease.change(limits)
        return lease

    async def take(self, lease: Lease, need: Need) -> bool:
        """Admit a request; False: without limits, since nobody can be asked.

        Raises OverLimit or OverBudget where it is too much, Overloaded (503) where that cannot be found out.
        """
        now = self._now()
        if lease.take(need, now):
            if self._keeping is None:
                self._keep()
            return True
        if (error := lease.refusal(need, now)) is not None:
            raise error
        for _ in range(ROUNDS):
            if not await self._asked(lease, need):
                if self._client.when_away == "continue":
                    return False
                message = "the limits of this key cannot be looked up now"
                raise Overloaded(message, status=503, retry_after=1.0)
            if lease.take(need, self._now()):
                return True
            if (error := lease.refusal(need, self._now())) is not None:
                raise error
        raise lease.lacking(need)

    async def close(self) -> None:
        """Give everything back, as far as anybody listens."""
        if self._keeping is None:
            return
        self._keeping.cancel()
        await asyncio.gather(self._keeping, return_exceptions=True)
        now = self._now()
        some = [lease.ask((), self._client.arrived, now, over=True) for lease in self._leases.values()]
        self._leases.clear()
        try:
            async with asyncio.timeout(1.0):
                await self._client.keys(self._encoded(some))
        except Exception as error:  # Whoever is away forgets us by himself.
            _log.debug("the leases were not given back: %s", type(error).__name__)

    async def _asked(self, lease: Lease, need: Need) -> bool:
        """Wait for the answer to a question that has this need in it; False: there is none."""
        self._keep()
        heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(lease, need, heard)
        self._waiting.append(waiting)
        self._some.set()
        short = self._away or self._client.when_away == "continue"
        try:
            async with asyncio.timeout(SHORT_PATIENCE if short else PATIENCE):
                await heard
        except TimeoutError:
            return False
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
        return True

    def _keep(self) -> None:
        if self._keeping is None or self._keeping.done():
            self._keeping = self._client.spawn(self._renew())

    async def _renew(self) -> None:
        while self._leases:
            if not self._waiting:
                self._some.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(RETURN):
                        await self._some.wait()
            try:
                await self._round()
            except Exception as error:
                # Ray raises many classes when an actor is away; each means the same here: ask again a little later.
                self._failed(error)
                await asyncio.sleep(RETURN)
        self._keeping = None

    async def _round(self) -> None:
        """One question, and its answer."""
        now = self._now()
        waiting, self._waiting = self._waiting, []
        wanted: dict[str, list[Need]] = {}
        for one in waiting:
            wanted.setdefault(one.lease.key, []).append(one.need)
        asked = self._asked_about(wanted, now)
        if not asked:
            return
        asks = [lease.ask(wanted.get(lease.key, ()), self._client.arrived, now) for lease in asked]
        try:
            granted = _answers.decode(await self._client.keys(self._encoded(asks), CALL_TIMEOUT))
        except BaseException:
            # Those who wait go on waiting, as long as they will, for the next answer.
            self._waiting = [one for one in waiting if not one.heard.done()] + self._waiting
            raise
        self._heard(asked, asks, granted, wanted)
        for one in waiting:
            if not one.heard.done():
                one.heard.set_result(None)

    def _asked_about(self, wanted: Mapping[str, object], now: float) -> list[Lease]:
        """The leases of those who wait, and every quarter second those that are due; who was asked about goes last."""
        asked = [self._leases[key] for key in wanted if key in self._leases]
        if now - self._looked >= RETURN:
            self._looked = now
            due = [lease for key, lease in self._leases.items() if key not in wanted and lease.due(now)]
            asked += due[:MOST_ASKS]
            if len(due) > MOST_ASKS:
                for lease in asked:
                    self._leases[lease.key] = self._leases.pop(lease.key)
        return asked

    def _heard(self, asked: list[Lease], asks: list[Ask], granted: Granted, wanted: dict[str, list[Need]]) -> None:
        if self._away:
            _log.warning("the ledger answers again about limits")
        self._away = False
        now = self._now()
        for lease, ask, grant in zip(asked, asks, granted.grants, strict=False):
            if not ask.over:
                lease.granted(grant, wanted.get(lease.key, ()), now)
            elif self._leases.get(lease.key) is lease and lease.idle(now):
                del self._leases[lease.key]

    def _encoded(self, asks: list[Ask]) -> bytes:
        self._number += 1
        return msgspec.msgpack.encode(Asked(self._client.reporter, self._number, tuple(asks)))

    def _failed(self, error: Exception) -> None:
        if not self._away:
            words = str(error).strip().splitlines() or [type(error).__name__]
            _log.warning("the ledger does not answer about limits, keys go on with what they have: %s", words[-1])
        self._away = True
