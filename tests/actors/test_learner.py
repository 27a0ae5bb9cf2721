"""The router's mind: what it remembers, publishes and keeps, without Ray."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.money.ledger import Ledger
from actors.money.ledger_place import Place
from actors.routing import learner as learner_module
from actors.routing import router as router_module
from actors.routing.learning_keeper import OWNER, LearningKeeper, _label
from actors.routing.router import Router
from actors.shelf import Pieces
from pipelines.conversation import Message, Request, Text
from pipelines.routing.ask import Ask
from pipelines.routing.estimate import Estimate, read
from pipelines.routing.feedback import Feedback, Said, Verdict
from pipelines.routing.learning.evidence import Rated
from pipelines.routing.learning.state import Knowledge, Learning
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
        shown = msgspec.msgpack.encode(Rated("p/m", "code", 0.0, "judge", KNOWN.features))
        report = msgspec.msgpack.encode(Report("g", decisions=(decided("r", "p/m", shown),)))
        await one.report(report)
        await one.report(report)
        told = msgspec.msgpack.decode(await one.standing(), type=Standing)
        (rate_,) = told.win_rates
        assert rate_.model == "p/m"
        assert rate_.quality.count == pytest.approx(4.7)
        await one.close()

    run(scene())


class Shelf:
    """A ledger that can be away. keeps counts how often something was put on it."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.away = False
        self.keeps: list[Pieces] = []

    async def connect(self) -> "Shelf":
        if self.away:
            raise ConnectionError("the ledger is away")
        return self

    async def keep(self, pieces: bytes) -> None:
        if self.away:
            raise ConnectionError("the ledger is away")
        self.keeps.append(msgspec.msgpack.decode(pieces, type=Pieces))
        await self.ledger.keep(pieces)

    async def kept(self, owner: str) -> bytes:
        return await self.ledger.kept(owner)


@pytest.fixture
async def shelf(tmp_path: Path, url: str) -> AsyncIterator[Shelf]:
    (tmp_path / "url").write_text(url)
    ledger = Ledger(str(tmp_path), place=Place("NO_SUCH_VARIABLE", str(tmp_path / "url")))
    yield Shelf(ledger)
    await ledger.close()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is due at intervals is due at once."""
    monkeypatch.setattr(learner_module, "SAVING", 0.0)
    monkeypatch.setattr(router_module, "LEARNING", 0.01)


def kept_by(shelf: Shelf, directory: Path) -> Router:
    return Router(str(directory), shelf=shelf.connect)


async def rates(one: Router) -> dict[str, float]:
    """How many observations of each model count."""
    told = msgspec.msgpack.decode(await one.standing(), type=Standing)
    return {rate.model: round(rate.quality.count, 1) for rate in told.win_rates}


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30.0):
        while not await condition():
            await asyncio.sleep(0.01)


async def test_a_router_on_another_machine_knows_what_was_learned(shelf: Shelf, tmp_path: Path) -> None:
    one = kept_by(shelf, tmp_path / "here")
    await rate(one, "p/n", 10)
    await rate(one, "p/m", 2, "down")
    before = await rates(one)
    await one.close()
    other = kept_by(shelf, tmp_path / "there")
    await other.announce(ANNOUNCED)

    async def remembered() -> bool:
        return await rates(other) == before

    await until(remembered)
    assert before == {"p/n": 14.0, "p/m": 6.0}
    await other.close()


@pytest.mark.usefixtures("hurried")
async def test_only_the_models_that_changed_are_written_again(shelf: Shelf, tmp_path: Path) -> None:
    one = kept_by(shelf, tmp_path)
    await one.announce(ANNOUNCED)
    await rate(one, "p/n", 3)

    async def written() -> bool:
        return {name for keep in shelf.keeps for name in keep.pieces} == {_label("p/n")}

    await until(written)
    done = len(shelf.keeps)
    await rate(one, "p/m", 3)
    await until(lambda: rested(one))
    assert {name for keep in shelf.keeps[done:] for name in keep.pieces} == {_label("p/m")}
    done = len(shelf.keeps)
    await one.keep()
    assert len(shelf.keeps) == done, "nothing was new"
    await one.close()


async def rested(one: Router) -> bool:
    """Whether all that it learned is written."""
    return one._learner.learning is one._learner._kept


@pytest.mark.usefixtures("hurried")
async def test_while_the_ledger_is_away_learning_goes_on_and_is_added_to_the_past(
    shelf: Shelf, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = kept_by(shelf, tmp_path)
    await rate(one, "p/n", 10)
    await one.close()
    shelf.away = True
    other = kept_by(shelf, tmp_path)
    await other.announce(ANNOUNCED)
    await rate(other, "p/n", 2, "down")
    assert await rates(other) == {"p/n": 6.0}
    await other.keep()
    assert other.publish().provider("p") is not None
    assert "in memory only" in caplog.text
    shelf.away = False

    async def whole() -> bool:
        return await rates(other) == {"p/n": 16.0} and await rested(other)

    await until(whole)
    await other.close()
    third = kept_by(shelf, tmp_path)
    await third.announce(ANNOUNCED)
    await until(lambda: known(third, {"p/n": 16.0}))
    await third.close()


async def known(one: Router, wanted: dict[str, float]) -> bool:
    return await rates(one) == wanted


async def test_a_piece_that_cannot_be_read_costs_only_itself(
    shelf: Shelf, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = kept_by(shelf, tmp_path)
    await rate(one, "p/n", 3)
    await rate(one, "p/m", 3)
    await one.close()
    await shelf.keep(msgspec.msgpack.encode(Pieces(OWNER, {_label("p/m"): b"no such thing"})))
    other = kept_by(shelf, tmp_path)
    await other.announce(ANNOUNCED)
    await until(lambda: known(other, {"p/n": 7.0}))
    assert "cannot be read" in caplog.text
    await other.close()


async def test_a_model_that_was_forgotten_is_taken_away(shelf: Shelf) -> None:
    keeper = LearningKeeper(shelf.connect, 3)
    both = Learning(3, {"p/m": Knowledge(at=1.0), "p/n": Knowledge(at=2.0)})
    await keeper.save(both)
    await keeper.save(Learning(3, {"p/n": both.models["p/n"]}))
    assert (await LearningKeeper(shelf.connect, 3).load()).models == {"p/n": both.models["p/n"]}


def test_without_a_shelf_it_is_learned_all_the_same(tmp_path: Path) -> None:
    async def scene() -> None:
        one = router(tmp_path)
        await one.announce(ANNOUNCED)
        await rate(one, "p/n", 1)
        await asyncio.sleep(30.0)
        assert await rates(one) == {"p/n": 5.0}
        await one.close()
        assert list(tmp_path.glob("learning*")) == []

    run(scene())
