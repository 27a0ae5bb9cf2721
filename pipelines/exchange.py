"""One call at one provider, without I/O: what to send, and what of the provider's bytes goes to the caller.

Two ways, one interface (`Exchange`):
- `Relay`: caller and provider speak the same dialect. The provider's frames pass as they are, unknown fields and
  all; a decoder looks only at those that tell more than content (`Dialect.telling`), or come after a finish reason.
- `Translation`: they do not, or the provider would not take the tools as they are. Bytes become events, and events
  bytes of the caller's dialect; tools get names and schemas that the provider takes, and their own names back.

Both stand on the commit boundary (`committed`: content is at hand), on completeness (`close` raises where the
provider never finished) and on usage (`finished`).

Above it: the providers. Below it: the dialects. Outside it: HTTP, clocks, retries.
"""

from collections.abc import Callable, Iterable

import msgspec

from pipelines.calls import Call
from pipelines.conversation import Json, Usage
from pipelines.dialects import DIALECTS, WIRES
from pipelines.dialects.base import Decoder, Dialect, Encoder, Wire, amended
from pipelines.dialects.content import bytes_of_content
from pipelines.dialects.sse import Framer, parse
from pipelines.errors import PenstockError, UpstreamError
from pipelines.events import Event, Finished, PartDelta, PartEnded, PartStarted, Started, assemble
from pipelines.prompt_tokens import BYTES_A_TOKEN, length
from pipelines.tools import Restorer, offered_as_is, portable

RESERVED = b": penstock"
"""How comments between our own processes begin; a provider's comment that does is not passed on."""


class Exchange:
    """What both ways share. One object an attempt.

    dialect: what is spoken to the provider; body: what to send; stream: whether the provider is asked to stream;
    dropped: names of what the provider's dialect could not express; committed: content for the caller has been
    returned by `feed`; pieces: how many frames of content there were; content: bytes of text in them; progress: how
    many events of any kind (pings and comments are none); answered: the model as the provider names it. price: what
    this exchange has cost, in US dollars, for the frame of the caller's stream that says so; None: no frame does.
    began: when the provider is asked, in seconds since 1970: the time of an answer that is written anew and whose
    provider tells none.
    """

    price: Callable[["Exchange"], float | None] | None = None
    began: int = 0

    def __init__(self, dialect: Wire, body: dict[str, Json], *, stream: bool) -> None:
        self.dialect = dialect
        self.body = body
        self.stream = stream
        self.dropped: tuple[str, ...] = ()
        self.committed = False
        self.answered = ""
        self.pieces = 0
        self.content = 0
        self.progress = 0
        self.decoder: Decoder = dialect.decoder()

    @property
    def finished(self) -> Finished | None:
        """The provider's reason and usage, once it has given one."""
        return self.decoder.finished

    @property
    def done(self) -> bool:
        """Whether the provider's answer is whole and nothing more is expected of it."""
        return self.decoder.done

    @property
    def failure(self) -> UpstreamError | None:
        """Why the answer breaks off behind what `feed` or `close` returned last; the next of them raises it."""
        return self.decoder.failure

    @property
    def over(self) -> bool:
        """Whether nothing but usage and sentinel can follow.

        Behind a call of a tool another one may: Together ends each with a finish reason of its own, and tells the usage
        after the last.
        """
        finished = self.decoder.finished
        return finished is not None and (finished.usage is not None or finished.reason != "tool_calls")

    @property
    def usage(self) -> Usage:
        """Tokens: the provider's figures, or an estimate by what has come.

        A piece of content is a token at least: OpenAI sends each on its own, Anthropic a line of them. What the
        provider has counted before it got to the end (Anthropic: the input) is in the estimate.
        """
        if self.finished and self.finished.usage:
            return self.finished.usage
        so_far = self.decoder.usage or Usage()
        output = max(so_far.output, self.pieces, self.content // BYTES_A_TOKEN)
        return msgspec.structs.replace(so_far, output=output, estimated=True)

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the provider's stream; return whole frames for the caller (b"": nothing yet).

        Raises UpstreamError where the provider reports a failure: at once before the commit boundary, or if nothing
        stands before it in these bytes, else when next asked (`failure`). So what a caller gets does not hang on how
        the bytes were cut.
        """
        raise NotImplementedError

    def passed(self, data: bytes) -> bytes | None:
        """Take bytes that are one frame of content and nothing else; return them as the caller gets them.

        None: `feed` is to take them.
        """
        return None

    def close(self) -> bytes:
        """The provider's stream ended; return what is left to say.

        Raises StreamBroken if it is not whole, and what `feed` raises: at once or when next asked, as there.
        """
        raise NotImplementedError

    def whole(self, body: bytes) -> bytes:
        """The provider's non-streaming answer as the caller's. Raises ProtocolError if it is none."""
        raise NotImplementedError

    def fail(self, error: PenstockError) -> bytes:
        """The frame that ends the caller's stream with an error."""
        raise NotImplementedError

    def _each(self, frames: Iterable[bytes], take: Callable[[bytes], bytes]) -> bytes:
        """What `take` makes of the frames, up to one that is a failure (`_until`)."""
        committed = self.committed
        said: list[bytes] = []
        try:
            for raw in frames:
                made = take(raw)
                said.append(made)
        except UpstreamError as error:
            return self._until(error, b"".join(said), committed=committed)
        return b"".join(said)

    def _until(self, failure: UpstreamError, said: bytes, *, committed: bool) -> bytes:
        """What was said before a failure, which is kept for later; raises it where nothing of that may go out."""
        if not said or not committed:
            raise failure
        self.decoder.failure = failure
        return said

    def _read_whole(self, body: bytes) -> list[Event]:
        """The events of a whole answer, which says why it ended."""
        events = self.dialect.read_answer(body)
        self.decoder.finished = next((event for event in events if isinstance(event, Finished)), None)
        return events

    def _written(self, encoder: Encoder, caller: Dialect, events: list[Event]) -> bytes:
        """Events as frames in the caller's dialect; the end of a stream with what it cost."""
        said = b"".join([encoder.encode(event) for event in events])
        if self.price is None or not events or not isinstance(events[-1], Finished):
            return said
        cost = self.price(self)
        frames = said.split(b"\n\n")[:-1]
        return b"".join([amended(raw + b"\n\n", lambda frame: caller.set_cost(frame, cost)) for raw in frames])

    def _note(self, events: list[Event]) -> None:
        self.progress += len(events)
        for event in events:
            if isinstance(event, PartDelta):
                self.pieces += 1
                self.content += length(event.text)
                self.committed = self.committed or bool(event.text)
            elif isinstance(event, PartStarted):
                self.committed = self.committed or event.kind in ("tool_call", "foreign")
            elif isinstance(event, Finished | PartEnded):
                # An answer may be empty; that it is whole is content too.
                self.committed = True
            elif isinstance(event, Started):
                self.answered = event.model


class Relay(Exchange):
    """Same dialect on both sides."""

    dialect: Dialect

    def __init__(self, call: Call, dialect: Dialect, model: str) -> None:
        super().__init__(dialect, dialect.relay_request(call.body, model), stream=call.stream)
        self._call = call
        self._framer = Framer()
        self._mend = dialect.mender()

    def feed(self, data: bytes) -> bytes:
        """See `Exchange.feed`."""
        if self.decoder.failure is not None:
            self.decoder.ask()
        passed = self.passed(data)
        if passed is not None:
            return passed
        return self._each(self._framer.cut(data), self._mended)

    def passed(self, data: bytes) -> bytes | None:
        """See `Exchange.passed`: nearly all pieces are such frames.

        Two of them that a CR parts are no JSON together, so `_counted` leaves them.
        """
        if (
            self.committed
            and self.decoder.finished is None
            and self._framer.empty
            and data.find(b"\n\n") == len(data) - 2
            and not self.dialect.telling.search(data)
            and self._counted(data)
        ):
            return data if self._mend is None else self._mend(data)
        return None

    def close(self) -> bytes:
        """See `Exchange.close`. A sentinel that the provider forgot is written for it."""
        self.decoder.ask()
        committed = self.committed
        ready = self._framer.rest()
        passed = self._mended(ready + b"\n\n") if ready.strip() else b""
        if self.decoder.done:
            return passed
        try:
            self._note(self.decoder.close())
        except UpstreamError as error:
            return self._until(error, passed, committed=committed)
        return passed + self.dialect.sentinel

    def whole(self, body: bytes) -> bytes:
        """See `Exchange.whole`: the provider's own bytes, once they are known to be an answer.

        For a caller who wants a stream they are written as one.
        """
        plain = None if self.stream else self.dialect.read_plain(body)
        if plain is not None:
            self.answered, self.decoder.finished = plain
            self.committed = True
            self.pieces += 1
            self.progress += 1
            return body
        events = self._read_whole(body)
        self._note(events)
        if not self.stream:
            return body
        self.decoder.done = True
        return self._written(self.dialect.encoder(self._call.request), self.dialect, events)

    def fail(self, error: PenstockError) -> bytes:
        """See `Exchange.fail`."""
        return self.dialect.encoder(self._call.request).error(error)

    def _mended(self, raw: bytes) -> bytes:
        passed = self._pass(raw)
        return passed if self._mend is None else self._mend(passed)

    def _pass(self, raw: bytes) -> bytes:
        # What comes after a finish reason is decoded: it may undo it.
        content = self.committed and self.decoder.finished is None and not self.dialect.telling.search(raw)
        if content and self._counted(raw):
            return raw
        if self.decoder.done or raw.startswith(RESERVED):
            return b""
        skipped = self.decoder.skipped
        self._note(self.decoder.frame(parse(raw)))
        if self.decoder.skipped > skipped:
            return b""
        passed = self.dialect.relay_frame(raw, self._call.body)
        if self.price is not None and passed and self.finished is not None and self.finished.usage is not None:
            return self._priced(passed, self.price(self))
        return passed

    def _counted(self, raw: bytes) -> bool:
        """Count a frame of content. False: it is none that can pass undecoded."""
        size = bytes_of_content(raw)
        if size < 0:
            return False
        self.pieces += 1
        self.content += size
        self.progress += 1
        return True

    def _priced(self, raw: bytes, cost: float | None) -> bytes:
        """The last frame but for the sentinel; as it is where nobody knows the price."""
        return raw if cost is None else amended(raw, lambda frame: self.dialect.set_cost(frame, cost))


class Translation(Exchange):
    """Everything is read and written anew. The provider is always asked to stream."""

    def __init__(self, call: Call, dialect: Wire, model: str) -> None:
        request, names, lost = portable(call.request, dialect.name)
        request = msgspec.structs.replace(request, model=model, stream=True, include_usage=True)
        written = dialect.write_request(request)
        super().__init__(dialect, written.body, stream=True)
        self.dropped = tuple(dict.fromkeys(lost + written.dropped))
        self._restorer = Restorer(names)
        self._call = call
        self._caller = DIALECTS[call.dialect]
        self._encoder = self._caller.encoder(call.request)
        self._events: list[Event] = []

    def feed(self, data: bytes) -> bytes:
        """See `Exchange.feed`."""
        if self.decoder.done:
            return b""
        events = self.decoder.feed(data)
        if not self.committed:
            self.decoder.ask()
        return self._say(events)

    def close(self) -> bytes:
        """See `Exchange.close`."""
        if self.decoder.done:
            return b""
        self.decoder.ask()
        committed = self.committed
        said = self._say(self.decoder.rest())
        try:
            return said + self._say(self.decoder.close())
        except UpstreamError as error:
            return self._until(error, said, committed=committed)

    def answer(self) -> bytes:
        """The whole answer for a caller who wants no stream; after `close`. Raises StreamBroken."""
        return msgspec.json.encode(self._caller.write_answer(assemble(self._events), self._call.request))

    def whole(self, body: bytes) -> bytes:
        """See `Exchange.whole`: for a provider that answers without a stream although it was asked to."""
        events = self._read_whole(body)
        self.decoder.done = True
        said = self._say(events)
        return said if self._call.stream else self.answer()

    def fail(self, error: PenstockError) -> bytes:
        """See `Exchange.fail`."""
        return self._encoder.error(error)

    def _say(self, events: list[Event]) -> bytes:
        self._note(events)
        events = self._restorer.restore(events)
        first = events[0] if events else None
        if isinstance(first, Started) and not first.created:
            events = [msgspec.structs.replace(first, created=self.began), *events[1:]]
        if not self._call.stream:
            self._events += events
            return b""
        return self._written(self._encoder, self._caller, events)


def exchange(call: Call, spoken: tuple[str, ...], model: str) -> Relay | Translation:
    """The way between `call` and a provider that speaks the wires `spoken`, best first.

    A call in a dialect that the provider speaks is relayed, unless the provider would refuse its tools as they are.
    Raises BadRequest where the provider's dialect cannot express the call at all.
    """
    if call.dialect not in spoken:
        return Translation(call, WIRES[spoken[0]], model)
    way = Relay if offered_as_is(call.request.tools, call.dialect) else Translation
    return way(call, DIALECTS[call.dialect], model)
