import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from actors.replaying.replay_client import LAST_WORDS, Lost, ReplayClient
from actors.replaying.replay_link import ReplaysLink
from actors.replaying.replays import Replays
from pipelines.errors import Overloaded
from pipelines.idempotency import LEASE, MAX_ANSWER, Head, Opening
from pipelines.routing.table import Outcome
from tests.actors.virtual_time import run

Value = TypeVar("Value")
HEAD = Head(200, {}, framed=True)
OUTCOME = Outcome("p", "m", 0.0, cost=0.0)
mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="no request")


async def at_once(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


class World:
    """Replays that can die, hang and come back, and whatever is tied to them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.calls: list[str] = []
        self.marks: set[str] = set()
        self.hung = False
        self.replays: Replays | None = None
        self.clients: list[ReplayClient] = []

    def begin(self, *, preceded: bool = False) -> Replays:
        loop = asyncio.get_running_loop()
        self.replays = Replays(str(self.directory), preceded, lambda: 1000.0 + loop.time(), offload=at_once)
        return self.replays

    async def connect(self) -> ReplaysLink:
        if self.replays is None:
            raise ConnectionError("no replays anywhere")
        return _Link(self, self.replays)

    def client(self) -> ReplayClient:
        made = ReplayClient(connector=self.connect)
        self.clients.append(made)
        return made


class _Link:
    """Calls end with an error once the replays that they went to are dead."""

    def __init__(self, world: World, replays: Replays) -> None:
        self._world = world
        self._replays = replays

    async def begin(self, opening: bytes) -> bytes:
        return await self._call("begin", lambda: self._replays.begin(opening))

    async def push(self, push: bytes) -> bytes:
        return await self._call("push", lambda: self._replays.push(push))

    async def abandon(self, opening: bytes) -> None:
        await self._call("abandon", lambda: self._replays.abandon(opening))

    async def read(self, opening: bytes, offset: int) -> bytes | None:
        return await self._call("read", lambda: self._replays.read(opening, offset))

    async def _call(self, name: str, call: Callable[[], Awaitable[Value]]) -> Value:
        self._world.calls.append(name)
        self._world.marks.add(mark.get())
        if self._world.hung:
            await asyncio.sleep(3600)
        if self._world.replays is not self._replays:
            raise ConnectionError("the replays died")
        answer = await call()
        if self._world.replays is not self._replays:
            raise ConnectionError("the replays died meanwhile")
        return answer


def play(directory: Path, scene: Callable[[World], Awaitable[None]]) -> World:
    world = World(directory)

    async def whole() -> None:
        try:
            await scene(world)
        finally:
            for client in world.clients:
                await client.close()
            await asyncio.sleep(0)
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                assert "_tick" in repr(task), f"a task is left over: {task!r}"

    run(whole())
    return world


def opening(name: str) -> Opening:
    return Opening("n", "f", name)


async def said(client: ReplayClient, leader: str) -> bytes:
    return b"".join([piece.data async for piece in client.pieces(opening(leader))])


def test_what_one_records_the_other_reads_live(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.begin()
        leader, reader = world.client(), world.client()
        assert (await leader.begin(opening("a"))).verdict == "run"
        recording = leader.record(opening("a"))
        recording.begin(HEAD)
        assert (await reader.begin(opening("b"))).run == "a"
        loop = asyncio.get_running_loop()
        arrived: list[float] = []
        pieces = reader.pieces(opening("a"))
        for number in range(20):
            recording.add(b"x")
            sent = loop.time()
            if number % 5 == 0:
                await anext(pieces)
                arrived.append(loop.time() - sent)
            await asyncio.sleep(0.3)
        recording.finish(OUTCOME)
        last = [piece async for piece in pieces][-1]
        assert (last.state, last.outcome) == ("whole", OUTCOME)
        # The first output goes at once, and all other within a batch.
        assert arrived[0] == 0.0
        assert max(arrived) <= 0.051
        assert await said(reader, "a") == b"x" * 20

    play(tmp_path, scene)


def test_output_is_sent_in_batches_and_silence_is_broken_every_second(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.begin()
        client = world.client()
        await client.begin(opening("a"))
        recording = client.record(opening("a"))
        recording.begin(HEAD)
        for _ in range(1000):
            recording.add(b"data: token\n\n")
            await asyncio.sleep(0.001)
        assert 15 <= world.calls.count("push") <= 25
        world.calls.clear()
        await asyncio.sleep(10.0)
        assert 9 <= world.calls.count("push") <= 11
        assert (await client.begin(opening("b"))).verdict == "join"
        recording.abandon()
        await asyncio.sleep(0)
        await client.close()
        assert (await client.begin(opening("c"))).verdict == "run"

    play(tmp_path, scene)


def test_an_actor_that_comes_back_knowing_nothing_gets_all_of_it_and_nobody_leads_twice(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.begin()
        leader, reader = world.client(), world.client()
        await leader.begin(opening("a"))
        recording = leader.record(opening("a"))
        recording.begin(HEAD)
        recording.add(b"one ")
        reading = asyncio.create_task(said(reader, "a"))
        await asyncio.sleep(1.0)
        world.replays = None
        recording.add(b"two ")
        await asyncio.sleep(0.5)
        replays = world.begin(preceded=True)
        verdicts = set()
        for number in range(40):
            try:
                verdicts.add((await world.client().begin(opening(f"b{number}"))).verdict)
            except Overloaded:
                verdicts.add("busy")
            await asyncio.sleep(0.1)
        assert "run" not in verdicts
        assert "join" in verdicts
        recording.add(b"three")
        recording.finish(OUTCOME)
        assert await reading == b"one two three"
        assert replays._register.state("n") == "stored"

    play(tmp_path, scene)


def test_the_last_words_are_kept_for_an_actor_that_is_away(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.begin()
        client = world.client()
        await client.begin(opening("a"))
        recording = client.record(opening("a"))
        recording.begin(HEAD)
        world.replays = None
        recording.add(b"the answer")
        recording.finish(OUTCOME)
        await asyncio.sleep(LAST_WORDS / 2)
        replays = world.begin(preceded=True)
        await asyncio.sleep(2.0)
        assert replays._register.state("n") == "stored"
        world.replays = None
        recording = client.record(opening("never"))
        recording.finish(OUTCOME)
        await asyncio.sleep(LAST_WORDS + 2.0)
        assert client._tasks == set()

    play(tmp_path, scene)


@pytest.mark.parametrize("hung", [True, False])
def test_who_cannot_ask_is_refused_within_a_second_and_leads_nothing(tmp_path: Path, hung: bool) -> None:
    async def scene(world: World) -> None:
        if hung:
            world.begin()
            world.hung = True
        client = world.client()
        with pytest.raises(Overloaded) as caught:
            await client.begin(opening("a"))
        assert (caught.value.status, caught.value.retry_after) == (503, 1.0)
        assert asyncio.get_running_loop().time() <= 1.01
        world.hung = False
        world.begin()
        await asyncio.sleep(5.0)
        assert (await client.begin(opening("b"))).verdict == "run"

    play(tmp_path, scene)


def test_who_leaves_while_he_asks_leads_nothing(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        replays = world.begin()
        client = world.client()
        asking = asyncio.create_task(client.begin(opening("a")))
        while "begin" not in world.calls:
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await asyncio.sleep(0.1)
        assert "abandon" in world.calls
        assert replays._register.state("n") == "absent"

    play(tmp_path, scene)


def test_a_reader_of_a_lost_answer_hears_that_it_is(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.begin()
        leader, reader = world.client(), world.client()
        await leader.begin(opening("a"))
        recording = leader.record(opening("a"))
        recording.begin(HEAD)
        recording.add(b"half")
        reading = asyncio.create_task(said(reader, "a"))
        await asyncio.sleep(0.1)
        recording.abandon()
        with pytest.raises(Lost):
            await reading
        world.replays = None
        began = asyncio.get_running_loop().time()
        with pytest.raises(Lost):
            await said(reader, "a")
        assert asyncio.get_running_loop().time() - began < 2 * LEASE

    play(tmp_path, scene)


def test_too_large_an_answer_is_let_go_of_at_both_ends(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        replays = world.begin()
        client = world.client()
        await client.begin(opening("a"))
        recording = client.record(opening("a"))
        recording.begin(HEAD)
        for _ in range(MAX_ANSWER // 2**20 + 1):
            recording.add(b"x" * 2**20)
            await asyncio.sleep(0.1)
        assert (await client.begin(opening("b"))).verdict == "busy"
        assert (len(recording._body), replays._register.held) == (0, 0)
        recording.add(b"more")
        recording.finish(OUTCOME)
        await asyncio.sleep(0.1)
        assert (await client.begin(opening("b"))).verdict == "run"

    play(tmp_path, scene)


def test_its_calls_belong_to_no_request(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.begin()
        mark.set("a request")
        client = world.client()
        client.start()
        await client.begin(opening("a"))
        recording = client.record(opening("a"))
        recording.begin(HEAD)
        recording.add(b"x")
        recording.finish(OUTCOME)
        assert await said(client, "a") == b"x"
        assert world.marks == {"no request"}

    play(tmp_path, scene)
