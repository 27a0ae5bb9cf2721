"""One call at one provider: asked again while nothing has been handed out, then streamed to its end.

The commit boundary is the first content. Until it is at hand `ask` returns nothing, and a failure may be followed
by another try at the same provider (`pipelines.resilience`); after it a failure ends the stream with an error
frame, never with a sentinel.

Above it: `providers.base`. Below it: `pipelines`, `watchdog`. Outside it: which provider, which headers.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import NamedTuple

import msgspec

from deployments.watchdog import Watchdog
from pipelines.calls import Answer, Call
from pipelines.errors import PenstockError, ProtocolError, Reason, StreamBroken, TimedOut, UpstreamError
from pipelines.exchange import Exchange, Translation
from pipelines.ports import Transport, UpstreamAnswer
from pipelines.resilience import RetryBudget, RetryPolicy, Timeouts
from pipelines.routing.table import Outcome

MAX_ANSWER = 64 * 1024 * 1024
"""Bytes of a non-streaming answer."""

MAX_ERROR = 256 * 1024
"""Bytes read of an error's body."""

LINGER = 2.0
"""Seconds that a provider has for usage and sentinel once it has said why it stopped."""


class Target(NamedTuple):
    """Where to send (an address for the dialect that is spoken), and with what patience."""

    provider: str
    address: Callable[[str], str]
    headers: Mapping[str, str]
    timeouts: Timeouts
    policy: RetryPolicy


class Opened(NamedTuple):
    """An attempt whose first content is at hand."""

    exchange: Exchange
    upstream: UpstreamAnswer
    chunks: AsyncGenerator[bytes, None]
    head: bytes


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
        renew: Callable[[], Exchange],
    ) -> None:
        self._call = call
        self._target = target
        self._transport = transport
        self._budget = budget
        self._renew = renew
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._first_output: float | None = None
        self.tries = 0
        self.dropped: tuple[str, ...] = ()

    async def ask(self) -> Answer:
        """The answer, at its first content. Raises PenstockError when the provider has none for us."""
        self._budget.deposit(self._loop.time())
        while True:
            self.tries += 1
            try:
                return await self._try()
            except PenstockError as error:
                if isinstance(error, UpstreamError) and not error.provider:
                    error.provider = self._target.provider
                # Jitter needs no cryptographic randomness.
                wait = self._target.policy.wait(error, self.tries, random.random())
                if wait is None or not self._budget.withdraw(self._loop.time()):
                    raise
                await asyncio.sleep(wait)

    async def _try(self) -> Answer:
        exchange = self._renew()
        self.dropped = exchange.dropped
        timeouts = self._target.timeouts
        with Watchdog(self._target.provider) as dog:
            dog.limit(timeouts.total)
            dog.expect("first_event", timeouts.first_event if exchange.stream else timeouts.total)
            url = self._target.address(exchange.dialect.name)
            body = msgspec.json.encode(exchange.body)
            upstream = await self._transport.send("POST", url, self._target.headers, body, timeouts)
            try:
                return await self._read(exchange, upstream, dog)
            except BaseException:
                await upstream.close()
                raise

    async def _read(self, exchange: Exchange, upstream: UpstreamAnswer, dog: Watchdog) -> Answer:
        if upstream.status != 200:
            body = await _whole(upstream, MAX_ERROR, cut=True)
            raise exchange.dialect.read_error(upstream.status, upstream.headers, body)
        if not exchange.stream or upstream.headers.get("content-type", "").startswith("application/json"):
            return await self._unary(exchange, upstream)
        chunks = upstream.chunks()
        head = await self._head(exchange, chunks, dog)
        self._first_output = self._loop.time() - self._began
        opened = Opened(exchange, upstream, chunks, head)
        answer = Answer(headers={"content-type": "text/event-stream"})
        if self._call.stream:
            answer.frames = self._frames(opened, answer)
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

    async def _unary(self, exchange: Exchange, upstream: UpstreamAnswer) -> Answer:
        body = await _whole(upstream, MAX_ANSWER)
        await upstream.close()
        whole = exchange.whole(body)
        answer = Answer(headers={"content-type": "application/json"})
        answer.outcome = self._outcome(exchange, None)
        if self._call.stream:
            answer.headers["content-type"] = "text/event-stream"
            answer.frames = _once(whole)
        else:
            answer.body = whole
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
                async for data in self._rest(opened):
                    yield data
            except UpstreamError as error:
                error.provider = error.provider or self._target.provider
                reason = error.reason
                answer.error = error
                yield exchange.fail(error)
            cancelled = False
        finally:
            await opened.chunks.aclose()
            await opened.upstream.close()
            answer.outcome = self._outcome(exchange, reason, cancelled=cancelled)

    async def _rest(self, opened: Opened) -> AsyncGenerator[bytes, None]:
        try:
            async with contextlib.aclosing(self._pump(opened)) as pump:
                async for data in pump:
                    yield data
        except (StreamBroken, TimedOut):
            if opened.exchange.finished is None or opened.exchange.done:
                raise
            # The provider had said that it is finished: its answer is whole, whatever became of the rest.
            yield opened.exchange.close()

    async def _pump(self, opened: Opened) -> AsyncGenerator[bytes, None]:
        exchange, timeouts = opened.exchange, self._target.timeouts
        progress = -1
        with Watchdog(self._target.provider) as dog:
            dog.limit(timeouts.total - (self._loop.time() - self._began))
            while not exchange.done:
                if exchange.progress != progress:
                    progress = exchange.progress
                    dog.expect("idle", timeouts.idle if exchange.finished is None else LINGER)
                else:
                    dog.resume()
                data = await anext(opened.chunks, b"")
                said = exchange.feed(data) if data else exchange.close()
                dog.rest()
                if said:
                    yield said

    def _outcome(self, exchange: Exchange, reason: Reason | None, *, cancelled: bool = False) -> Outcome:
        usage = exchange.usage
        return Outcome(
            provider=self._target.provider,
            model=self._call.request.model,
            seconds=self._loop.time() - self._began,
            reason=reason,
            cancelled=cancelled,
            first_output=self._first_output,
            input_tokens=usage.input,
            output_tokens=usage.output,
            cost=usage.cost,
        )


async def _whole(upstream: UpstreamAnswer, most: int, *, cut: bool = False) -> bytes:
    """The whole body, of `most` bytes at the most; more is cut off or a ProtocolError."""
    parts: list[bytes] = []
    length = 0
    async with contextlib.aclosing(upstream.chunks()) as chunks:
        async for chunk in chunks:
            parts.append(chunk)
            length += len(chunk)
            if length > most:
                if cut:
                    break
                raise ProtocolError(f"the provider's answer is longer than {most} bytes")
    return b"".join(parts)[:most]


async def _once(data: bytes) -> AsyncGenerator[bytes, None]:
    yield data
