"""Calls of tools and calls that wait, in the ledger's database: SQLite and PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.money.databases import address
from actors.money.ledger_answers import answered
from actors.money.ledger_store import LedgerStore
from pipelines.ledger import Batch, Question, ToolRow
from pipelines.ledger_questions import Erasure, Expiry, Held, Story, StoryQuestion, Waiting
from tests.actors.ledger_rows import NOON, attempt, request


@pytest.fixture
async def store(url: str, tmp_path: Path) -> AsyncIterator[LedgerStore]:
    opened = LedgerStore(address(url, tmp_path))
    await opened.open()
    try:
        yield opened
    finally:
        await opened.close()


def call(number: int, **more: Any) -> ToolRow:
    common = {"time": NOON + number, "key": "k", "request": "r00000001", "tool": "math.sum", "outcome": "ok"}
    return ToolRow(id=f"t{number:08}", **{**common, **more})


async def asked(store: LedgerStore, inquiry: Any, kind: Any) -> Any:
    return msgspec.msgpack.decode(await answered(store, inquiry), type=kind)


async def story(store: LedgerStore) -> Story:
    found: Story = await asked(store, StoryQuestion(id="r00000001"), Story)
    return found


async def test_a_requests_story_has_its_calls_in_order(store: LedgerStore) -> None:
    rows = (call(2, turn=1, preview="p" * 5000, decisions="schema: yes"), call(1, outcome="timeout"), request(1))
    await store.settle([Batch("me", (*rows, attempt(1)))])

    found = await story(store)
    assert [row["id"] for row in found.tools] == ["t00000001", "t00000002"]
    assert [row["outcome"] for row in found.tools] == ["timeout", "ok"]
    assert len(found.tools[1]["preview"]) == 1024


async def test_a_call_that_is_sent_twice_counts_once_and_is_in_no_sum(store: LedgerStore) -> None:
    await store.settle([Batch("me", (call(1), request(1)))])
    await store.settle([Batch("me", (call(1), call(2)))])

    assert len((await story(store)).tools) == 2
    (sums,) = await asked(store, Question(NOON - 3600, NOON + 3600), list[dict[str, Any]])
    assert (sums["requests"], sums["attempts"]) == (1, 0)


async def test_calls_go_with_their_key_and_with_time(store: LedgerStore) -> None:
    await store.settle([Batch("me", (call(1), request(1)))])
    await answered(store, Erasure(key="k"))
    assert (await story(store)).tools == []
    await store.settle([Batch("me", (request(1), ToolRow(id="000000000001", time=1.0, request="r00000001")))])
    await answered(store, Expiry(requests=NOON))
    assert (await story(store)).tools == []


def held(number: int = 1, key: str = "k", expires: float = NOON) -> Held:
    return Held(id=f"appr_{number}", key=key, expires=expires, told={"tool": "rm"}, conversation=b"text")


async def waiting(store: LedgerStore, **question: Any) -> list[Held]:
    found: list[Held] = await asked(store, Waiting(**{"now": NOON - 1, **question}), list[Held])
    return found


async def test_what_waits_is_listed_without_its_text_and_found_with_it(store: LedgerStore) -> None:
    for one in (held(), held(2, "other")):
        assert await answered(store, one) == b""

    assert [(one.id, one.conversation) for one in await waiting(store, key="k")] == [("appr_1", b"")]
    assert len(await waiting(store)) == 2
    assert await waiting(store, id="appr_1", key="k") == [held()]
    assert await waiting(store, id="appr_1", key="other") == []


async def test_it_is_taken_once_by_whoever_may(store: LedgerStore) -> None:
    await answered(store, held())

    assert await waiting(store, id="appr_1", key="other", take=True) == []
    taken = await asyncio.gather(*(waiting(store, id="appr_1", key="k", take=True) for _ in range(4)))
    assert sorted(map(len, taken)) == [0, 0, 0, 1]
    assert await waiting(store) == []


async def test_it_waits_no_longer_than_it_may(store: LedgerStore) -> None:
    await answered(store, held())

    assert await waiting(store, id="appr_1", now=NOON) == []
    assert await waiting(store) == []


async def test_it_survives_whoever_asked(store: LedgerStore, url: str, tmp_path: Path) -> None:
    await answered(store, held())
    again = LedgerStore(address(url, tmp_path))
    await again.open()
    try:
        assert await waiting(again, id="appr_1") == [held()]
    finally:
        await again.close()


async def test_a_key_fills_no_disk_and_its_erasure_takes_all(
    store: LedgerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.money.approval_store.MOST", 3)
    for number in range(6):
        await answered(store, held(number, expires=NOON + number))
    assert [one.id for one in await waiting(store)] == ["appr_3", "appr_4", "appr_5"]
    await answered(store, held(9, "other"))
    await answered(store, Erasure(key="k"))
    assert [one.id for one in await waiting(store)] == ["appr_9"]
