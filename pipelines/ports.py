"""What the floors above supply, as one-method protocols: a function, a fake or the real thing can stand in.

Above it: `deployments`. Below it: nothing. Outside it: every implementation.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Protocol

from pipelines.resilience import Timeouts


class UpstreamAnswer(Protocol):
    """A provider's HTTP answer whose body has not been read yet."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes. Raises StreamBroken where the connection breaks before the body's end."""

    async def whole(self, most: int) -> bytes:
        """The body once it is all here, in place of `chunks`. Raises likewise; ProtocolError beyond `most` bytes."""

    def pass_to(self, take: Callable[[bytes], bool]) -> None:
        """While the reader of `chunks` waits, what comes goes to `take` first; what that leaves (False) is his.

        A body that has to be worked on before it can be read goes to the reader alone.
        """

    async def close(self, *, whole: bool = False) -> None:
        """Give the connection back; one whose body was not read to its end is closed, which cancels the rest.

        whole: all that was wanted has been read, only the body's end may be missing; the connection can be kept.
        """


class Transport(Protocol):
    """Asks a provider over the network."""

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | AsyncGenerator[bytes, None],
        timeouts: Timeouts,
    ) -> UpstreamAnswer:
        """Send one request (its body whole or as it comes), wait for the answer's headers.

        Raises TimedOut (phase "connect") if no connection stands in time, StreamBroken if it breaks.
        """
