"""The `Dialect` object of OpenAI Responses: ties the readers and writers of this package together.

Above it: `pipelines.dialects`. Below it: every other module of this package, and OpenAI's error bodies, which the
chat dialect reads and writes.
"""

import re
from collections.abc import Mapping

import msgspec

from pipelines.conversation import Json, Request
from pipelines.dialects.base import Decoder, Encoder, Written
from pipelines.dialects.openai_chat import failures
from pipelines.dialects.openai_responses import output, request_reader, request_writer
from pipelines.dialects.openai_responses.decoder import ResponsesDecoder
from pipelines.dialects.openai_responses.encoder import ResponsesEncoder
from pipelines.dialects.openai_responses.opaque import NAME
from pipelines.errors import PenstockError, ProtocolError, UpstreamError
from pipelines.events import Completion, Event

_OURS = ("models", "penstock")
"""Fields of the gateway itself, which no provider sees."""


class OpenAIResponses:
    """One wire format, both directions."""

    name = NAME
    path = "/responses"
    sentinel = b""
    telling = re.compile(
        rb"\A(?!(?:(?:event: ?response\.[a-z_]+\.delta(?:\r\n|\n|\r)data:"
        rb'|data: ?\{"type": ?"response\.[a-z_]+\.delta")[^\r\n]*+(?:\r\n|\n|\r)*+)+\Z)'
    )
    """Matches whatever is not deltas and nothing else; written so that a delta costs one pass at the speed of C."""

    def read_request(self, body: Mapping[str, Json]) -> Request:
        """A caller's body to a request. Raises BadRequest with `param` as a path to the field."""
        return request_reader.read_request(body)

    def write_request(self, request: Request) -> Written:
        """A request to a provider's body, with `store: false`."""
        return request_writer.write_request(request)

    def decoder(self) -> Decoder:
        """A fresh decoder of a provider's stream."""
        return ResponsesDecoder()

    def encoder(self, request: Request) -> Encoder:
        """A fresh encoder for the caller who sent `request`."""
        return ResponsesEncoder(request)

    def read_answer(self, body: bytes) -> list[Event]:
        """A response object to the events of a whole stream.

        Raises ProtocolError where it is none or is not complete, UpstreamError where it says that it failed.
        """
        try:
            response = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError("the provider's answer is no JSON") from error
        if not isinstance(response, dict):
            raise ProtocolError("the provider's answer is no object")
        if response.get("error") and "output" not in response:
            raise failures.stream_failure(response)
        return ResponsesDecoder().whole(response)

    def write_answer(self, completion: Completion, request: Request) -> dict[str, Json]:
        """A whole answer to a response object."""
        return output.write_answer(completion, request)

    def read_error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        """A provider's error response (header names in lower case) to an error: reason, words, wait."""
        return failures.read_error(status, headers, body)

    def write_error(self, error: PenstockError) -> dict[str, Json]:
        """An error to OpenAI's error body."""
        return failures.write_error(error)

    def relay_request(self, body: dict[str, Json], model: str) -> dict[str, Json]:
        """The caller's own body with `model` set and our fields taken out.

        Usage always comes with this wire. `store` is the caller's own affair: where he left it out the provider's
        default holds, for forcing `store: false` would make ids of reasoning useless that he may send back.
        """
        return {**{key: value for key, value in body.items() if key not in _OURS}, "model": model}

    def relay_frame(self, raw: bytes, body: Mapping[str, Json]) -> bytes:
        """A raw frame as it is: there is none that a caller of this wire did not ask for."""
        return raw

    def mender(self) -> None:
        """Nothing needs mending."""


OPENAI_RESPONSES = OpenAIResponses()
