"""The `Dialect` object of the Anthropic Messages API: ties the readers and writers of this package together.

Above it: `pipelines.dialects`. Below it: every other module of this package.
"""

from collections.abc import Mapping

from pipelines.conversation import Json, Request
from pipelines.dialects.anthropic_messages import answers, failures, relay
from pipelines.dialects.anthropic_messages.decoder import MessagesDecoder
from pipelines.dialects.anthropic_messages.encoder import SENTINEL, MessagesEncoder
from pipelines.dialects.anthropic_messages.opaque import NAME
from pipelines.dialects.anthropic_messages.request_reader import read_request
from pipelines.dialects.anthropic_messages.request_writer import write_request
from pipelines.dialects.base import Decoder, Encoder, Written
from pipelines.errors import PenstockError, UpstreamError
from pipelines.events import Completion, Event


class AnthropicMessages:
    """See `pipelines.dialects.base.Dialect`, which says what each member does."""

    name = NAME
    path = "/messages"
    sentinel = SENTINEL
    telling = relay.TELLING

    def read_request(self, body: Mapping[str, Json]) -> Request:
        """A caller's body to a request. Raises BadRequest with `param` as a path to the field."""
        return read_request(body)

    def write_request(self, request: Request) -> Written:
        """A request to a provider's body. Raises BadRequest where nothing of its messages can be said."""
        return write_request(request)

    def decoder(self) -> Decoder:
        """A fresh decoder of a provider's stream."""
        return MessagesDecoder()

    def encoder(self, request: Request) -> Encoder:
        """A fresh encoder for the caller who sent `request`."""
        return MessagesEncoder(request)

    def read_answer(self, body: bytes) -> list[Event]:
        """A provider's whole answer to events. Raises ProtocolError, or UpstreamError for an error in a 200."""
        return answers.read_answer(body)

    def write_answer(self, completion: Completion, request: Request) -> dict[str, Json]:
        """A whole answer to the caller's body."""
        return answers.write_answer(completion, request)

    def read_error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        """A provider's error response to an error: reason, words, wait."""
        return failures.read_error(status, headers, body)

    def write_error(self, error: PenstockError) -> dict[str, Json]:
        """An error to the caller's body."""
        return failures.write_error(error)

    def relay_request(self, body: dict[str, Json], model: str) -> dict[str, Json]:
        """The caller's own body for a provider of this dialect."""
        return relay.relay_request(body, model)

    def relay_frame(self, raw: bytes, body: Mapping[str, Json]) -> bytes:
        """A raw frame as the caller of `body` expects it: unchanged, usage being part of every stream."""
        return raw

    def mender(self) -> None:
        """Nothing needs mending."""


ANTHROPIC_MESSAGES = AnthropicMessages()
