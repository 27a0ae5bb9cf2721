"""Shadows and duels end to end: nothing of them reaches the caller, and what they show reaches the router."""

import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from deployments import trials
from pipelines.ledger import AttemptRow
from pipelines.routing.learning.evidence import Compared
from pipelines.routing.table import LOWEST_PRIORITY, Decided
from tests.deployments.house import House, client_of, house
from tests.deployments.test_ledger import read, until_rows
from tests.upstream import Fault, Upstream

CHAT = "/v1/chat/completions"
ASKED: Any = {"model": "auto", "messages": [{"role": "user", "content": "Write a Python function that sorts a list."}]}
STREAMED: Any = {**ASKED, "stream": True}
MODELS: list[dict[str, Any]] = [
    {"name": "one", "quality": 0.9, "input_price": 1, "output_price": 1},
    {"name": "two", "quality": 0.5, "input_price": 1, "output_price": 1},
    {"name": "judge", "quality": 0.0, "input_price": 1, "output_price": 1},
]
PLAYERS = ["flaky/one", "flaky/two"]
OF_PATIENCE = {"connect": 10.0, "first_event": 90.0, "idle": 90.0, "total": 120.0}

Start = Callable[..., AbstractAsyncContextManager[House]]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upstream: Upstream) -> Start:
    """Starts a house whose `auto` asks the model `one`, with these trials."""

    @asynccontextmanager
    async def started(guardrails: Any = (), **settings: Any) -> AsyncIterator[House]:
        upstream.models = tuple(model["name"] for model in MODELS)
        trials = {"models": PLAYERS, **settings}
        async with house(
            tmp_path,
            monkeypatch,
            wait_for_replica=2.0,
            explore=0.0,
            policy="quality",
            trials=trials,
            guardrails=guardrails,
        ) as built:
            more: dict[str, Any] = {"timeouts": OF_PATIENCE, "drain": 1.0, "models": MODELS}
            await built.provider(kind="local", name="flaky", base_url=f"{upstream.url}/v1", **more)
            await built.until(lambda: set(PLAYERS) <= set(built.gateway._chooser._view.models))
            upstream.reset()
            yield built

    return started


def said(word: str) -> Fault:
    """A whole answer of this text."""
    message = {"role": "assistant", "content": word}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    return Fault(status=200, body=json.dumps(body).encode(), headers={"content-type": "application/json"})


def attempts_of(rows: list[AttemptRow]) -> dict[str, AttemptRow]:
    return {row.role: row for row in rows}


def noted(running: House, monkeypatch: pytest.MonkeyPatch) -> list[Decided]:
    """What the gateway tells the router from now on."""
    told: list[Decided] = []
    decided = running.gateway.router.decided

    def noting(one: Decided) -> None:
        told.append(one)
        decided(one)

    monkeypatch.setattr(running.gateway.router, "decided", noting)
    return told


async def asks(running: House, **more: Any) -> httpx.Response:
    async with client_of(running.gateway) as client:
        answer = await client.post(CHAT, json={**ASKED, **more})
    assert answer.status_code == 200, answer.text
    return answer


def asked(upstream: Upstream) -> list[str]:
    """The models that were asked, in order."""
    return [seen.body["model"] for seen in upstream.requests if seen.method == "POST"]


def at_rest(running: House) -> bool:
    assert running.gateway._lane.trials is not None
    return running.gateway._lane.trials.running == 0


@pytest.mark.parametrize("stream", [True, False])
async def test_a_shadow_is_measured_and_booked_apart(start: Start, upstream: Upstream, stream: bool) -> None:
    async with start(shadow=1.0) as running:
        upstream.plan("two", Fault.answer(30))
        answer = await asks(running, stream=stream)
        assert answer.headers["x-penstock-model"] == "one"
        assert "word29" not in answer.text
        await until_rows(running, lambda _, attempts: len(attempts) == 2)
        requests, attempts = await read(running)
        first, shadow = attempts_of(attempts)["first"], attempts_of(attempts)["shadow"]
        assert len(requests) == 1
        assert (shadow.request, shadow.model, shadow.key) == (requests[0].id, "two", "trials")
        assert (first.key, first.model) == ("administrator", "one")
        assert (requests[0].task, first.task, shadow.task) == ("code", "code", "code")
        assert shadow.bill.output > first.bill.output
        await running.until(
            lambda: running.gateway.router.table.provider("flaky").performance.get("two") is not None  # type: ignore[union-attr]
        )


async def test_the_caller_does_not_wait_for_a_shadow(start: Start, upstream: Upstream) -> None:
    async with start(shadow=1.0, concurrent=1) as running:
        upstream.plan("two", Fault(instead="hang"), times=None)
        await asks(running, stream=True)
        await running.until(lambda: "two" in asked(upstream))
        assert not at_rest(running)
        # The one place is taken: the next request has no shadow, and is answered all the same.
        await asks(running)
        assert asked(upstream) == ["one", "two", "one"]


async def test_a_shadow_ends_with_its_patience(start: Start, upstream: Upstream) -> None:
    async with start(shadow=1.0, patience=0.2) as running:
        upstream.plan("two", Fault(instead="hang"), times=None)
        await asks(running)
        await running.until(lambda: "two" in asked(upstream))
        await running.until(lambda: at_rest(running))
        await running.until(lambda: upstream.log().busy_connections == 0)


async def test_a_caller_who_leaves_has_no_shadow(start: Start, upstream: Upstream) -> None:
    async with start(shadow=1.0) as running:
        upstream.plan("one", Fault(endless=True, gap=0.01))
        async with client_of(running.gateway) as client, client.stream("POST", CHAT, json=STREAMED) as answer:
            await anext(answer.aiter_bytes())
        await until_rows(running, lambda requests, _: bool(requests))
        assert at_rest(running)
        assert asked(upstream) == ["one"]


@pytest.mark.parametrize(
    "more",
    [
        {"model": "flaky/one"},
        {"penstock": {"route": {"explore": False}}},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]},
    ],
    ids=["one model named", "no exploration", "tools"],
)
async def test_what_is_never_tried(start: Start, upstream: Upstream, more: dict[str, Any]) -> None:
    async with start(shadow=1.0) as running:
        await asks(running, **more)
        assert at_rest(running)
        assert len(asked(upstream)) == 1


async def test_a_key_that_forbids_exploration_has_no_shadow(start: Start, upstream: Upstream) -> None:
    async with start(shadow=1.0) as running:
        file = running.directory / "keys.json"
        (key,) = json.loads(file.read_text())
        file.write_text(json.dumps([{**key, "route": {"explore": False, "policy": "quality"}}]))
        await running.until(lambda: running.gateway.router.welcome.keys[0].route.explore is False)  # type: ignore[union-attr]
        await asks(running)
        assert at_rest(running)
        assert len(asked(upstream)) == 1


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("drawn", "word", "result"),
    [(0.1, "A", 0.0), (0.9, "A", 1.0), (0.9, "B", 0.0), (0.9, "tie", 0.5), (0.9, "Hm", None)],
)
async def test_a_judge_compares_two_answers(
    start: Start,
    upstream: Upstream,
    monkeypatch: pytest.MonkeyPatch,
    stream: bool,
    drawn: float,
    word: str,
    result: float | None,
) -> None:
    """With a draw below one half the second answer is shown first."""
    async with start(duel=1.0, judge="flaky/judge") as running:
        told = noted(running, monkeypatch)
        monkeypatch.setattr(random, "random", lambda: drawn)
        upstream.plan("judge", said(word))
        answer = await asks(running, stream=stream)
        assert "x-penstock-duel" not in answer.headers
        await until_rows(running, lambda _, attempts: len(attempts) == 3)
        _, attempts = await read(running)
        assert {row.role: row.key for row in attempts} == {
            "first": "administrator",
            "duel": "trials",
            "judge": "trials",
        }
        await running.until(lambda: len(told) == 2)
        evidence = told[1].evidence
        assert told[1].caller == "administrator"
        if result is None:
            assert evidence == b""
        else:
            assert msgspec.msgpack.decode(evidence, type=Compared) == Compared(
                "flaky/one", "flaky/two", "code", result, 0.7
            )


async def test_a_judge_of_its_own_answer_is_not_asked(start: Start, upstream: Upstream) -> None:
    async with start(duel=1.0, judge="flaky/two") as running:
        await asks(running)
        await until_rows(running, lambda _, attempts: len(attempts) == 2)
        await running.until(lambda: at_rest(running))
        assert asked(upstream) == ["one", "two"]


@pytest.mark.parametrize("stream", [True, False])
async def test_the_caller_judges_a_duel(start: Start, upstream: Upstream, stream: bool) -> None:
    async with start(duel=1.0) as running:
        upstream.plan("two", Fault.answer(30))
        answer = await asks(running, stream=stream)
        first, second = answer.headers["x-request-id"], answer.headers["x-penstock-duel"]
        async with client_of(running.gateway) as client:
            again = await client.post(CHAT, json={**ASKED, "stream": stream}, headers={"idempotency-key": second})
            assert again.headers["x-penstock-model"] == "two"
            assert "word29" in again.text
            said = await client.post("/v1/feedback", json={"preferred": second, "over": first})
            assert said.json()["models"] == ["flaky/two", "flaky/one"]
            assert said.json()["learned"]
            rates = (await client.get("/v1/performance")).json()["win_rates"]
        assert {rate["model"]: rate["rating"] > 0 for rate in rates} == {"flaky/one": False, "flaky/two": True}
        assert len(asked(upstream)) == 2


def cut(question: dict[str, Any]) -> dict[str, Any]:
    """A guardrail that takes a word out."""
    return {"action": "redact", "texts": [one["text"].replace("word29", "[cut]") for one in question["messages"]]}


async def test_a_guardrail_sees_the_second_answer_too(start: Start, upstream: Upstream) -> None:
    rail = {"name": "eye", "function": f"{__name__}:cut", "when": "after", "timeout": 30.0}
    async with start(duel=1.0, guardrails=[rail]) as running:
        upstream.plan("two", Fault.answer(30))
        second = (await asks(running)).headers["x-penstock-duel"]
        async with client_of(running.gateway) as client:
            again = await client.post(CHAT, json=ASKED, headers={"idempotency-key": second})
        assert again.headers["x-penstock-model"] == "two"
        assert "word28" in again.text
        assert "[cut]" in again.text
        assert "word29" not in again.text


async def test_a_caller_who_leaves_ends_the_duel_that_he_was_to_judge(start: Start, upstream: Upstream) -> None:
    async with start(duel=1.0) as running:
        for model in ("one", "two"):
            upstream.plan(model, Fault(endless=True, gap=0.01))
        async with client_of(running.gateway) as client, client.stream("POST", CHAT, json=STREAMED) as answer:
            pieces = answer.aiter_bytes()
            await anext(pieces)
            await running.until(lambda: len(asked(upstream)) == 2)
        await running.until(lambda: at_rest(running) and upstream.log().busy_connections == 0)


async def test_trials_are_off_by_default(running: House) -> None:
    assert running.gateway._lane.trials is None
    assert trials._OURS.priority == LOWEST_PRIORITY
