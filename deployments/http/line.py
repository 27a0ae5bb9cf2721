"""What an answer goes by, and what else is asked of the connection that a request came by.

Our own listeners and the hop put a line into ASGI's scope (`of`), for ASGI has no words for being told at once that the
caller has gone, without a task that waits for it; for a head that goes out with the first of its body; and for writing
a piece where there is room, without waiting. To any other server, Serve's ingress above all, an answer goes in ASGI's
messages (`Messages`).

Above it: `visit`. Below it: `reading`. Outside it: what is answered.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from deployments.http.reading import Scope, Send

EXTENSION = "penstock.line"
"""Of ASGI's scope: where `of` finds the line."""

CONTROLS = bytes({*range(32), 127} - {9})
"""What no header may hold (RFC 9110, section 5.5)."""

Headers = Sequence[tuple[bytes, bytes]]
"""Names in lower case."""


class Outgoing(Protocol):
    """The way of one answer."""

    async def begin(self, status: int, headers: Headers, *, hold: bool = False) -> None:
        """Send the head of an answer. hold: not before the first of its body, which comes at once."""

    async def more(self, data: bytes) -> None:
        """Send a piece of the body; returns when there is room for the next."""

    async def end(self, data: bytes = b"") -> None:
        """Send the last piece. Raises RuntimeError where the body has another length than its head says."""

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        """Send an answer whose body is here, and its length among the headers. Raises as `end`."""

    @property
    def free(self) -> bool:
        """Whether a piece of the body may be sent at once."""

    def put(self, data: bytes) -> None:
        """Send one at once; only where it is `free`."""


class Line(Outgoing, Protocol):
    """One request's, on a connection of ours. gone: called when the caller has gone."""

    gone: set[Callable[[], None]]

    @property
    def whole(self) -> bool:
        """Whether the request has come to its end."""

    def watch(self, gone: Callable[[], None]) -> None:
        """Call `gone` when the caller goes away; at once, soon, if he has."""


class Messages:
    """An answer in ASGI's messages."""

    free = False
    """Nobody knows whether there is room."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def begin(self, status: int, headers: Headers, *, hold: bool = False) -> None:
        """See `Outgoing`: what is held back is the server's affair."""
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def more(self, data: bytes) -> None:
        """See `Outgoing`."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        """See `Outgoing`."""
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        """See `Outgoing`."""
        await self.begin(status, headers)
        await self.end(body)

    def put(self, data: bytes) -> None:
        """See `Outgoing`: it never is free."""
        raise NotImplementedError


def of(scope: Scope) -> Line | None:
    """The line of a request, None where another server than ours has taken it in."""
    extensions = scope.get("extensions")
    ours = extensions.get(EXTENSION) if extensions else None
    return ours["line"] if ours else None
