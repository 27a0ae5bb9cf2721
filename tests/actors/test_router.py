import asyncio
import json
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from actors.board import LONG_POLL
from actors.keyring import KEYS_FILE
from actors.routing.router import Router, code_version
from pipelines.errors import ConfigurationError
from pipelines.routing.table import Announcement, Outcome, Report, Table, Welcome
from tests.actors.virtual_time import run

Value = TypeVar("Value")
ONE = Announcement("p", "r1", "http://h:1")


def router(directory: Path, *, preceded: bool = False) -> Router:
    loop = asyncio.get_running_loop()
    return Router(str(directory), preceded, clock=lambda: 1000.0 + loop.time())


def decoded(data: bytes | None, kind: type[Value]) -> Value:
    assert data is not None
    return msgspec.msgpack.decode(data, type=kind)


def test_a_long_poll_returns_with_the_next_table(tmp_path: Path) -> None:
    async def scene() -> None:
        one = router(tmp_path)
        waiting = asyncio.create_task(one.table(0, one.publish().epoch))
        await asyncio.sleep(3.0)
        assert not waiting.done()
        await one.announce(msgspec.msgpack.encode(ONE))
        before = asyncio.get_running_loop().time()
        table = decoded(await waiting, Table)
        assert asyncio.get_running_loop().time() - before <= 0.11
        assert table.provider("p") is not None
        assert decoded(await one.table(0, "another epoch"), Table) == table

    run(scene())


def test_a_long_poll_without_news_ends_with_nothing(tmp_path: Path) -> None:
    async def scene() -> None:
        one = router(tmp_path)
        assert await one.table(0, one.publish().epoch) is None
        assert asyncio.get_running_loop().time() == pytest.approx(LONG_POLL, abs=0.2)

    run(scene())


def test_fifty_who_wait_get_one_table_for_many_changes(tmp_path: Path) -> None:
    async def scene() -> None:
        one = router(tmp_path)
        epoch = one.publish().epoch
        waiting = [asyncio.create_task(one.table(0, epoch)) for _ in range(50)]
        await asyncio.sleep(0.15)
        for number in range(30):
            await one.announce(msgspec.msgpack.encode(Announcement(f"p{number}", "r", "http://h:1")))
        tables = {await each for each in waiting}
        assert len(tables) == 1
        assert len(decoded(tables.pop(), Table).providers) == 30

    run(scene())


def test_outcomes_are_in_the_snapshot_at_once(tmp_path: Path) -> None:
    async def scene() -> None:
        one = router(tmp_path)
        await one.announce(msgspec.msgpack.encode(ONE))
        await one.report(msgspec.msgpack.encode(Report("g", (Outcome("p", "m", 1.0),), {"p": {"m": 4}})))
        entry = decoded(await one.snapshot(), Table).provider("p")
        assert entry is not None
        assert (entry.performance["m"].attempts, entry.performance["m"].in_flight) == (1, 4)

    run(scene())


def test_a_welcome_has_the_secret_and_the_keys_of_this_moment(tmp_path: Path) -> None:
    async def scene() -> None:
        one = router(tmp_path)
        first = decoded(await one.greet("g1"), Welcome)
        assert first.secret == (tmp_path / "cluster.secret").read_text().strip()
        file = tmp_path / KEYS_FILE
        file.touch(mode=0o600)
        file.write_text(json.dumps([{"id": "k", "name": "n", "hash": "ab", "admin": False}]))
        assert [key.id for key in decoded(await one.greet("g1"), Welcome).keys] == ["k"]
        file.write_text("broken")
        assert [key.id for key in decoded(await one.greet("g1"), Welcome).keys] == ["k"]

    run(scene())


def test_a_router_that_never_read_its_keys_says_so(tmp_path: Path) -> None:
    (tmp_path / KEYS_FILE).write_text("[]")
    (tmp_path / KEYS_FILE).chmod(0o644)

    async def scene() -> None:
        with pytest.raises(ConfigurationError, match="chmod 600"):
            await router(tmp_path).greet("g1")

    run(scene())


def test_incarnations_have_epochs_of_their_own(tmp_path: Path) -> None:
    async def scene() -> None:
        one, other = router(tmp_path), router(tmp_path, preceded=True)
        assert one.publish().epoch != other.publish().epoch
        assert one.publish().settled
        assert not other.publish().settled
        assert await one.version() == code_version() == await other.version()

    run(scene())
