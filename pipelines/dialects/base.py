"""What every dialect is: client and server of one wire format, without I/O.

A dialect module gives one `Dialect` object. As a server it reads a caller's request and renders events for him;
as a client it renders our request for a provider and decodes what comes back. `relay` and `translation` in
`pipelines.exchange` put a client and a server together.

Above it: `exchange`, `deployments`. Below it: `conversation`, `events`, `errors`, `sse`. Outside it: HTTP.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from pipelines.conversation import Json, Request
from pipelines.dialects import sse
from pipelines.errors import PenstockError, StreamBroken, UpstreamError
from pipelines.events import Completion, Event, Finished


class Written(NamedTuple):
    """A request rendered for a provider, and the names of what that dialect could not express."""

    body: dict[str, Json]
    dropped: tuple[str, ...] = ()


class Decoder:
    """A provider's stream to events. One object a stream; subclasses fill in `frame` and `end`.

    finished: the `Finished` event once the provider has said why it stopped. It may come to be before the
    stream's last frame (usage often follows), so `done` says when nothing more is expected.
    skipped: malformed frames passed over.
    """

    def __init__(self) -> None:
        self.framer = sse.Framer()
        self.finished: Finished | None = None
        self.done = False
        self.skipped = 0

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes, however split; return the events that they complete.

        Raises UpstreamError (or a subclass) where the provider reports a failure in mid-stream.
        """
        events: list[Event] = []
        for raw in self.framer.cut(data):
            events += self.frame(sse.parse(raw))
        return events

    def close(self) -> list[Event]:
        """The connection ended. Returns what was still to say, `Finished` last.

        Raises StreamBroken if the provider never said why it stopped.
        """
        events: list[Event] = []
        for frame in self.framer.close():
            events += self.frame(frame)
        if not self.done:
            events += self.end()
        if not self.done:
            raise StreamBroken("the provider's stream ended before its answer did")
        return events

    def frame(self, frame: sse.Frame) -> list[Event]:
        """One parsed frame to events. A frame that is no JSON is skipped and counted."""
        raise NotImplementedError

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


class Dialect(Protocol):
    """One wire format, both directions."""

    name: str
    """The key in `DIALECTS`, in `opaque` and in `extra`."""

    path: str
    """Where a provider that speaks it takes requests, below its base URL (`/chat/completions`)."""

    sentinel: bytes
    """The frame that ends a stream with success, for a provider that forgot it (b"" where there is none)."""

    telling: re.Pattern[bytes]
    """Matches every chunk that holds more than content: finish, usage, error, ping, comment, sentinel.

    A relayed chunk without a match is content and passes undecoded.
    """

    def read_request(self, body: Mapping[str, Json]) -> Request:
        """A caller's body to a request. Raises BadRequest with `param` as a path to the field."""

    def write_request(self, request: Request) -> Written:
        """A request to a provider's body (streaming if `request.stream`, usage always asked for)."""

    def decoder(self) -> Decoder:
        """A fresh decoder of a provider's stream."""

    def encoder(self, request: Request) -> Encoder:
        """A fresh encoder for the caller who sent `request`."""

    def read_answer(self, body: bytes) -> list[Event]:
        """A provider's non-streaming answer to the events of a whole stream. Raises ProtocolError."""

    def write_answer(self, completion: Completion, request: Request) -> dict[str, Json]:
        """A whole answer to the caller's non-streaming body."""

    def read_error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        """A provider's error response (header names in lower case) to an error: reason, words, wait."""

    def write_error(self, error: PenstockError) -> dict[str, Json]:
        """An error to the caller's body."""

    def relay_request(self, body: dict[str, Json], model: str) -> dict[str, Json]:
        """The caller's own body for a provider of the same dialect: `model` set, usage asked for.

        Our own fields (`models`, `penstock`) are taken out; unknown ones stay.
        """

    def relay_frame(self, raw: bytes, body: Mapping[str, Json]) -> bytes:
        """A raw frame as the caller of `body` expects it: b"" for a usage frame that he did not ask for."""

    def mender(self) -> Callable[[bytes], bytes] | None:
        """A fresh mender for one relayed stream, called with each frame; None where nothing needs mending."""
