import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from actors.routing import client as client_module
from actors.routing.client import RouterClient
from actors.routing.link import RouterLink
from actors.routing.router import Router
from pipelines.errors import Overloaded
from pipelines.routing.state import SETTLING
from pipelines.routing.table import Announcement, Outcome, Report, Table, Welcome
from tests.actors.virtual_time import run

Value = TypeVar("Value")
ONE = Announcement("p", "r1", "http://h:1")
GOOD = Outcome("p", "m", 1.0)
mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="no request")


class World:
    """A router that can die, hang and come back, and whatever is tied to it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.reports: list[Report] = []
        self.announced: list[float] = []
        self.marks: set[str] = set()
        self.hung = False
        self.router: Router | None = None
        self.end = asyncio.Event()
        self.clients: list[RouterClient] = []

    def begin(self, *, preceded: bool = False) -> None:
        self.kill()
        self.end = asyncio.Event()
        loop = asyncio.get_running_loop()
        self.router = Router(str(self.directory), preceded, clock=lambda: 1000.0 + loop.time())

    def kill(self) -> None:
        self.router = None
        self.end.set()

    async def connect(self) -> RouterLink:
        if self.router is None:
            raise ConnectionError("no router anywhere")
        return _Link(self, self.router)

    def client(self, name: str, announcement: Announcement | None = None) -> RouterClient:
        made = RouterClient(name, announcement=lambda: announcement, connector=self.connect)
        self.clients.append(made)
        return made

    async def close(self) -> None:
        for client in self.clients:
            await client.close()


class _Link:
    """Calls end with an error once the router that they went to is dead, long polls too."""

    def __init__(self, world: World, router: Router) -> None:
        self._world = world
        self._router = router
        self._end = world.end

    async def announce(self, announcement: bytes) -> bytes:
        welcome = await self._call(lambda: self._router.announce(announcement))
        self._world.announced.append(asyncio.get_running_loop().time())
        return welcome

    async def greet(self, reporter: str) -> bytes:
        return await self._call(lambda: self._router.greet(reporter))

    async def report(self, report: bytes) -> None:
        await self._call(lambda: self._router.report(report))
        self._world.reports.append(msgspec.msgpack.decode(report, type=Report))

    async def table(self, after_version: int, epoch: str) -> bytes | None:
        return await self._call(lambda: self._router.table(after_version, epoch))

    async def snapshot(self) -> bytes:
        return await self._call(self._router.snapshot)

    async def view(self, after_version: int, epoch: str) -> bytes | None:
        return await self._call(lambda: self._router.view(after_version, epoch))

    async def feedback(self, said: bytes) -> bytes:
        return await self._call(lambda: self._router.feedback(said))

    async def metrics(self) -> bytes:
        raise NotImplementedError

    async def standing(self) -> bytes:
        return await self._call(self._router.standing)

    async def keep(self) -> None:
        await self._call(self._router.keep)

    async def _call(self, call: Callable[[], Awaitable[Value]]) -> Value:
        self._world.marks.add(mark.get())
        if self._world.hung:
            await asyncio.sleep(3600)
        if self._world.router is not self._router:
            raise ConnectionError("the router died")
        asked, end = asyncio.ensure_future(call()), asyncio.ensure_future(self._end.wait())
        try:
            await asyncio.wait((asked, end), return_when=asyncio.FIRST_COMPLETED)
            if end.done():
                raise ConnectionError("the router died meanwhile")
            return await asked
        finally:
            for each in (asked, end):
                each.cancel()
            await asyncio.gather(asked, end, return_exceptions=True)


def play(directory: Path, scene: Callable[[World], Awaitable[None]]) -> World:
    world = World(directory)

    async def whole() -> None:
        try:
            await scene(world)
        finally:
            await world.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                assert "_tick" in repr(task), f"a task is left over: {task!r}"

    run(whole())
    return world


def addresses(table: Table) -> list[str]:
    return [replica.address for entry in table.providers for replica in entry.replicas]


def test_what_one_announces_the_other_sees_within_a_tick(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.begin()
        provider, gateway = world.client("r1", ONE), world.client("g1")
        await provider.start()
        await gateway.start()
        assert addresses(await gateway.first_table(1.0)) == []
        await provider.announce()
        await asyncio.sleep(0.15)
        assert addresses(gateway.table) == ["http://h:1"]
        await provider.leave()
        await asyncio.sleep(0.15)
        assert addresses(gateway.table) == []
        await asyncio.sleep(3.0)
        assert addresses(gateway.table) == []

    play(tmp_path, scene)


def test_both_are_told_what_is_new_and_only_that(tmp_path: Path) -> None:
    welcomes: list[Welcome] = []
    tables: list[tuple[Table, Table]] = []

    async def scene(world: World) -> None:
        world.begin()
        gateway = RouterClient(
            "g1",
            on_welcome=welcomes.append,
            on_table=lambda *pair: tables.append(pair),
            connector=world.connect,
        )
        provider = world.client("r1", ONE)
        world.clients.append(gateway)
        await gateway.start()
        await provider.start()
        await provider.announce()
        await asyncio.sleep(30.0)
        assert len(welcomes) == 1
        assert welcomes[0] == gateway.welcome
        assert [before.version for before, _ in tables[1:]] == [after.version for _, after in tables[:-1]]
        assert tables[-1][1] is gateway.table
        assert len(tables) <= 2

    play(tmp_path, scene)


def test_outcomes_go_in_batches_and_what_is_under_way_with_them(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.begin()
        gateway = world.client("g1")
        await gateway.start()
        for _ in range(100):
            gateway.begin("p", "m")
        assert gateway.in_flight == {("p", "m")}
        for _ in range(99):
            gateway.end(GOOD)
        await asyncio.sleep(0.3)
        gateway.end(GOOD)
        await asyncio.sleep(0.3)
        assert gateway.in_flight == frozenset()

    world = play(tmp_path, scene)
    sizes = [(len(report.outcomes), report.in_flight) for report in world.reports if report.outcomes]
    assert sizes == [(99, {"p": {"m": 1}}), (1, {})]


def test_an_idle_gateway_says_little(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.begin()
        await world.client("g1").start()
        await asyncio.sleep(20.0)

    assert 4 <= len(play(tmp_path, scene).reports) <= 7


@pytest.mark.parametrize(("load", "apart"), [(0, 2.0), (1, 1.0)], ids=["that rests", "whose load changes"])
def test_a_provider_announces_itself(tmp_path: Path, load: int, apart: float) -> None:
    counted = 0

    def announcement() -> Announcement:
        nonlocal counted
        counted += load
        return msgspec.structs.replace(ONE, in_flight=counted)

    async def scene(world: World) -> None:
        world.begin()
        provider = RouterClient("r1", announcement=announcement, connector=world.connect)
        world.clients.append(provider)
        await provider.start()
        await provider.announce()
        await asyncio.sleep(20.0)

    announced = play(tmp_path, scene).announced
    pauses = [after - before for before, after in pairwise(announced[1:])]
    assert len(pauses) >= 20 / apart - 2
    assert pauses == pytest.approx([apart] * len(pauses), abs=0.1)


def test_a_provider_that_rests_greets_the_next_router_at_once(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.begin()
        provider = world.client("r1", ONE)
        await provider.start()
        await provider.announce()
        for fraction in (0.3, 0.9, 1.7):
            await asyncio.sleep(4.0 + fraction)
            world.begin(preceded=True)
            began = asyncio.get_running_loop().time()
            await asyncio.sleep(0.5)
            assert world.announced[-1] >= began

    play(tmp_path, scene)


def test_the_table_is_kept_while_the_router_is_gone_and_until_the_next_one_is_settled(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.begin()
        provider, gateway = world.client("r1", ONE), world.client("g1")
        for client in (provider, gateway):
            await client.start()
        await provider.announce()
        await asyncio.sleep(0.2)
        kept = gateway.table
        world.kill()
        gateway.begin("p", "m")
        gateway.end(GOOD)
        await asyncio.sleep(60.0)
        assert gateway.table is kept
        assert addresses(kept) == ["http://h:1"]
        world.begin(preceded=True)
        await asyncio.sleep(1.5)
        assert gateway.table is kept
        await asyncio.sleep(SETTLING)
        assert gateway.table.epoch != kept.epoch
        assert addresses(gateway.table) == ["http://h:1"]
        snapshot = await gateway.snapshot()
        assert snapshot.providers[0].performance["m"].attempts == 1

    play(tmp_path, scene)


def test_no_replica_is_ever_lost_from_the_table_by_a_restart(tmp_path: Path) -> None:
    seen: list[int] = []

    async def scene(world: World) -> None:
        world.begin()
        gateway = RouterClient(
            "g1",
            on_table=lambda _, after: seen.append(len(addresses(after))),
            connector=world.connect,
        )
        world.clients.append(gateway)
        for number in range(20):
            replica = Announcement(f"p{number}", f"r{number}", "http://h:1")
            provider = world.client(replica.replica, replica)
            await provider.start()
            await provider.announce()
        await asyncio.sleep(0.3)
        await gateway.start()
        for _ in range(5):
            await asyncio.sleep(7.3)
            world.kill()
            await asyncio.sleep(1.7)
            world.begin(preceded=True)
        await asyncio.sleep(10.0)

    play(tmp_path, scene)
    assert len(seen) >= 6
    assert set(seen) == {20}


def test_even_an_unsettled_table_is_kept_until_the_next_router_is_settled(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.begin(preceded=True)
        provider, gateway = world.client("r1", ONE), world.client("g1")
        for client in (provider, gateway):
            await client.start()
        await provider.announce()
        await asyncio.sleep(0.2)
        kept = gateway.table
        assert not kept.settled
        world.begin(preceded=True)
        await asyncio.sleep(2.0)
        assert gateway.table is kept
        await asyncio.sleep(1.0 + SETTLING)
        assert gateway.table.epoch != kept.epoch
        assert addresses(gateway.table) == ["http://h:1"]

    play(tmp_path, scene)


def test_a_router_that_does_not_know_of_its_forerunner_takes_no_replica_away(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        slow = False

        async def connect() -> RouterLink:
            if slow:
                raise ConnectionError("not found yet")
            return await world.connect()

        world.begin()
        provider, gateway = RouterClient("r1", announcement=lambda: ONE, connector=connect), world.client("g1")
        world.clients.append(provider)
        for client in (provider, gateway):
            await client.start()
        await provider.announce()
        await asyncio.sleep(0.2)
        kept = gateway.table
        world.kill()
        slow = True
        await asyncio.sleep(20.0)
        world.begin(preceded=False)
        for tenth in range(100):
            slow = tenth < 15
            await asyncio.sleep(0.1)
            assert addresses(gateway.table) == ["http://h:1"]
        assert gateway.table.epoch != kept.epoch

    play(tmp_path, scene)


def test_a_router_that_hangs_is_left_and_found_again(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.begin()
        gateway = world.client("g1")
        await gateway.start()
        world.hung = True
        gateway.record(GOOD)
        await asyncio.sleep(60.0)
        world.hung = False
        await asyncio.sleep(7.0)

    world = play(tmp_path, scene)
    assert sum(len(report.outcomes) for report in world.reports) == 1


def test_what_cannot_be_sent_is_kept_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "BUFFER", 50)

    async def scene(world: World) -> None:
        world.begin()
        gateway = world.client("g1")
        await gateway.start()
        world.kill()
        for number in range(80):
            gateway.record(Outcome("p", "m", float(number)))
        assert gateway.lost == 30
        await asyncio.sleep(5.0)
        world.begin()
        await asyncio.sleep(5.0)

    world = play(tmp_path, scene)
    assert [outcome.seconds for report in world.reports for outcome in report.outcomes] == list(range(30, 80))


def test_the_last_outcomes_are_sent_when_it_closes(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.begin()
        gateway = world.client("g1")
        await gateway.start()
        await asyncio.sleep(0.01)
        gateway.record(GOOD)
        await gateway.close()

    assert play(tmp_path, scene).reports[-1].outcomes == (GOOD,)


def test_without_a_router_the_start_fails_in_time_and_says_why(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        with pytest.raises(Overloaded, match="no router anywhere"):
            await world.client("g1").start(3.0)
        assert asyncio.get_running_loop().time() == pytest.approx(3.0)

    play(tmp_path, scene)


def test_its_calls_belong_to_no_request(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.begin()
        mark.set("a request")
        gateway = world.client("g1")
        await gateway.start()
        await asyncio.sleep(5.0)
        assert world.marks == {"no request"}

    play(tmp_path, scene)
