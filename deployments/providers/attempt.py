"""One call at one provider: asked again while nothing has been handed out, then streamed to its end.

The commit boundary is the first content. Until it is at hand `ask` returns nothing, and a failure may be followed
by another try at the same provider (`pipelines.resilience`), with the key that has most room
(`pipelines.upstream_keys`); after it a failure ends the stream with an error frame, never with a sentinel.

Above it: `providers.base`. Below it: `pipelines`, `watchdog`, `arriving`. Outside it: which provider, which headers.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from functools import partial
from typing import NamedTuple

import msgspec

from deployments.http.arriving import whole
from deployments.http.watchdog import Watchdog
from deployments.providers.turns import Turns
from pipelines.calls import Answer, Call, Outlet
from pipelines.errors import ProtocolError, Reason, StreamBroken, TimedOut, UpstreamError
from pipelines.exchange import Exchange, Translation
from pipelines.ports import Transport, UpstreamAnswer
from pipelines.pricing import dollars
from pipelines.rate_limits import rate_headers, read_rate_limits
from pipelines.resilience import RetryBudget, RetryPolicy, Timeouts
from pipelines.routing.table import Bill, Outcome
from pipelines.upstream_keys import Lease, UpstreamKeys

MAX_ANSWER = 64 * 1024 * 1024
"""Bytes of a non-streaming answer."""

MAX_ERROR = 256 * 1024
"""Bytes read of an error's body."""

BEGINNINGS = (b"data:", b"event:", b":")
"""How a stream of events begins. Some servers label one as JSON."""

LINGER = 2.0
"""Seconds that a provider has for usage and sentinel once its answer is over."""


class Target(NamedTuple):
    """Where to send (by the dialect that is spoken), with which headers (by the key's secret), with what patience.

    bill: what an exchange has used and costs.
    """

    provider: str
    address: Callable[[str], str]
    headers: Callable[[str], Mapping[str, str]]
    timeouts: Timeouts
    policy: RetryPolicy
    bill: Callable[[Exchange], Bill]


class Opened(NamedTuple):
    """An attempt whose first content is at hand."""

    exchange: Exchange
    upstream: UpstreamAnswer
    chunks: AsyncGenerator[bytes, None]
    head: bytes
    lease: Lease


class Unread:
    """A stream that may be given up before its first frame is asked for: a generator that has not begun ends nothing.

    judge: gives the outcome of such an attempt.
    """

    def __init__(self, answer: Answer, opened: Opened, judge: Callable[..., Outcome]) -> None:
        self._answer = answer
        self._opened = opened
        self._judge = judge

    async def close(self) -> None:
        """Close the upstream; where nobody has done so yet, count the attempt as cancelled."""
        await self._opened.upstream.close()
        if self._answer.outcome is None:
            self._answer.outcome = self._judge(self._opened.exchange, self._opened.lease, None, cancelled=True)


class Attempt:
    """One call at one provider. `renew` gives a fresh exchange for every try.

    tries: how often it was asked; dropped: names of what the provider's dialect could not express.
    """

    def __init__(
        self,
        call: Call,
        target: Target,
        transport: Transport,
        budget: RetryBudget,
        keys: UpstreamKeys,
        renew: Callable[[], Exchange],
    ) -> None:
        self._call = call
        self._target = target
        self._transport = transport
        self._budget = budget
        self._keys = keys
        self._renew = renew
        self._loop = asyncio.get_running_loop()
        self._turns = Turns(keys, call, target.provider, target.policy, self._loop)
        self._began = self._loop.time()
        self._first_output: float | None = None
        self._may_repeat = True
        self._progress = -1
        self._patience = 0.0
        self.tries = 0
        self.dropped: tuple[str, ...] = ()

    async def ask(self) -> Answer:
        """The answer, at its first content. Raises PenstockError when the provider has none for us."""
        self._budget.deposit(self._loop.time())
        retries = 0
        while True:
            exchange = self._renew()
            lease = await self._turns.take(self._left())
            self.tries += 1
            try:
                return await self._try(exchange, lease)
            except UpstreamError as error:
                error.provider = error.provider or self._target.provider
                if self._turns.failed(error, lease):
                    continue
                retries += 1
                wait = self._target.policy.wait(error, retries, random.random())
                if wait is None or wait >= self._left() or not self._may_repeat:
                    raise
                if not self._budget.withdraw(self._loop.time()):
                    raise
                # A limiter's wait is the rest of its key.
                if error.reason != "rate_limited":
                    await asyncio.sleep(wait)

    def _left(self) -> float:
        """Seconds of the total time that are left."""
        return self._target.timeouts.total - (self._loop.time() - self._began)

    async def _try(self, exchange: Exchange, lease: Lease) -> Answer:
        self.dropped = exchange.dropped
        self._may_repeat = True
        timeouts = self._target.timeouts
        with Watchdog(self._target.provider, self._loop) as dog:
            dog.limit(self._left())
            dog.expect("first_event", timeouts.first_event if exchange.stream else timeouts.total)
            url = self._target.address(exchange.dialect.name)
            body = msgspec.json.encode(exchange.body)
            headers = self._target.headers(lease.key.secret)
            upstream = await self._transport.send("POST", url, headers, body, timeouts)
            rates = self._learned(upstream, lease)
            try:
                answer = await self._read(exchange, upstream, lease, dog)
            except BaseException as error:
                await upstream.close()
                if isinstance(error, UpstreamError):
                    error.headers.update(rates)
                    error.conceal(lease.key.secret)
                raise
        self._keys.accepted(lease)
        answer.headers.update(rates)
        return answer

    def _learned(self, upstream: UpstreamAnswer, lease: Lease) -> dict[str, str]:
        """What the provider says of its limits: for the key, and for the caller as it is."""
        rates = rate_headers(upstream.headers)
        if rates:
            self._keys.learn(lease, read_rate_limits(upstream.headers, time.time()), self._loop.time())
        return rates

    async def _read(self, exchange: Exchange, upstream: UpstreamAnswer, lease: Lease, dog: Watchdog) -> Answer:
        if upstream.status != 200:
            self._may_repeat = upstream.headers.get("x-should-retry") != "false"
            body = await whole(upstream.chunks(), MAX_ERROR, cut=True)
            raise exchange.dialect.read_error(upstream.status, upstream.headers, body)
        kind = upstream.headers.get("content-type", "")
        if kind.startswith("text/html"):
            raise ProtocolError("the provider answered with a web page")
        if not exchange.stream:
            return await self._unary(exchange, upstream, await upstream.whole(MAX_ANSWER), lease)
        chunks = upstream.chunks()
        if kind.startswith("application/json"):
            dog.expect("total", self._left())
            begun = await _begun(chunks)
            chunks = _after(begun, chunks)
            if not begun.startswith(BEGINNINGS):
                return await self._unary(exchange, upstream, await whole(chunks, MAX_ANSWER), lease)
        head = await self._head(exchange, chunks, dog)
        dog.rest()
        self._first_output = self._loop.time() - self._began
        opened = Opened(exchange, upstream, chunks, head, lease)
        answer = Answer(headers={"content-type": "text/event-stream"})
        if self._call.stream:
            answer.let_past(self._frames(opened, answer))
            answer.hold(Unread(answer, opened, self._outcome))
            return answer
        return await self._assembled(opened, answer)

    async def _head(self, exchange: Exchange, chunks: AsyncGenerator[bytes, None], dog: Watchdog) -> bytes:
        """What the provider says up to its first content."""
        head: list[bytes] = []
        progress = 0
        async for data in chunks:
            head.append(exchange.feed(data))
            if exchange.committed or exchange.done:
                return b"".join(head)
            if exchange.progress > progress:
                progress = exchange.progress
                dog.expect("idle", self._target.timeouts.idle)
        head.append(exchange.close())
        return b"".join(head)

    async def _unary(self, exchange: Exchange, upstream: UpstreamAnswer, body: bytes, lease: Lease) -> Answer:
        await upstream.close()
        said = exchange.whole(body)
        answer = Answer(headers={"content-type": "application/json"})
        answer.outcome = self._outcome(exchange, lease, None)
        if self._call.stream:
            answer.headers["content-type"] = "text/event-stream"
            answer.frames = _once(said)
        else:
            answer.body = said
        return answer

    async def _assembled(self, opened: Opened, answer: Answer) -> Answer:
        """Read the rest of a translated stream for a caller who wants no stream."""
        assert isinstance(opened.exchange, Translation)
        async with contextlib.aclosing(self._frames(opened, answer)) as frames:
            async for _ in frames:
                pass
        if answer.error is not None:
            raise answer.error
        answer.headers = {"content-type": "application/json"}
        answer.body = opened.exchange.answer()
        return answer

    async def _frames(self, opened: Opened, answer: Answer) -> AsyncGenerator[bytes, None]:
        """The stream from its first content on. Sets the answer's outcome, and its error if it breaks."""
        exchange = opened.exchange
        reason: Reason | None = None
        cancelled = True
        try:
            yield opened.head
            try:
                with Watchdog(self._target.provider, self._loop) as dog:
                    dog.limit(self._left())
                    if answer.outlet is not None:
                        opened.upstream.pass_to(partial(self._past, exchange, dog, answer.outlet))
                    while not exchange.done:
                        self._expect(exchange, dog)
                        data = await anext(opened.chunks, b"") if exchange.failure is None else b""
                        said = exchange.feed(data) if data else exchange.close()
                        dog.rest()
                        if said:
                            yield said
            except UpstreamError as error:
                error.provider = error.provider or self._target.provider
                error.conceal(opened.lease.key.secret)
                rest = _rest(exchange, error)
                if rest is None:
                    reason = error.reason
                    answer.error = error
                    rest = exchange.fail(error)
                yield rest
            cancelled = False
        finally:
            await opened.chunks.aclose()
            await opened.upstream.close(whole=exchange.done)
            answer.outcome = self._outcome(exchange, opened.lease, reason, cancelled=cancelled)

    def _past(self, exchange: Exchange, dog: Watchdog, outlet: Outlet, data: bytes) -> bool:
        """Let content go past the reader of `_frames`, who waits for it; whether it was nothing else, and had room."""
        said = exchange.passed(data) if outlet.free else None
        if said is None:
            return False
        outlet.put(said)
        dog.rest()
        self._expect(exchange, dog)
        return True

    def _expect(self, exchange: Exchange, dog: Watchdog) -> None:
        """Comments are no progress: they do not move the deadline. That the answer is over does."""
        patience = LINGER if exchange.over else self._target.timeouts.idle
        if exchange.progress == self._progress and patience == self._patience:
            dog.resume()
            return
        self._progress, self._patience = exchange.progress, patience
        dog.expect("idle", patience)

    def _outcome(self, exchange: Exchange, lease: Lease, reason: Reason | None, *, cancelled: bool = False) -> Outcome:
        bill = self._target.bill(exchange)
        self._keys.settle(lease, bill.input + bill.output, self._loop.time())
        return Outcome(
            provider=self._target.provider,
            model=self._call.request.model,
            seconds=self._loop.time() - self._began,
            reason=reason,
            cancelled=cancelled,
            first_output=self._first_output,
            input_tokens=bill.input,
            output_tokens=bill.output,
            cost=None if bill.cost is None else dollars(bill.cost),
            tries=self.tries,
            skipped=exchange.decoder.skipped,
            bill=bill,
            pieces=exchange.pieces,
            queued=self._call.account.queued,
        )


async def _begun(chunks: AsyncGenerator[bytes, None]) -> bytes:
    """How a body begins, up to its first piece that is not blank."""
    begun = b""
    async for data in chunks:
        begun = (begun + data).lstrip()
        if begun:
            break
    return begun


async def _after(begun: bytes, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """A body of which the beginning has been read."""
    async with contextlib.aclosing(chunks):
        yield begun
        async for data in chunks:
            yield data


def _rest(exchange: Exchange, error: UpstreamError) -> bytes | None:
    """The end of a stream that broke after the provider had said that it is finished: then its answer is whole."""
    if not isinstance(error, StreamBroken | TimedOut) or exchange.finished is None or exchange.done:
        return None
    try:
        return exchange.close()
    except UpstreamError:
        return None


async def _once(data: bytes) -> AsyncGenerator[bytes, None]:
    yield data
