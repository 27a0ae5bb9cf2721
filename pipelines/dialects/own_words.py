"""A conversation in our own words, between our own processes: the request as it is, and events as they are.

    {"model": "…", "stream": true, "request": {…}}        a `conversation.Request`
    data: {"event": "part_delta", "index": 0, …}          an `events.Event` a frame
    data: {"error": {…}}                                  OpenAI's form of an error

Each turn of a loop crosses in it, so that nothing is lost between the provider's dialect and the caller's. No caller
speaks it, and no provider.

Above it: `pipelines.dialects`. Below it: `base`, `events`, OpenAI's errors.
"""

import re
from collections.abc import Mapping

import msgspec

from pipelines.conversation import Json, Message, Request, Text
from pipelines.dialects import sse
from pipelines.dialects.base import Decoder, Dialect, Encoder, Written
from pipelines.dialects.openai_chat import failures
from pipelines.errors import BadRequest, PenstockError, ProtocolError
from pipelines.events import OURS, Completion, Event, Finished

_encode = msgspec.json.Encoder().encode
_events = msgspec.json.Decoder(Event)
_lists = msgspec.json.Decoder(list[Event])
_ERROR = b'{"error"'


class EventEncoder(Encoder):
    """See `base.Encoder`."""

    def encode(self, event: Event) -> bytes:
        """See `base.Encoder.encode`."""
        return b"data: %b\n\n" % _encode(event)

    def error(self, error: PenstockError) -> bytes:
        """See `base.Encoder.error`."""
        return sse.frame(_encode(failures.write_error(error)))


class EventDecoder(Decoder):
    """See `base.Decoder`."""

    def frame(self, frame: sse.Frame) -> list[Event]:
        """See `base.Decoder.frame`."""
        if not frame.data or self.done:
            return []
        if frame.data.startswith(_ERROR):
            raise failures.stream_failure(msgspec.json.decode(frame.data))
        try:
            event = _events.decode(frame.data)
        except msgspec.DecodeError as error:
            raise ProtocolError("a frame between our own processes holds no event") from error
        if isinstance(event, Finished):
            self.finished, self.done = event, True
        return [event]

    def end(self) -> list[Event]:
        """See `base.Decoder.end`: without its last event a stream is not whole."""
        return []


def body_of(request: Request, **more: Json) -> dict[str, Json]:
    """The body that `read_request` takes. more: its other members."""
    return {**more, "model": request.model, "stream": True, "request": msgspec.to_builtins(request)}


def read_request(body: Mapping[str, Json]) -> Request:
    """See `base.Dialect.read_request`."""
    try:
        request = msgspec.convert(body.get("request"), Request)
        return msgspec.structs.replace(request, model=str(body["model"]), stream=True, include_usage=True)
    except (msgspec.ValidationError, KeyError) as error:
        raise BadRequest(f"`request` is none: {error}", param="request") from None


def add_user_turn(body: dict[str, Json], text: str) -> dict[str, Json]:
    """See `base.Dialect.add_user_turn`."""
    turn = msgspec.to_builtins(Message("user", (Text(text),)))
    asked = body["request"]
    return {**body, "request": {**asked, "messages": [*asked["messages"], turn]}}


def _write_answer(completion: Completion, request: Request) -> dict[str, Json]:
    written: dict[str, Json] = msgspec.to_builtins(completion)
    return written


OWN_WORDS = Dialect(
    name=OURS,
    path="/turns",
    sentinel=b"",
    last=re.compile(rb'data: \{"event":"finished"[^\n]*\n\n\Z'),
    telling=re.compile(b""),
    read_request=read_request,
    encoder=lambda request: EventEncoder(),
    write_answer=_write_answer,
    write_error=failures.write_error,
    add_user_turn=add_user_turn,
    write_request=lambda request: Written(body_of(request)),
    decoder=EventDecoder,
    read_answer=_lists.decode,
    read_error=failures.read_error,
)
