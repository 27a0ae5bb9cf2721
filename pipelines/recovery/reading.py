"""One attempt's answer, whose frames are in the caller's dialect, read back to events.

Nothing that stands before a failure is lost, also where one piece of bytes holds both, and the answer's own account
(`Answer.outcome`), which comes after its last frame, is waited for.

Above it: `stream`. Below it: `calls`, `dialects`. Outside it: what the events are for.
"""

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing, suppress

from pipelines.calls import Answer
from pipelines.conversation import Usage
from pipelines.dialects.base import Decoder
from pipelines.dialects.sse import Frame, Framer
from pipelines.errors import StreamBroken, TimedOut, UpstreamError
from pipelines.events import Event, PartDelta
from pipelines.recovery.seam import NoSeam


class Reading:
    """Reads `frames` of `answer`. take: what becomes of each event; it may raise UpstreamError.

    done: the answer has come to its end; stopped: the provider has said why it stops.
    """

    def __init__(
        self,
        answer: Answer,
        frames: AsyncGenerator[bytes, None],
        decoder: Decoder,
        take: Callable[[Event], list[Event]],
    ) -> None:
        self.answer = answer
        self._frames = frames
        self._decoder = decoder
        self._take = take
        self._framer = Framer()
        self._pieces = 0

    @property
    def done(self) -> bool:
        """The answer has come to its end."""
        return self._decoder.done

    @property
    def stopped(self) -> bool:
        """The provider has said why it stops."""
        return self._decoder.finished is not None

    @property
    def spent(self) -> Usage:
        """What an attempt without figures of its own used: an estimate, as its own account has it if there is one."""
        outcome = self.answer.outcome
        if outcome is None:
            return Usage(output=self._pieces, estimated=True)
        return Usage(input=outcome.input_tokens, output=outcome.output_tokens, cost=outcome.cost, estimated=True)

    async def events(self) -> AsyncGenerator[list[Event], None]:
        """The events, as many at once as come at once. Raises UpstreamError where the answer breaks."""
        failure: UpstreamError | None = None
        async with aclosing(self._frames) as frames:
            try:
                async for data in frames:
                    events, failure = self._some(self._framer.feed(data))
                    yield events
                    if failure is not None or self.done:
                        break
            except UpstreamError as error:
                failure = error
            if not self.done:
                events, failure = self._end(failure)
                yield events
            if not isinstance(failure, NoSeam):
                with suppress(UpstreamError):
                    async for _ in frames:
                        pass
        if failure is not None:
            raise self._accounted(failure)

    def _some(self, frames: Iterable[Frame]) -> tuple[list[Event], UpstreamError | None]:
        """What comes of frames up to the first that fails, and its failure."""
        events: list[Event] = []
        try:
            for frame in frames:
                for event in self._decoder.joined(self._decoder.frame(frame)):
                    self._pieces += isinstance(event, PartDelta)
                    events += self._take(event)
        except UpstreamError as error:
            return events, error
        return events, None

    def _end(self, failure: UpstreamError | None) -> tuple[list[Event], UpstreamError | None]:
        """No more frames come. An answer of which it was said why it stops is whole, whatever became of the rest."""
        events: list[Event] = []
        if failure is None:
            events, failure = self._some(self._framer.close())
        if self.done or not (failure is None or isinstance(failure, StreamBroken | TimedOut)):
            return events, failure
        try:
            for event in self._decoder.joined(self._decoder.end()):
                events += self._take(event)
        except NoSeam as error:
            return events, error
        if self.done:
            return events, None
        return events, failure or StreamBroken("the stream ended before its answer did")

    def _accounted(self, failure: UpstreamError) -> UpstreamError:
        """The failure as the attempt itself knows it; what its last frame says of it is less."""
        if isinstance(failure, NoSeam):
            return failure
        if isinstance(self.answer.error, UpstreamError):
            return self.answer.error
        outcome = self.answer.outcome
        if outcome is not None and outcome.reason is not None:
            failure.reason = outcome.reason
            failure.provider = failure.provider or outcome.provider
        self.answer.error = failure
        return failure
