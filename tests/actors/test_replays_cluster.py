"""The real replays actor on a real cluster: one leads, another reads along, and a SIGKILL in between."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
import ray

from actors.directory import NAMESPACE, REPLAYS, connect
from actors.replaying.replay_client import ReplayClient
from pipelines.errors import Overloaded
from pipelines.idempotency import Begun, Head, Opening
from pipelines.routing.table import Outcome

HEAD = Head(200, {"content-type": "text/event-stream"}, framed=True)
OUTCOME = Outcome("p", "m", 0.0, cost=0.0)

pytestmark = [
    pytest.mark.cluster,
]


class OldReplays:
    """Replays of another code version."""

    async def version(self) -> str:
        return "old"


def opening(name: str, run: str) -> Opening:
    return Opening(name, "f", run)


async def patiently(client: ReplayClient, asked: Opening) -> Begun:
    """Begin, as a caller does who comes again after a 503."""
    async with asyncio.timeout(120.0):
        while True:
            try:
                return await client.begin(asked)
            except Overloaded:
                await asyncio.sleep(0.1)


async def said(client: ReplayClient, asked: Opening) -> bytes:
    return b"".join([piece.data async for piece in client.pieces(asked)])


async def test_one_leads_one_joins_and_a_kill_loses_nothing(state: Path) -> None:
    old = ray.remote(OldReplays).options(name=REPLAYS, namespace=NAMESPACE, lifetime="detached").remote()
    assert await old.version.remote() == "old"
    mine = await asyncio.to_thread(connect, str(state), REPLAYS, patience=120.0)
    assert mine._actor_id != old._actor_id

    first, second = ReplayClient(str(state)), ReplayClient(str(state))
    try:
        assert (await patiently(first, opening("stored", "s"))).verdict == "run"
        stored = first.record(opening("stored", "s"))
        stored.begin(HEAD)
        stored.add(b"x" * 1_000_000)
        stored.finish(OUTCOME)
        assert (await patiently(first, opening("n", "a"))).verdict == "run"
        recording = first.record(opening("n", "a"))
        recording.begin(HEAD)
        recording.add(b"one ")
        assert await patiently(second, opening("n", "b")) == Begun("join", "a")
        pieces = second.pieces(opening("n", "a"))
        assert (await anext(pieces)).data == b"one "
        assert len(await said(second, opening("stored", "s"))) == 1_000_000

        killed = await mine.process.remote()
        os.kill(killed, signal.SIGKILL)
        recording.add(b"two ")
        assert await patiently(second, opening("n", "c")) == Begun("join", "a")
        assert await mine.process.remote() != killed
        assert await patiently(second, opening("stored", "t")) == Begun("replay", "s")
        recording.add(b"three")
        recording.finish(OUTCOME)
        rest = [piece async for piece in pieces]
        assert b"".join(piece.data for piece in rest) == b"two three"
        assert (rest[-1].state, rest[-1].outcome) == ("whole", OUTCOME)
        assert await patiently(second, opening("n", "d")) == Begun("replay", "a")
        assert await said(second, opening("n", "a")) == b"one two three"
    finally:
        await first.close()
        await second.close()
