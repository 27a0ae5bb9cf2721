"""The ledger end to end: a row for each request and attempt, sums as the upstream counted, and answers that wait."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, select

from actors.money.ledger import Ledger
from actors.money.ledger_tables import ATTEMPTS, REQUESTS, row_of
from deployments.replica import Replica
from pipelines.ledger import AttemptRow, RequestRow
from pipelines.routing.table import Bill
from tests.deployments.house import House, client_of, house
from tests.upstream import Fault, Upstream

CHAT = "/v1/chat/completions"
HELLO: Any = [{"role": "user", "content": "Hello, how are you?"}]

PROMPT = 16
"""Tokens of every prompt, as the upstream counts."""

both_lanes = pytest.mark.parametrize("way", ["routed", "direct"])
stream_or_not = pytest.mark.parametrize("stream", [True, False])


def lane(running: House, name: str) -> tuple[Replica, str]:
    """The replica that a caller of the lane asks, and what goes before a model's name there."""
    return (running.gateway, "flaky/") if name == "routed" else (running.replicas[-1], "")


def body(model: str, *, stream: bool = False, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": HELLO, "stream": stream, **more}


async def read(running: House) -> tuple[list[RequestRow], list[AttemptRow]]:
    """All rows, once every replica has told all that it has to tell."""
    await running.until(lambda: not any(replica.ledger.waiting for replica in running.replicas))
    return await written(running)


async def written(running: House) -> tuple[list[RequestRow], list[AttemptRow]]:
    """All rows that are there."""
    assert running.ledger is not None
    store = await running.ledger._ready()

    def rows(connection: Connection) -> tuple[list[RequestRow], list[AttemptRow]]:
        found = connection.execute(select(REQUESTS).order_by(REQUESTS.c.id)), connection.execute(select(ATTEMPTS))
        return (
            [row for one in found[0] if isinstance(row := row_of(RequestRow, one._asdict()), RequestRow)],
            [row for one in found[1] if isinstance(row := row_of(AttemptRow, one._asdict()), AttemptRow)],
        )

    return await store.read(rows)


async def until_rows(running: House, enough: Callable[[list[RequestRow], list[AttemptRow]], bool]) -> None:
    """Rows of what was cut off come when somebody has noticed."""
    async with asyncio.timeout(30.0):
        while not enough(*await read(running)):
            await asyncio.sleep(0.05)


@both_lanes
@stream_or_not
async def test_the_rows_are_there_when_the_answer_ends(
    running: House, upstream: Upstream, way: str, stream: bool
) -> None:
    replica, prefix = lane(running, way)
    upstream.plan("m", Fault.answer(12))
    asked = body(f"{prefix}m", stream=stream, metadata={"tag": "nightly", "team": "blue"})
    async with client_of(replica) as client:
        answer = await client.post(CHAT, json=asked, headers={"x-request-id": "mine"})
        assert [len(rows) for rows in await written(running)] == [1, 1]
    (request,), (attempt,) = await read(running)
    assert attempt.request == request.id
    for row in (request, attempt):
        assert (row.key, row.tag, row.request_id) == ("administrator", "nightly", "mine")
        assert (row.provider, row.model, row.outcome, row.retries) == ("flaky", "m", "ok", 0)
        assert row.bill == Bill(input=PROMPT, output=12, cost=None, basis="unknown", answered="m")
        assert row.seconds > 0
        assert (row.first_output is not None) == stream
    assert request.metadata == {"tag": "nightly", "team": "blue"}
    assert (request.lane, request.stream, request.asked) == (way, stream, f"{prefix}m" if way == "routed" else "m")
    assert request.sent == len(answer.content)
    assert request.received == len(answer.request.content)
    assert attempt.role == "first"


@both_lanes
@stream_or_not
async def test_no_answer_ends_before_its_rows_are_durable(
    running: House, upstream: Upstream, way: str, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica, prefix = lane(running, way)
    held = asyncio.Event()
    settle = Ledger.settle

    async def slow(self: Ledger, batch: bytes) -> None:
        await held.wait()
        await settle(self, batch)

    monkeypatch.setattr(Ledger, "settle", slow)
    async with client_of(replica) as client:
        begun: list[bytes] = []

        async def ask() -> None:
            async with client.stream("POST", CHAT, json=body(f"{prefix}m", stream=stream)) as answer:
                async for chunk in answer.aiter_bytes():
                    begun.append(chunk)  # noqa: PERF401 - what has come so far is looked at meanwhile

        asking = asyncio.create_task(ask())
        await running.until(lambda: replica.ledger.waiting == 1)
        await asyncio.wait({asking}, timeout=0.1)
        assert not asking.done()
        said = b"".join(begun)
        assert (b"word7" in said) == stream
        assert b"[DONE]" not in said
        held.set()
        await asking
    assert b"[DONE]" in b"".join(begun) or not stream


@both_lanes
@stream_or_not
async def test_refusals_retries_and_fallbacks(running: House, upstream: Upstream, way: str, stream: bool) -> None:
    replica, prefix = lane(running, way)
    upstream.plan("limited", Fault.rate_limited(), Fault.answer(3))
    upstream.plan("wrong", Fault.content_filter())
    upstream.plan("down", Fault.server_error(), times=None)
    async with client_of(replica) as client:
        for model in ("limited", "wrong"):
            await client.post(CHAT, json=body(prefix + model, stream=stream))
        fallen = body(f"{prefix}down", stream=stream, models=["simulator/fast"])
        await client.post(CHAT, json=fallen)
    requests, attempts = await read(running)
    assert [row.outcome for row in requests] == ["ok", "content_policy", "ok" if way == "routed" else "server_error"]
    assert [row.status for row in requests[:2]] == [200, 400]
    by_model = {(row.provider, row.model): row for row in attempts}
    assert by_model["flaky", "limited"].retries == 1
    assert by_model["flaky", "wrong"].bill == Bill()
    assert by_model["flaky", "down"].outcome == "server_error"
    if way == "routed":
        fallback = by_model["simulator", "fast"]
        assert (fallback.role, fallback.outcome, fallback.request) == ("fallback", "ok", requests[2].id)
        assert fallback.bill.basis == "computed"
        assert fallback.bill.cost is not None
        assert (requests[2].provider, requests[2].bill) == ("simulator", fallback.bill)
        assert requests[2].route
    assert len(attempts) == (4 if way == "routed" else 3)
    assert len({row.id for row in attempts}) == len(attempts)


@both_lanes
async def test_what_a_caller_leaves_is_estimated(running: House, upstream: Upstream, way: str) -> None:
    replica, prefix = lane(running, way)
    upstream.plan("endless", Fault.without_end(gap=0.01))
    upstream.plan("silent", Fault.silence(3600.0))
    async with client_of(replica) as client:
        async with client.stream("POST", CHAT, json=body(f"{prefix}endless", stream=True)) as answer:
            async for line in answer.aiter_lines():
                if "word20" in line:
                    break
        asking = asyncio.create_task(client.post(CHAT, json=body(f"{prefix}silent", stream=True)))
        await upstream.until(lambda: upstream.requests[-1].body["model"] == "silent")
        asking.cancel()
        await asyncio.wait({asking})
    await until_rows(running, lambda requests, attempts: len(requests) == len(attempts) == 2)
    requests, attempts = await read(running)
    assert [row.outcome for row in requests] == ["cancelled"] * 2
    assert [(row.provider, row.model) for row in requests] == [("flaky", "endless"), ("flaky", "silent")]
    assert all(bool(row.route) == (way == "routed") for row in requests)
    endless = next(row for row in attempts if row.model == "endless")
    assert (endless.outcome, endless.bill.estimated, endless.bill.input) == ("cancelled", True, 4)
    assert 20 <= endless.bill.output <= 200
    silent = next(row for row in attempts if row.model == "silent")
    assert (silent.outcome, silent.bill.estimated, silent.bill.input, silent.bill.output) == ("cancelled", True, 4, 0)


@both_lanes
@stream_or_not
async def test_a_refused_request_names_who_refused_it(
    running: House, upstream: Upstream, way: str, stream: bool
) -> None:
    replica, prefix = lane(running, way)
    upstream.plan("m", Fault.context_too_long())
    alone = {"penstock": {"fall_back": False}} if way == "routed" else {}
    async with client_of(replica) as client:
        assert (await client.post(CHAT, json=body(f"{prefix}m", stream=stream, **alone))).status_code >= 400
        assert (await client.post(CHAT, json=body("nobody/has/this" if way == "routed" else ""))).status_code >= 400
    requests, (attempt,) = await read(running)
    refused = requests[0]
    assert (refused.outcome, refused.provider, refused.model) == (attempt.outcome, "flaky", "m")
    assert bool(refused.route) == (way == "routed")
    assert {row.provider for row in requests[1:]} <= {""}, "nobody was asked"


@both_lanes
async def test_who_dies_leaves_an_estimate(running: House, upstream: Upstream, way: str) -> None:
    replica, prefix = lane(running, way)
    upstream.plan("silent", Fault.silence(3600.0))
    assert running.ledger is not None
    store = await running.ledger._ready()
    async with client_of(replica) as client:
        asking = asyncio.create_task(client.post(CHAT, json=body(f"{prefix}silent", stream=True)))
        expected = {one.ledger.reporter for one in (replica, running.replicas[-1])}
        async with asyncio.timeout(30.0):
            while await store.reporters() != expected:
                await asyncio.sleep(0.02)
        for reporter in expected:
            await store.settle_lost(reporter)
        asking.cancel()
        await asyncio.wait({asking})
        (request,), (attempt,) = await written(running)
    assert (request.outcome, request.bill.cost, request.bill.basis) == ("lost", None, "unknown")
    assert (attempt.outcome, attempt.provider, attempt.request) == ("lost", "flaky", request.id)
    assert (attempt.bill.estimated, attempt.bill.input) == (True, 4)


@both_lanes
async def test_a_recovered_answer_has_all_of_its_attempts(running: House, upstream: Upstream, way: str) -> None:
    replica, prefix = lane(running, way)
    upstream.plan("m", Fault.cut_off(14, words=24), Fault.answer(words=24))
    async with client_of(replica) as client:
        asked = body(f"{prefix}m", stream=True, penstock={"recovery": "continue"})
        assert "[DONE]" in (await client.post(CHAT, json=asked)).text
    (request,), attempts = await read(running)
    assert request.outcome == "ok"
    assert {(row.role, row.outcome, row.bill.estimated) for row in attempts} == {
        ("first", "broken", True),
        ("recovery", "ok", False),
    }
    assert {row.request for row in attempts} == {request.id}


@both_lanes
async def test_a_broken_answer_says_so_and_is_paid_for(running: House, upstream: Upstream, way: str) -> None:
    replica, prefix = lane(running, way)
    upstream.plan("m", Fault.cut_off(3))
    async with client_of(replica) as client:
        assert '"error"' in (await client.post(CHAT, json=body(f"{prefix}m", stream=True))).text
    (request,), (attempt,) = await read(running)
    assert (request.outcome, attempt.outcome) == ("broken", "broken")
    assert attempt.bill.estimated
    assert 3 <= attempt.bill.output <= 5, "three words came"


async def test_a_load_of_everything_adds_up(running: House, upstream: Upstream) -> None:
    """Cancels, faults and fallbacks on both lanes at once: every answer has one row, and nothing is lost or doubled."""
    kinds: dict[str, Fault] = {
        "fine": Fault.answer(10),
        "limited": Fault.rate_limited(),
        "broken": Fault.cut_off(3),
        "refused": Fault.content_filter(),
        "endless": Fault.without_end(gap=0.01),
    }
    for name, fault in kinds.items():
        if name == "limited":
            upstream.plan(name, *[fault, Fault.answer(10)] * 30)
        else:
            upstream.plan(name, fault, times=None)
    answers: Counter[str] = Counter()

    async def ask(number: int) -> None:
        replica, prefix = lane(running, ("routed", "direct")[number % 2])
        name = list(kinds)[number % 5]
        stream = number % 3 > 0 or name == "endless"
        asked = body(prefix + name, stream=stream)
        async with client_of(replica) as client, client.stream("POST", CHAT, json=asked) as answer:
            got = 0
            async for chunk in answer.aiter_bytes():
                got += len(chunk)
                if name == "endless" and got > 500:
                    break
        answers[name] += 1

    for begin in range(0, 100, 25):
        await asyncio.gather(*(ask(number) for number in range(begin, begin + 25)))
    await until_rows(running, lambda requests, attempts: len(requests) == len(attempts) == 100)
    requests, attempts = await read(running)
    assert len({row.id for row in requests}) == len({row.request for row in attempts}) == 100
    assert answers == Counter(row.model for row in attempts)
    # Each try is known, and every answer that the upstream counted to its end stands with its own figures.
    assert sum(row.retries + 1 for row in attempts) == len(upstream.requests)
    whole = [row for row in attempts if row.outcome == "ok"]
    said = sum(seen.fault == Fault().name for seen in upstream.requests)
    assert [(row.bill.input, row.bill.output, row.bill.estimated) for row in whole] == [(PROMPT, 10, False)] * said
    assert said >= 30
    outcomes = {name: {row.outcome for row in attempts if row.model == name} for name in kinds}
    assert outcomes.pop("broken") <= {"broken", "server_error"}
    assert outcomes.pop("limited") <= {"ok", "rate_limited"}
    # On a busy machine its total time may be over before its caller has left.
    assert outcomes.pop("endless") <= {"cancelled", "timeout"}
    assert outcomes == {"fine": {"ok"}, "refused": {"content_policy"}}


@pytest.mark.parametrize("policy", ["refuse", "continue"])
async def test_without_a_ledger_work_is_refused_or_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    async with house(tmp_path, monkeypatch, ledger={"when_away": policy, "waiting": 10}) as built:
        kept, built.ledger = built.ledger, None
        built.gateway.ledger._link = None
        async with client_of(built.gateway) as client:

            async def ask() -> httpx.Response:
                return await client.post(CHAT, json=body("simulator/fast"))

            asking = [asyncio.create_task(ask()) for _ in range(10)]
            if policy == "refuse":
                await built.until(lambda: built.gateway.ledger.full)
                refused = await ask()
                assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
                assert "ledger" in refused.json()["error"]["message"]
                assert not any(task.done() for task in asking)
            else:
                answers = await asyncio.gather(*asking)
                assert [answer.headers["x-penstock-ledger"] for answer in answers] == ["behind"] * 10
                assert (await ask()).status_code == 200
                stream = await client.post(CHAT, json=body("simulator/fast", stream=True))
                assert stream.headers["x-penstock-ledger"] == "behind"
                assert "[DONE]" in stream.text
            built.ledger = kept
            assert all(answer.status_code == 200 for answer in await asyncio.gather(*asking))
        requests, _ = await read(built)
        assert len(requests) == 10
        assert [row.outcome for row in requests] == ["ok"] * 10


async def test_a_handle_s_calls_are_in_it_too(running: House) -> None:
    chunks = [chunk async for chunk in running.gateway.chat_stream(body("simulator/fast"))]
    assert "error" not in json.dumps(chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    whole = await running.gateway.chat(body("simulator/fast", metadata={"tag": "job"}))
    failed = await running.gateway.chat(body("nobody/nothing"))
    assert "error" in failed
    requests, attempts = await read(running)
    assert [(row.key, row.tag, row.outcome) for row in requests] == [
        ("internal", "", "ok"),
        ("internal", "job", "ok"),
        ("internal", "", "model_not_found"),
    ]
    assert len(attempts) == 2
    assert requests[1].bill.output == whole["usage"]["completion_tokens"]


async def test_what_nobody_may_ask_is_in_nobody_s_row(running: House) -> None:
    await running.until(lambda: running.gateway.guard.complete)
    async with client_of(running.gateway, key="psk-unknown") as client:
        assert (await client.post(CHAT, json=body("simulator/fast"))).status_code == 401
    async with client_of(running.gateway) as client:
        assert (await client.post(CHAT, content=b"{")).status_code == 400
    assert await read(running) == ([], [])


async def test_a_forwarded_request_is_a_row_of_unknown_cost(running: House, upstream: Upstream) -> None:
    async with client_of(running.replicas[-1]) as client:
        answer = await client.post("/v1/audio/speech", json={"input": "hello"}, headers={"x-penstock-tag": "voice"})
    (request,), (attempt,) = await read(running)
    assert (request.operation, request.status, request.tag) == ("/v1/audio/speech", answer.status_code, "voice")
    assert request.sent == len(answer.content)
    assert (attempt.request, attempt.provider, attempt.bill.cost, attempt.bill.basis) == (
        request.id,
        "flaky",
        None,
        "unknown",
    )


@both_lanes
async def test_a_count_of_tokens_uses_none_and_costs_nothing(running: House, way: str) -> None:
    replica, prefix = (running.gateway, "simulator/") if way == "routed" else (running.replicas[0], "")
    asked = {"model": f"{prefix}fast", "messages": HELLO}
    async with client_of(replica) as client:
        counted = await client.post("/v1/messages/count_tokens", json=asked)
    assert counted.json()["input_tokens"] > 0
    assert float(counted.headers["x-penstock-cost"]) == 0.0
    (request,), attempts = await read(running)
    assert (request.operation, request.outcome) == ("/messages/count_tokens", "ok")
    assert {row.bill for row in (request, *attempts)} == {Bill(cost=0, basis="computed")}
