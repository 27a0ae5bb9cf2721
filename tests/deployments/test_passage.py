"""Content that goes past the readers of a stream: the same bytes, the same limits, and nobody woken for them."""

import asyncio
from collections.abc import AsyncGenerator, Iterator

import msgspec
import pytest

from deployments.http.arriving import AT_ONCE, Arriving
from deployments.visit import Visit
from pipelines.calls import Answer
from pipelines.errors import StreamBroken
from tests.deployments.house import House, client_of
from tests.deployments.test_house import ask, both_lanes, lane
from tests.recordings import Recording, own, shared
from tests.upstream import Fault, Upstream

STREAMS = [
    recording
    for recording in [*own(), *shared()[::12]]
    if recording.streaming and recording.path.endswith("/chat/completions")
]

GAP = 0.004
"""Seconds between two pieces: each comes while its reader waits."""


class Body(Arriving):
    """A body by hand. said: how much of it was taken."""

    __slots__ = ("said",)

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop())
        self.said = 0

    def taken(self, size: int) -> None:
        self.said += size

    def come(self, *pieces: bytes) -> None:
        """Pieces come at once."""
        for piece in pieces:
            self.append(piece)
        self.arrived()


class Reader:
    """Reads a body in a task of its own, and takes what goes past it as long as it is `willing`."""

    def __init__(self, body: Body) -> None:
        self.read: list[bytes] = []
        self.past: list[bytes] = []
        self.willing = True
        self.task = asyncio.ensure_future(self._read(body))
        body.pass_to(self._take)

    def _take(self, data: bytes) -> bool:
        if self.willing:
            self.past.append(data)
        return self.willing

    async def _read(self, body: Body) -> None:
        async for piece in body.pieces():
            self.read.append(piece)


async def turns(count: int = 5) -> None:
    """Let every task come to where it waits."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_comes_while_the_reader_waits_goes_past_him_and_counts_as_read() -> None:
    body = Body()
    reader = Reader(body)
    body.come(b"before he waits")
    await turns()
    body.come(b"one")
    body.come(b"two", b"three")
    await turns()
    assert (reader.read, reader.past) == ([b"before he waits"], [b"one", b"twothree"])
    assert (body.size, body.said) == (0, len(b"before he waitsonetwothree"))
    body.end()
    await reader.task


async def test_what_is_not_taken_is_the_readers_and_nothing_overtakes_it() -> None:
    body = Body()
    reader = Reader(body)
    await turns()
    reader.willing = False
    body.come(b"one")
    reader.willing = True
    body.come(b"two")  # he has been woken, and has not read yet
    await turns()
    body.come(b"three")
    body.append(b"four")
    body.end()
    await reader.task
    assert (reader.read, reader.past) == ([b"onetwo", b"four"], [b"three"])


async def test_much_at_once_is_the_readers() -> None:
    body = Body()
    reader = Reader(body)
    await turns()
    body.come(b"x" * AT_ONCE, b"y")
    body.end()
    await reader.task
    assert (b"".join(reader.read), reader.past) == (b"x" * AT_ONCE + b"y", [])


async def test_a_break_behind_what_went_past_is_heard_of() -> None:
    body = Body()
    reader = Reader(body)
    await turns()
    body.head.set_result(None)
    body.come(b"one")
    body.append(b"two")
    body.fail(ConnectionResetError())
    with pytest.raises(StreamBroken):
        await reader.task
    assert (reader.past, reader.read) == ([b"one"], [b"two"])


async def test_nothing_goes_past_a_reader_who_has_gone() -> None:
    body = Body()
    reader = Reader(body)
    await turns()
    reader.task.cancel()
    body.come(b"one")
    await asyncio.wait({reader.task})
    body.come(b"two")
    assert (reader.read, reader.past) == ([], [])


class Way:
    """An outlet."""

    free = True

    def put(self, data: bytes) -> None: ...


async def test_who_replaces_the_frames_sees_each_unless_he_need_not() -> None:
    async def frames() -> AsyncGenerator[bytes, None]:
        yield b""

    answer = Answer(frames=frames())
    answer.let_out(Way())
    assert answer.outlet is None
    answer.let_past(frames())
    answer.read_through(frames())
    way = Way()
    answer.let_out(way)
    assert answer.outlet is way
    answer.outlet = None
    answer.frames = frames()
    answer.let_out(Way())
    answer.read_through(frames())
    answer.let_out(Way())
    assert answer.outlet is None


def open_and_shut(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Twice: with the way past the readers, and without it."""
    yield
    monkeypatch.setattr(Visit, "free", False)
    yield


@pytest.fixture
def past(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What goes past the readers, to callers and over the hop."""
    seen: list[bytes] = []
    put = Visit.put

    def watched(self: Visit, data: bytes) -> None:
        seen.append(data)
        put(self, data)

    monkeypatch.setattr(Visit, "put", watched)
    return seen


@both_lanes
async def test_nearly_all_of_an_answer_goes_past(
    running: House, upstream: Upstream, way: str, past: list[bytes]
) -> None:
    replica, model = lane(running, way)
    upstream.plan("m", Fault.answer(60, gap=GAP))
    status, text, _ = await ask(replica, model, stream=True)
    assert status == 200
    assert text.endswith("data: [DONE]\n\n")
    # Over the hop each goes past a reader twice.
    assert len(past) > 40 * (2 if way == "routed" else 1)
    assert all(frame.decode() in text for frame in past)
    assert b"[DONE]" not in b"".join(past)


@both_lanes
@pytest.mark.parametrize("piece", [0, 17, 400])
@pytest.mark.parametrize("recording", STREAMS, ids=lambda recording: recording.name)
async def test_a_recording_is_the_same_whether_it_goes_past_or_not(
    running: House, upstream: Upstream, way: str, recording: Recording, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica, model = lane(running, way)
    answers = []
    for _ in open_and_shut(monkeypatch):
        upstream.plan("m", Fault.replay(recording, piece=piece, piece_gap=0.001 if piece else 0.0))
        status, text, _ = await ask(replica, model, stream=True)
        answers.append((status, text))
    assert answers[0] == answers[1]
    assert answers[0][0] == 200


@both_lanes
async def test_content_that_goes_past_is_progress_and_silence_behind_it_is_not(
    running: House, upstream: Upstream, way: str, past: list[bytes]
) -> None:
    replica, model = lane(running, way)
    patience = {"timeouts": {"idle": 0.5}}
    upstream.plan("m", Fault.answer(12, gap=0.1), msgspec.structs.replace(Fault.stall(8), gap=0.1))
    status, text, _ = await ask(replica, model, stream=True, penstock=patience)
    assert status == 200
    assert text.endswith("data: [DONE]\n\n")
    assert past
    past.clear()
    status, text, _ = await ask(replica, model, stream=True, penstock=patience)
    assert past
    assert "no more output within 0.5 s" in text
    assert "[DONE]" not in text


@both_lanes
async def test_a_break_behind_what_went_past_ends_in_an_error(
    running: House, upstream: Upstream, way: str, past: list[bytes]
) -> None:
    replica, model = lane(running, way)
    upstream.plan("m", Fault.cut_off(20, "reset", words=40, gap=GAP))
    _, text, _ = await ask(replica, model, stream=True)
    assert len(past) > 10
    assert text.count('"error"') == 1
    assert "[DONE]" not in text


@both_lanes
async def test_the_ledger_counts_what_went_past(
    running: House, upstream: Upstream, way: str, past: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without figures of the provider's there is a token for each piece."""
    replica, model = lane(running, way)
    counts = []
    for _ in open_and_shut(monkeypatch):
        upstream.plan("m", msgspec.structs.replace(Fault.no_usage(), words=30, gap=GAP))
        assert (await ask(replica, model, stream=True))[0] == 200
        async with client_of(running.gateway) as client:
            row = (await client.get("/v1/requests", params={"limit": 1})).json()["data"][0]
        counts.append((row["output"], row["sent"], row["estimated"]))
    assert len(past) > 10
    assert counts[0] == counts[1]
    assert counts[0][0] >= 30
    assert counts[0][2] is True
