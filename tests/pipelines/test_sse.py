"""Framing: every split of the bytes, every kind of line end."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.dialects import sse
from pipelines.errors import ProtocolError

LINE_ENDS = [b"\n", b"\r\n", b"\r"]
LINES = [
    [b": hello"],
    [b'data: {"a": 1}'],
    [b"event: ping", b"data: one", b"data: two"],
    [b"id: 7", b"retry: 10", b"data:no space", b"data"],
    [b"data: [DONE]"],
]
FIELDS = [
    ("", b""),
    ("", b'{"a": 1}'),
    ("ping", b"one\ntwo"),
    ("", b"no space\n"),
    ("", b"[DONE]"),
]


def wire(*ends: bytes) -> bytes:
    """The frames of LINES; the line ends are taken in turn."""
    written, turn = b"", 0
    for lines in LINES:
        for line in [*lines, b""]:
            written += line + ends[turn % len(ends)]
            turn += 1
    return written


def fields(frames: list[sse.Frame]) -> list[tuple[str, bytes]]:
    return [(frame.event, frame.data) for frame in frames]


def cut(data: bytes, *places: int) -> list[sse.Frame]:
    framer = sse.Framer()
    frames = []
    bounds = [0, *sorted(places), len(data)]
    for start, end in itertools.pairwise(bounds):
        frames += framer.feed(data[start:end])
    return [*frames, *framer.close()]


@pytest.mark.parametrize("end", LINE_ENDS)
def test_every_split_gives_the_same_frames(end: bytes) -> None:
    data = wire(end)
    for place in range(len(data) + 1):
        assert fields(cut(data, place)) == FIELDS, place


@pytest.mark.parametrize("end", LINE_ENDS)
def test_byte_by_byte_gives_the_same_frames(end: bytes) -> None:
    data = wire(end)
    assert fields(cut(data, *range(len(data)))) == FIELDS


@given(st.lists(st.sampled_from(LINE_ENDS), min_size=1, max_size=7), st.lists(st.integers(0, 160), max_size=9))
def test_mixed_line_ends_give_the_same_frames(ends: list[bytes], places: list[int]) -> None:
    data = wire(*ends)
    frames = cut(data, *[place for place in places if place <= len(data)])
    # A CR that ends one line and an LF that ends the next blank one are read as one line end: fields flow together.
    told = b"\n".join(frame.data for frame in frames if frame.data)
    assert told == b"\n".join(data for _, data in FIELDS if data)


def test_a_frame_is_handed_out_with_the_byte_that_ends_it() -> None:
    for end in LINE_ENDS:
        framer = sse.Framer()
        data = b"data: x" + end + end
        ready = [framer.feed(data[place : place + 1]) for place in range(len(data))]
        last = len(data) - (2 if end == b"\r\n" else 1)
        assert [place for place, frames in enumerate(ready) if frames] == [last]


def test_the_raw_bytes_are_kept_whole() -> None:
    data = wire(b"\n")
    framer = sse.Framer()
    assert b"".join(framer.cut(data)) == data


def test_a_last_frame_without_its_blank_line_is_read() -> None:
    assert fields(cut(b"data: a\n\ndata: b")) == [("", b"a"), ("", b"b")]


def test_a_byte_order_mark_is_passed_over() -> None:
    assert fields(cut(b"\xef\xbb\xbfdata: a\n\n")) == [("", b"a")]


def test_an_error_in_a_field_of_its_own_is_an_error() -> None:
    assert fields(cut(b'error: {"code": 400}\n\ndata: a\nerror: b\n\n')) == [("error", b'{"code": 400}'), ("", b"a")]


def test_a_frame_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_FRAME", 100)
    framer = sse.Framer()
    framer.feed(b"data: " + b"x" * 90)
    with pytest.raises(ProtocolError):
        framer.feed(b"x" * 10)


@given(st.binary(max_size=40), st.sampled_from(["", "ping"]))
def test_what_is_written_is_read(data: bytes, event: str) -> None:
    line = data.replace(b"\r", b"").replace(b"\n", b"")
    assert fields(cut(sse.frame(line, event))) == [(event, line)]
