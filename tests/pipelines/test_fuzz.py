"""Bounded fuzzing of all that reads bytes or bodies from outside: no crash, no hang, no success from a cut stream.

`PENSTOCK_FUZZ_EXAMPLES` sets how many examples each test takes.
"""

import contextlib
import copy
import json
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.http.reading import json_object
from pipelines.conversation import Request
from pipelines.dialects import DIALECTS, WIRES, sse
from pipelines.errors import PenstockError, UpstreamError
from pipelines.events import Event, Finished, assemble
from tests import recordings
from tests.pipelines.test_recordings_cross import dialect_of
from tests.pipelines.whole_stream import decoded_by
from tests.recordings import Recording
from tests.strategies import event_streams

EXAMPLES = int(os.environ.get("PENSTOCK_FUZZ_EXAMPLES", "150"))
ALL = [*recordings.own(), *recordings.shared()]
STREAMS = [r for r in ALL if dialect_of(r) and r.streaming and len(r.body) < 20_000]
ANSWERS = [r for r in ALL if dialect_of(r) and not r.streaming and len(r.body) < 20_000]
REQUESTS = [r for r in ALL if dialect_of(r) in DIALECTS and r.request and len(json.dumps(r.request)) < 20_000]

bounded = settings(max_examples=EXAMPLES, deadline=5000)

scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def mangled_bytes(draw: st.DrawFn, sources: list[Recording]) -> tuple[str, bytes]:
    """A recorded body, cut, spliced, repeated and with bytes changed."""
    recording = draw(st.sampled_from(sources))
    data = bytearray(recording.body)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(["cut", "delete", "change", "insert", "repeat"])):
            case "cut":
                del data[at:]
            case "delete":
                del data[at : at + draw(st.integers(1, 200))]
            case "change" if data:
                data[at] = draw(st.integers(0, 255))
            case "insert":
                data[at:at] = draw(st.binary(max_size=12) | st.sampled_from([b"\n\n", b"\r", b'"', b"{}", b"[DONE]"]))
            case "repeat":
                data[at:at] = data[at : at + draw(st.integers(1, 400))]
    return dialect_of(recording), bytes(data)


@st.composite
def mangled_json(draw: st.DrawFn, sources: list[Any]) -> Any:
    """A recorded JSON value with some members changed, taken out or put in."""
    value = copy.deepcopy(draw(st.sampled_from(sources)))
    for _ in range(draw(st.integers(1, 4))):
        place = value
        for _ in range(draw(st.integers(0, 6))):
            keys: list[Any] = list(place) if isinstance(place, dict) else list(range(len(place)))
            inner = [key for key in keys if isinstance(place[key], dict | list) and place[key]]
            if not inner:
                break
            place = place[draw(st.sampled_from(inner))]
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            continue
        key = draw(st.sampled_from(keys))
        if draw(st.booleans()):
            place[key] = draw(json_values)
        else:
            del place[key]
    return value


def decode(name: str, data: bytes, step: int) -> list[Event]:
    return decoded_by(WIRES[name], (data[at : at + step] for at in range(0, len(data), step)))


@bounded
@given(mangled_bytes(STREAMS), st.sampled_from([7, 64, 100_000]))
def test_a_mangled_stream_is_an_answer_or_an_error_of_ours(stream: tuple[str, bytes], step: int) -> None:
    name, data = stream
    with contextlib.suppress(PenstockError):
        assert isinstance(decode(name, data, step)[-1], Finished)


@bounded
@given(st.sampled_from(sorted(WIRES)), st.lists(json_values, max_size=6), st.booleans())
def test_any_json_as_frames_is_an_answer_or_an_error_of_ours(name: str, values: list[Any], named: bool) -> None:
    said = [json.dumps(value).encode() for value in values]
    data = b"".join(sse.frame(value, "message_start" if named else "") for value in said)
    if name not in DIALECTS:
        data = b"".join(value + b"\n" for value in said)
    with pytest.raises(PenstockError):
        decode(name, data, 1000)


@bounded
@given(st.sampled_from(ANSWERS).flatmap(lambda r: st.tuples(st.just(dialect_of(r)), mangled_bytes([r]))))
def test_a_mangled_whole_answer_is_an_answer_or_an_error_of_ours(given_answer: tuple[str, tuple[str, bytes]]) -> None:
    name, (_, data) = given_answer
    with contextlib.suppress(PenstockError):
        assemble(WIRES[name].read_answer(data))


@bounded
@given(
    st.sampled_from(sorted(WIRES)),
    st.integers(100, 599),
    st.binary(max_size=300) | json_values.map(json.dumps).map(str.encode),
)
def test_any_error_body_becomes_an_error_that_can_be_said(name: str, status: int, body: bytes) -> None:
    error = WIRES[name].read_error(status, {"retry-after": body[:20].decode("latin-1")}, body)
    assert isinstance(error, UpstreamError)
    for dialect in DIALECTS.values():
        json.dumps(dialect.write_error(error))


@bounded
@given(st.sampled_from(sorted(DIALECTS)), mangled_json([r.request for r in REQUESTS]))
def test_a_mangled_request_is_a_request_or_a_refusal_and_can_be_written_for_all(name: str, body: Any) -> None:
    try:
        request = DIALECTS[name].read_request(body)
    except PenstockError as error:
        assert error.status in (400, 404, 413)
        json.dumps(DIALECTS[name].write_error(error))
        return
    for wire in WIRES.values():
        try:
            json.dumps(wire.write_request(request).body)
        except PenstockError as error:
            assert error.status == 400


@bounded
@given(st.binary(max_size=400))
def test_any_bytes_as_a_body_are_an_object_or_a_refusal(data: bytes) -> None:
    try:
        assert isinstance(json_object(data), dict)
    except PenstockError as error:
        assert error.status == 400


@bounded
@given(st.sampled_from(sorted(DIALECTS)), event_streams(), st.data())
def test_a_cut_stream_is_never_a_success(name: str, events: list[Event], data: st.DataObject) -> None:
    """Cut before the last frame that says why it stopped, a stream must end in an error."""
    encoder = DIALECTS[name].encoder(Request("m", (), stream=True, include_usage=True))
    frames = [frame for event in events for frame in sse.Framer().cut(encoder.encode(event))]
    decoder = DIALECTS[name].decoder()
    told = next((at for at, raw in enumerate(frames) if _finishes(decoder, raw)), len(frames))
    cut = b"".join(frames[: data.draw(st.integers(0, told))])
    with pytest.raises(PenstockError):
        decode(name, cut, 1000)


def _finishes(decoder: Any, raw: bytes) -> bool:
    decoder.feed(raw)
    return decoder.finished is not None
