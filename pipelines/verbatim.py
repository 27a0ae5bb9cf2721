"""A call that is no conversation (embeddings, legacy completions, token counts): the provider's bytes as they are.

Looked at only for what metering and completeness need: usage, the finish reason of a stream, its sentinel.

Above it: the providers. Below it: `exchange`'s interface, `sse`. Outside it: what the bodies mean.
"""

import re

import msgspec

from pipelines.calls import Call
from pipelines.conversation import Json, Usage
from pipelines.dialects import DIALECTS
from pipelines.dialects.base import Dialect, relay_request
from pipelines.dialects.sse import Framer, frame, parse
from pipelines.errors import PenstockError, ProtocolError, StreamBroken
from pipelines.events import Finished
from pipelines.exchange import Exchange

_FINISHED = re.compile(rb'"finish_reason":\s*"')


class Verbatim(Exchange):
    """See `exchange.Exchange`; `dialect` is the one whose errors the provider speaks."""

    dialect: Dialect

    def __init__(self, call: Call) -> None:
        super().__init__(DIALECTS[call.dialect], relay_request(call.body, call.request.model), stream=call.stream)
        self._framer = Framer()

    def feed(self, data: bytes) -> bytes:
        """Frames as they come; the sentinel only after a finish reason."""
        said = b"".join([self._pass(raw) for raw in self._framer.cut(data)])
        self.committed = self.committed or bool(said)
        return said

    def close(self) -> bytes:
        """Raises StreamBroken without a finish reason; writes the sentinel that was forgotten."""
        if self.decoder.done:
            return b""
        if self.decoder.finished is None:
            raise StreamBroken("the provider's stream ended before its answer did")
        self.decoder.done = True
        return b"data: [DONE]\n\n"

    def whole(self, body: bytes) -> bytes:
        """The body itself, if it is a JSON object."""
        try:
            value = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise ProtocolError("the provider's answer is not JSON") from None
        if not isinstance(value, dict):
            raise ProtocolError("the provider's answer is not a JSON object")
        self.decoder.finished = Finished("stop", usage=_usage(value))
        return body

    def fail(self, error: PenstockError) -> bytes:
        """The error as a last frame, in OpenAI's form, the only one with streams of this kind."""
        return frame(msgspec.json.encode(self.dialect.write_error(error)))

    def _pass(self, raw: bytes) -> bytes:
        data = parse(raw).data
        if self.decoder.done or not data:
            return b""
        if data == b"[DONE]":
            return self.close()
        self.progress += 1
        self.pieces += 1
        if _FINISHED.search(data):
            self.decoder.finished = self.decoder.finished or Finished("stop")
        return raw


def _usage(answer: dict[str, Json]) -> Usage | None:
    """The usage of an answer that counts tokens in OpenAI's or Anthropic's words."""
    usage = answer.get("usage")
    counts = usage if isinstance(usage, dict) else answer
    given = counts.get("prompt_tokens", counts.get("input_tokens"))
    if not isinstance(given, int):
        return None
    output = counts.get("completion_tokens", 0)
    return Usage(input=given, output=output if isinstance(output, int) else 0)
