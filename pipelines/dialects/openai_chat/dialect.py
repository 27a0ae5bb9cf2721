"""The `Dialect` object of OpenAI chat completions: ties the readers and writers of this package together."""

from collections.abc import Mapping

from pipelines.conversation import Json, Request
from pipelines.dialects.base import Decoder, Encoder, Written
from pipelines.dialects.openai_chat import answers, failures, relay
from pipelines.dialects.openai_chat.decoder import ChatDecoder
from pipelines.dialects.openai_chat.encoder import DONE, ChatEncoder
from pipelines.dialects.openai_chat.repeats import Repeats
from pipelines.dialects.openai_chat.request_reader import read_request
from pipelines.dialects.openai_chat.request_writer import write_request
from pipelines.dialects.openai_chat.thoughts import KEY
from pipelines.errors import PenstockError, UpstreamError
from pipelines.events import Completion, Event


class OpenAIChat:
    """See `pipelines.dialects.base.Dialect`, which says what each member does."""

    name = KEY
    path = "/chat/completions"
    sentinel = DONE
    telling = relay.TELLING

    def read_request(self, body: Mapping[str, Json]) -> Request:
        """A caller's body to a request. Raises BadRequest with `param` as a path to the field."""
        return read_request(body)

    def write_request(self, request: Request) -> Written:
        """A request to a provider's body."""
        return write_request(request)

    def decoder(self) -> Decoder:
        """A fresh decoder of a provider's stream."""
        return ChatDecoder()

    def encoder(self, request: Request) -> Encoder:
        """A fresh encoder for the caller who sent `request`."""
        return ChatEncoder(request)

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
        """A raw frame as the caller of `body` expects it."""
        return relay.relay_frame(raw, body)

    def mender(self) -> Repeats:
        """What some servers repeat is said once."""
        return Repeats()


OPENAI_CHAT = OpenAIChat()
