"""The router's mind: what it remembers, publishes and keeps, without Ray."""

import asyncio
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors import learner as learner_module
from actors.learning_file import ASIDE, FILE
from actors.router import Router
from pipelines.conversation import Message, Request, Text
from pipelines.routing.ask import Ask
from pipelines.routing.estimate import Estimate, read
from pipelines.routing.feedback import Feedback, Said, Verdict
from pipelines.routing.learning.evidence import Rated
from pipelines.routing.learning.view import View
from pipelines.routing.record import Record
from pipelines.routing.standing import Standing
from pipelines.routing.table import Announcement, Decided, ModelCard, Published, Report
from tests.actors.virtual_time import run

KNOWN = read(Request("auto", (Message("user", (Text("Write a Python function that sorts a list."),)),)))
MODELS = (ModelCard("m", quality=0.6), ModelCard("n", quality=0.6))
ANNOUNCED = msgspec.msgpack.encode(Announcement("p", "r1", "http://h:1", models=MODELS))


async def at_once(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def router(directory: Path) -> Router:
    loop = asyncio.get_running_loop()
    return Router(str(directory), clock=lambda: 1000.0 + loop.time(), offload=at_once)


def decided(request: str, model: str, evidence: bytes = b"") -> Decided:
    ask = Ask(("auto",))
    record = Record(ask, 1, 0.0, ("e", 1), ("e", 1), KNOWN.profile.task, KNOWN.features, model, 0.6)
    return Decided("k", request, msgspec.msgpack.encode(record), evidence)


async def rate(one: Router, model: str, count: int, thumb: Any = "up") -> None:
    names = [f"{model} {thumb} {number}" for number in range(count)]
    await one.report(msgspec.msgpack.encode(Report("g", decisions=tuple(decided(name, model) for name in names))))
    for name in names:
        said = msgspec.msgpack.encode(Said("k", Feedback(name, thumb=thumb)))
        assert msgspec.msgpack.decode(await one.feedback(said), type=Verdict).learned


async def quality(one: Router, after: int = 0) -> tuple[dict[str, float], int]:
    """The expected qualities of the next view, and its version."""
    data = await one.view(after, "" if not after else one.publish().epoch)
    assert data is not None
    published = msgspec.msgpack.decode(data, type=Published)
    made = Estimate(msgspec.msgpack.decode(published.view, type=View), lambda: KNOWN)
    return dict(made.mean), published.version


def test_feedback_moves_the_published_quality(tmp_path: Path) -> None:
    async def scene() -> None:
        one = router(tmp_path)
        await one.announce(ANNOUNCED)
        before, version = await quality(one)
        assert before["p/m"] == pytest.approx(before["p/n"])
        await rate(one, "p/n", 10)
        await rate(one, "p/m", 10, "down")
        began = asyncio.get_running_loop().time()
        after, later = await quality(one, version)
        assert asyncio.get_running_loop().time() - began <= learner_module.PUBLISHING + 1.1
        assert later == version + 1
        assert after["p/n"] > before["p/n"] > after["p/m"]
        assert await one.view(later, one.publish().epoch) is None, "nothing was learned since"
        await one.close()

    run(scene())


def test_what_an_answer_showed_is_learned_once_though_it_is_reported_twice(tmp_path: Path) -> None:
    async def scene() -> None:
        one = router(tmp_path)
        shown = msgspec.msgpack.encode(Rated("p/m", "code", 0.0, "tool_call", KNOWN.features))
        report = msgspec.msgpack.encode(Report("g", decisions=(decided("r", "p/m", shown),)))
        await one.report(report)
        await one.report(report)
        told = msgspec.msgpack.decode(await one.standing(), type=Standing)
        (rate_,) = told.win_rates
        assert rate_.model == "p/m"
        assert rate_.quality.count == pytest.approx(4.3)
        await one.close()

    run(scene())


def test_a_router_that_comes_back_knows_what_it_knew(tmp_path: Path) -> None:
    async def scene() -> None:
        one = router(tmp_path)
        await one.announce(ANNOUNCED)
        await rate(one, "p/n", 10)
        await one.close()
        assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
        assert [file.name for file in tmp_path.iterdir() if file.name.startswith(f".{FILE}")] == []
        other = router(tmp_path)
        await other.announce(ANNOUNCED)
        remembered, _ = await quality(other)
        assert remembered["p/n"] > remembered["p/m"]
        await other.close()

    run(scene())


def test_it_is_written_while_it_runs_and_only_when_it_changed(tmp_path: Path) -> None:
    async def scene() -> None:
        one = router(tmp_path)
        await one.announce(ANNOUNCED)
        await asyncio.sleep(30.0)
        assert not (tmp_path / FILE).exists()
        await rate(one, "p/n", 1)
        await asyncio.sleep(learner_module.SAVING + 1.1)
        first = (tmp_path / FILE).stat()
        await asyncio.sleep(30.0)
        assert (tmp_path / FILE).stat().st_ino == first.st_ino
        await one.close()

    run(scene())


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[:-9], lambda data: data[:40] + b"?" + data[41:]]
)
def test_a_corrupt_file_is_put_aside(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    async def scene() -> None:
        one = router(tmp_path)
        await rate(one, "p/n", 3)
        await one.close()
        file = tmp_path / FILE
        file.write_bytes(damage(file.read_bytes()))
        other = router(tmp_path)
        assert msgspec.msgpack.decode(await other.standing(), type=Standing).win_rates == ()
        assert (tmp_path / (FILE + ASIDE)).exists()
        assert not file.exists()
        await rate(other, "p/n", 1)
        await other.close()
        assert file.exists()

    run(scene())


def test_a_disk_that_refuses_costs_no_table(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        one = router(tmp_path)
        (tmp_path / FILE).mkdir()
        await rate(one, "p/n", 1)
        await asyncio.sleep(25.0)
        await one.announce(ANNOUNCED)
        await asyncio.sleep(0.3)
        assert one.publish().provider("p") is not None
        await one.close()

    run(scene())
    assert "cannot be written" in caplog.text
