"""What every wire format is, without I/O: the client of a `Wire`, client and server of a `Dialect`.

A package of `dialects` gives one object. As a client it renders our request for a provider and decodes what comes
back; a dialect is a wire that callers speak too: as a server it reads a caller's request and renders events for him.
`Relay` and `Translation` in `pipelines.exchange` put a client and a server together.

Above it: `exchange`, `deployments`. Below it: `conversation`, `events`, `errors`, `sse`. Outside it: HTTP.
"""

import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec

from pipelines.conversation import Json, Opaque, Request, Usage
from pipelines.dialects import lenient, sse
from pipelines.errors import PenstockError, StreamBroken, UpstreamError
from pipelines.events import Completion, Event, Finished


class Written(NamedTuple):
    """A request rendered for a provider, and the names of what that dialect could not express."""

    body: dict[str, Json]
    dropped: tuple[str, ...] = ()


class Framing(Protocol):
    """Cuts a provider's bytes, however they are split, into frames: `sse.Framer`, `ndjson.Framer`."""

    def feed(self, data: bytes) -> list[sse.Frame]:
        """Take more bytes; return the frames that they complete. Raises ProtocolError for one that is too long."""

    def close(self) -> list[sse.Frame]:
        """The stream ended; return a last frame that lacks its end."""


class Decoder:
    """A provider's stream to events. One object a stream; subclasses fill in `frame` and `end`.

    framing: how the wire cuts its stream; server-sent events unless given.
    finished: the `Finished` event once the provider has said why it stopped. It may come to be before the
    stream's last frame (usage often follows), so `done` says when nothing more is expected.
    skipped: malformed frames passed over.
    failure: why the stream breaks off behind what was returned last; `ask`, `feed` or `close` raises it, once.
    """

    def __init__(self, framing: Framing | None = None) -> None:
        self._framing: Framing = framing or sse.Framer()
        self.finished: Finished | None = None
        self.done = False
        self.skipped = 0
        self.failure: UpstreamError | None = None
        self._halves: lenient.Halves | None = None

    @property
    def usage(self) -> Usage | None:
        """What the provider has counted so far, where its wire says so before the end."""
        return None

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes, however split; return the events that they complete.

        Raises UpstreamError (or a subclass) where the provider reports a failure in mid-stream: at once if nothing
        stands before it in these bytes, else when next asked (`failure`).
        """
        if self.failure is not None:
            self.ask()
        events: list[Event] = []
        try:
            for frame in self._framing.feed(data):
                events += self.frame(frame)
        except UpstreamError as error:
            if not events:
                raise
            self.failure = error
        return events if self._halves is None else self._halves.joined(events)

    def ask(self) -> None:
        """Raise the failure that stands behind what was returned last, if there is one."""
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure

    def rest(self) -> list[Event]:
        """The connection ended: the events of a last frame that lacks its end."""
        events: list[Event] = []
        for frame in self._framing.close():
            events += self.frame(frame)
        return self.joined(events)

    def close(self) -> list[Event]:
        """The connection ended. Returns what was still to say, `Finished` last.

        Raises StreamBroken if the provider never said why it stopped.
        """
        self.ask()
        events = self.rest()
        if not self.done:
            events += self.joined(self.end())
        if not self.done:
            raise StreamBroken("the provider's stream ended before its answer did")
        return events

    def frame(self, frame: sse.Frame) -> list[Event]:
        """One parsed frame to events, which `joined` is to see. A frame that is no JSON is skipped and counted."""
        raise NotImplementedError

    def refused(self, data: bytes) -> Json:
        """A frame's value that msgspec refuses, None where it is no JSON. From then on `joined` has work."""
        value = lenient.read_piece(data)
        if value is not None and self._halves is None:
            self._halves = lenient.Halves()
        return value

    def joined(self, events: list[Event]) -> list[Event]:
        """What `frame` or `end` told, in whole characters (`lenient.Halves`)."""
        return events if self._halves is None else self._halves.joined(events)

    def end(self) -> list[Event]:
        """The connection ended without the sentinel: if the answer is whole all the same, end it."""
        raise NotImplementedError


class Encoder:
    """Events to a caller's stream. One object a stream."""

    def encode(self, event: Event) -> bytes:
        """One event as frames (b"" where the dialect has nothing to say). `Finished` writes the sentinel."""
        raise NotImplementedError

    def error(self, error: PenstockError) -> bytes:
        """An error in mid-stream, in the dialect's own form, with no success sentinel after it."""
        raise NotImplementedError


def amended(raw: bytes, change: Callable[[dict[str, Json]], bool]) -> bytes:
    """A raw frame whose JSON object `change` has changed; the frame as it is where it has none, or nothing changed."""
    start = raw.find(b"data:")
    try:
        value = msgspec.json.decode(raw[start + 5 :]) if start >= 0 else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return raw
    if not isinstance(value, dict) or not change(value):
        return raw
    return b"%bdata: %b\n\n" % (raw[:start], msgspec.json.encode(value))


def no_cost(frame: dict[str, Json], cost: float | None) -> bool:
    """No frame has room for it."""
    return False


OUR_FIELDS = frozenset(("models", "penstock"))
"""Members of a request that are for us: the list of fall-backs, and our own settings. No provider sees them."""


def with_model(body: Mapping[str, Json]) -> Mapping[str, Json]:
    """The body; where it names no `model` but `models`, with the first of these in its place.

    Source: https://openrouter.ai/docs/features/model-routing (its SDK sends `models` alone).
    """
    models = body.get("models") if body.get("model") is None else None
    if not isinstance(models, list) or not models or not isinstance(models[0], str):
        return body
    return {**body, "model": models[0]}


_SAID_TOO = {
    "openai_chat": frozenset(
        ("max_tokens", "reasoning.effort", "reasoning.enabled", "reasoning.max_tokens", "reasoning.summary")
    ),
    "anthropic_messages": frozenset(("output_config.effort", "thinking.type", "thinking.budget_tokens")),
}
"""Members of `extra` that the request says in its own words too; they are kept for the form that they came in."""


def unsaid(extra: Opaque | None, dialect: str) -> Opaque:
    """What of a request's `extra` a provider of `dialect` is not told: other dialects' members, in no other words."""
    shares = {name: share for name, share in (extra or {}).items() if name != dialect}
    left = {
        name: {member: value for member, value in share.items() if _is_lost(member, value, _SAID_TOO.get(name, ()))}
        if isinstance(share, dict)
        else share
        for name, share in shares.items()
    }
    return {name: share for name, share in left.items() if share}


def _is_lost(member: str, value: Json, said: Container[str]) -> bool:
    if isinstance(value, dict) and value:
        return any(f"{member}.{inner}" not in said for inner in value)
    return member not in said


def relay_request(body: dict[str, Json], model: str) -> dict[str, Json]:
    """The caller's own body with `model` set and our fields taken out; unknown ones stay."""
    return {**{name: value for name, value in body.items() if name not in OUR_FIELDS}, "model": model}


def relay_frame(raw: bytes, body: Mapping[str, Json]) -> bytes:
    """The frame as it is."""
    return raw


def add_user_turn(body: dict[str, Json], text: str) -> dict[str, Json]:
    """The body with one more user turn of plain text at the end of its `messages`."""
    return {**body, "messages": [*body["messages"], {"role": "user", "content": text}]}


def our_members(opaque: Opaque | None) -> dict[str, Json]:
    """What we tell the caller ourselves about an answer: the member `penstock` of what ends it, if there is any."""
    return {name: value for name, value in (opaque or {}).items() if name == "penstock"}


class Plain(NamedTuple):
    """What a whole answer of one text tells of itself: the model as the provider names it, reason and usage."""

    answered: str
    finished: Finished


def _as_it_is(extra: Opaque | None) -> Opaque | None:
    """What a request brings of this dialect's own forces nothing."""
    return extra


def _no_mender() -> None:
    """Nothing needs mending."""


def _not_plain(body: bytes) -> None:
    """Every answer is read as events."""


@dataclass(frozen=True, kw_only=True)
class Wire:
    """One wire format as its client: what a provider must speak.

    name: the key in `WIRES`, in `opaque` and in `extra`.
    path: where a provider that speaks it takes requests, below its base URL (`/chat/completions`).

    write_request: a request to a provider's body (streaming if `request.stream`, usage always asked for). decoder: a
    fresh decoder of a provider's stream. read_answer: a provider's non-streaming answer to the events of a whole
    stream; raises ProtocolError, or UpstreamError for an error inside a 200. read_error: a provider's error response
    (header names in lower case) to an error: reason, words, wait.
    """

    name: str
    path: str
    write_request: Callable[[Request], Written]
    decoder: Callable[[], Decoder]
    read_answer: Callable[[bytes], list[Event]]
    read_error: Callable[[int, Mapping[str, str], bytes], UpstreamError]


@dataclass(frozen=True, kw_only=True)
class Dialect(Wire):
    """One wire format, both directions: what a caller may speak, and a provider too.

    name: the key in `DIALECTS` too.
    sentinel: the frame that ends a stream with success, for a provider that forgot it (b"" where there is none).
    last: matches the frame after which a stream is whole, in any bytes that end with it.
    telling: matches every frame that holds more than content (finish, usage, error, ping, comment, sentinel); a
    relayed frame without a match is content and passes undecoded.

    As a server. read_request: a caller's body to a request; raises BadRequest with `param` as a path to the field.
    encoder: a fresh encoder for the caller of a request. write_answer: a whole answer to the caller's non-streaming
    body. write_error: an error to the caller's body. add_user_turn: a caller's body with one more turn at its end.

    Between a caller and a provider of the same dialect. relay_request: the caller's own body for the provider.
    relay_frame: a raw frame as the caller of a body expects it, b"" for one that he did not ask for. mender: a fresh
    mender for one relayed stream, called with each frame; None where nothing needs mending.

    read_plain: what is told of a provider's whole answer where that is one text and nothing else, without events; None
    for any other.

    unforced: a request's `extra` without what of this dialect's own forces a call of a tool.

    set_cost: writes what an answer costs (US dollars, None: unknown) into a decoded frame of the caller's stream, if
    that is the one for it; whether it was.
    """

    sentinel: bytes
    last: re.Pattern[bytes]
    telling: re.Pattern[bytes]
    read_request: Callable[[Mapping[str, Json]], Request]
    encoder: Callable[[Request], Encoder]
    write_answer: Callable[[Completion, Request], dict[str, Json]]
    write_error: Callable[[PenstockError], dict[str, Json]]
    add_user_turn: Callable[[dict[str, Json], str], dict[str, Json]] = add_user_turn
    relay_request: Callable[[dict[str, Json], str], dict[str, Json]] = relay_request
    relay_frame: Callable[[bytes, Mapping[str, Json]], bytes] = relay_frame
    mender: Callable[[], Callable[[bytes], bytes] | None] = _no_mender
    read_plain: Callable[[bytes], Plain | None] = _not_plain
    unforced: Callable[[Opaque | None], Opaque | None] = _as_it_is
    set_cost: Callable[[dict[str, Json], float | None], bool] = no_cost
