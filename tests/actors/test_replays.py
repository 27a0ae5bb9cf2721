import asyncio
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.replaying.answer_file import FILE, AnswerFile
from actors.replaying.replays import LONG_POLL, Replays, code_version
from pipelines.idempotency import LEASE, LIFETIME, SETTLING, Begun, Head, Opening, Piece, Progress, Push
from pipelines.routing.table import Outcome
from tests.actors.virtual_time import run

HEAD = Head(200, {"content-type": "text/event-stream"}, framed=True)
OUTCOME = Outcome("p", "m", 0.0, cost=0.0)


async def at_once(function: Callable[..., Any], *arguments: Any) -> Any:
    """The disk without a thread, so that time can be virtual."""
    return function(*arguments)


def replays(directory: Path, *, preceded: bool = False, later: float = 0.0) -> Replays:
    loop = asyncio.get_running_loop()
    return Replays(str(directory), preceded, clock=lambda: 1000.0 + later + loop.time(), offload=at_once)


def opening(name: str, run: str, fingerprint: str = "f") -> bytes:
    return msgspec.msgpack.encode(Opening(name, fingerprint, run))


async def begin(one: Replays, name: str, run: str, fingerprint: str = "f") -> Begun:
    return msgspec.msgpack.decode(await one.begin(opening(name, run, fingerprint)), type=Begun)


async def push(one: Replays, name: str, run: str, offset: int, data: bytes, *, finished: bool = False) -> Progress:
    said = Push(Opening(name, "f", run), offset, data, HEAD, finished, OUTCOME if finished else None)
    return msgspec.msgpack.decode(await one.push(msgspec.msgpack.encode(said)), type=Progress)


async def read(one: Replays, name: str, run: str, offset: int = 0) -> Piece:
    data = await one.read(opening(name, run), offset)
    assert data is not None
    return msgspec.msgpack.decode(data, type=Piece)


async def store(one: Replays, name: str, data: bytes) -> None:
    assert (await begin(one, name, "a")).verdict == "run"
    assert (await push(one, name, "a", 0, data, finished=True)).over


def test_readers_hear_of_every_push_at_once_and_of_the_end(tmp_path: Path) -> None:
    async def scene() -> None:
        one = replays(tmp_path)
        await begin(one, "n", "a")
        assert await begin(one, "n", "b") == Begun("join", "a")
        first = [asyncio.create_task(read(one, "n", "a")) for _ in range(3)]
        await asyncio.sleep(0.1)
        await push(one, "n", "a", 0, b"one ")
        before = asyncio.get_running_loop().time()
        assert [piece.data for piece in await asyncio.gather(*first)] == [b"one "] * 3
        last = asyncio.create_task(read(one, "n", "a", 4))
        await asyncio.sleep(0)
        await push(one, "n", "a", 4, b"two", finished=True)
        assert await last == Piece("whole", HEAD, b"two", OUTCOME)
        assert asyncio.get_running_loop().time() == before
        await one.close()

    run(scene())


def test_a_long_poll_without_news_ends_with_nothing_and_one_of_a_lost_leader_with_that(tmp_path: Path) -> None:
    async def scene() -> None:
        one = replays(tmp_path)
        await begin(one, "n", "a")
        assert await one.read(opening("n", "a"), 0) is None
        assert asyncio.get_running_loop().time() == pytest.approx(LONG_POLL)
        await push(one, "n", "a", 0, b"")
        await asyncio.sleep(LEASE - 1.0)
        assert (await read(one, "n", "a")).state == "lost"
        assert LONG_POLL + LEASE < asyncio.get_running_loop().time() <= LONG_POLL + LEASE + 1.0
        assert (await begin(one, "n", "b")).verdict == "run"
        await one.abandon(opening("n", "b"))
        assert (await begin(one, "n", "c")).verdict == "run"
        assert one._news == {}
        await one.close()

    run(scene())


def test_stored_answers_are_in_the_file_and_not_in_memory(tmp_path: Path) -> None:
    async def scene() -> None:
        one = replays(tmp_path / "state")
        await store(one, "n", b"the answer")
        assert one._register.held == 0
        assert await begin(one, "n", "b") == Begun("replay", "a")
        assert await read(one, "n", "a") == Piece("whole", HEAD, b"the answer", OUTCOME)
        assert await read(one, "n", "a", 4) == Piece("whole", HEAD, b"answer", OUTCOME)
        for file in (tmp_path / "state").iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
        await one.close()

    run(scene())


def test_the_next_incarnation_replays_what_the_last_one_stored_for_a_day(tmp_path: Path) -> None:
    async def scene() -> None:
        first = replays(tmp_path)
        await store(first, "n", b"the answer")
        # It dies as it stands: nothing is closed.
        second = replays(tmp_path, preceded=True)
        assert await begin(second, "n", "b") == Begun("replay", "a")
        assert (await begin(second, "n", "b", "other")).verdict == "conflict"
        assert (await read(second, "n", "a")).data == b"the answer"
        assert (await begin(second, "another", "c")).verdict == "unsettled"
        await asyncio.sleep(SETTLING)
        assert (await begin(second, "another", "c")).verdict == "run"
        third = replays(tmp_path, later=LIFETIME)
        assert (await begin(third, "n", "d")).verdict == "run"
        await third.sweep()
        assert AnswerFile(tmp_path).open() == []
        for one in (first, second, third):
            await one.close()

    run(scene())


def test_what_is_stored_anew_replaces_what_lapsed(tmp_path: Path) -> None:
    async def scene() -> None:
        one = replays(tmp_path)
        await store(one, "n", b"old")
        one._clock = lambda: 1001.0 + LIFETIME
        await store(one, "n", b"new")
        await one.sweep()
        assert (await read(one, "n", "a")).data == b"new"
        await one.close()

    run(scene())


@pytest.mark.parametrize("content", [b"this is no database", b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_cannot_be_read_is_put_aside(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)

    async def scene() -> None:
        one = replays(tmp_path)
        await store(one, "n", b"the answer")
        assert (await read(one, "n", "a")).data == b"the answer"
        await one.close()
        again = replays(tmp_path)
        assert (await begin(again, "n", "b")).verdict == "replay"
        await again.close()

    run(scene())
    assert (tmp_path / f"{FILE}.broken").read_bytes() == content


def test_a_file_of_another_layout_is_begun_anew(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / FILE)
    connection.execute("CREATE TABLE answers (other TEXT)")
    connection.execute("INSERT INTO answers VALUES ('of another time')")
    connection.commit()
    connection.close()
    file = AnswerFile(tmp_path)
    assert file.open() == []
    file.close()
    file.close()
    with pytest.raises(sqlite3.OperationalError, match="not open"):
        file.read("n", "a", 0)


def test_an_answer_that_is_damaged_or_gone_is_asked_for_anew(tmp_path: Path) -> None:
    async def scene() -> None:
        one = replays(tmp_path)
        for name, damage in (("n", "DELETE FROM answers"), ("m", "UPDATE answers SET head = x'ff00'")):
            await store(one, name, b"the answer")
            connection = sqlite3.connect(tmp_path / FILE)
            connection.execute(damage)
            connection.commit()
            connection.close()
            assert (await begin(one, name, "b")).verdict == "replay"
            assert (await read(one, name, "a")).state == "lost"
            assert (await begin(one, name, "b")).verdict == "run"
        await one.close()

    run(scene())


def test_while_the_disk_fails_answers_stay_in_memory(tmp_path: Path) -> None:
    async def scene() -> None:
        one = replays(tmp_path)
        await begin(one, "before", "x")
        one._file.close()  # every use of the file raises from now on
        await store(one, "n", b"the answer")
        assert (await begin(one, "n", "b")).verdict == "replay"
        assert await read(one, "n", "a") == Piece("whole", HEAD, b"the answer", OUTCOME)
        await one.sweep()
        assert one._register.held == len(b"the answer")
        await one.close()

    run(scene())


def test_without_a_place_for_the_file_it_works_in_memory(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the directory should be")

    async def scene() -> None:
        one = replays(tmp_path / "state")
        await store(one, "n", b"the answer")
        assert (await read(one, "n", "a")).data == b"the answer"
        await one.close()

    run(scene())


async def test_the_disk_is_waited_for_in_a_thread(tmp_path: Path) -> None:
    one = Replays(str(tmp_path))
    await asyncio.gather(*(store(one, f"n{number}", b"x" * 100_000) for number in range(10)))
    for number in range(10):
        assert len((await read(one, f"n{number}", "a")).data) == 100_000
    assert await one.version() == code_version()
    await one.close()
