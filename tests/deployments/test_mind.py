"""The router's mind end to end: what callers say changes whom `auto` asks, and what they can ask about it."""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from actors.routing import learner, router
from actors.routing.router import Router
from deployments.choosing import Chosen
from pipelines.calls import Call
from pipelines.routing.record import Record, reproduced
from pipelines.routing.table import Decided
from tests.deployments.house import House, client_of, house
from tests.upstream import Upstream

CHAT = "/v1/chat/completions"
ASKED: Any = {"model": "auto", "messages": [{"role": "user", "content": "Write a Python function that sorts a list."}]}
TWINS = [{"name": name, "quality": 0.7, "input_price": 1, "output_price": 1} for name in ("one", "two")]
OTHER = "psk-of-somebody-else"


@pytest.fixture
async def learning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upstream: Upstream) -> AsyncIterator[House]:
    """A house whose `auto` has two equal models, and whose router publishes at once what it learns."""
    monkeypatch.setattr(learner, "PUBLISHING", 0.05)
    monkeypatch.setattr(router, "LEARNING", 0.02)
    aliases = {
        "turns": {"models": ["flaky/one", "flaky/two"], "strategy": "round_robin"},
        "session": {"models": ["flaky/one", "flaky/two"], "strategy": "sticky"},
        "plain": ["flaky/two", "flaky/one"],
    }
    async with house(tmp_path, monkeypatch, wait_for_replica=2.0, explore=0.0, aliases=aliases) as built:
        await built.provider(kind="local", name="flaky", base_url=f"{upstream.url}/v1", models=TWINS, drain=1.0)
        await built.until(lambda: {"flaky/one", "flaky/two"} <= set(built.gateway._chooser._view.models))
        upstream.reset()
        yield built


def admit(built: House) -> None:
    """Let another key in."""
    file = built.directory / "keys.json"
    digest = hashlib.sha256(OTHER.encode()).hexdigest()
    file.write_text(json.dumps([*json.loads(file.read_text()), {"id": "other", "name": "other", "hash": digest}]))


async def ask(client: httpx.AsyncClient, **more: Any) -> tuple[str, str]:
    """The request's id and who answered."""
    answer = await client.post(CHAT, json={**ASKED, **more})
    assert answer.status_code == 200, answer.text
    return answer.headers["x-request-id"], answer.headers["x-penstock-model"]


async def tell(client: httpx.AsyncClient, **said: Any) -> dict[str, Any]:
    answer = await client.post("/v1/feedback", json=said)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def preferred(client: httpx.AsyncClient) -> str:
    told = (await client.post("/v1/route", json=ASKED)).json()
    first: str = told["candidates"][0]["model"]
    return first


async def settle(built: House, client: httpx.AsyncClient, wanted: str) -> None:
    """Wait until `auto` prefers the model, several times in a row: equal ones come by chance."""
    async with asyncio.timeout(30.0):
        while {await preferred(client) for _ in range(8)} != {wanted}:
            await asyncio.sleep(0.02)


async def test_thumbs_move_the_choice_of_auto_and_a_new_router_remembers(learning: House) -> None:
    async with client_of(learning.gateway) as client:
        for loved in ("one", "two"):
            for number in range(6 if loved == "one" else 20):
                request, model = await ask(client, model=f"flaky/{('one', 'two')[number % 2]}")
                told = await tell(client, request_id=request, thumb="up" if model == loved else "down")
                assert (told["learned"], told["models"], told["task"]) == (True, [f"flaky/{model}"], "code")
            await settle(learning, client, f"flaky/{loved}")
        assert {(await ask(client))[1] for _ in range(5)} == {"two"}
        await restart(learning)
        told = (await client.get("/v1/performance")).json()
        async with asyncio.timeout(30.0):
            while (counted := await client.get("/metrics")).status_code == 503:
                await asyncio.sleep(0.05)
        assert 'penstock_win_ratio{model="two",provider="flaky",task="code"}' in counted.text
    rates = {rate["model"]: rate["quality"]["share"] for rate in told["win_rates"]}
    assert rates["flaky/two"] > 0.7 > 0.5 > rates["flaky/one"]
    assert {point["model"]: point["frontier"] for point in told["tasks"]["code"]}["flaky/two"]


async def restart(built: House) -> None:
    """Another router in the place of the one that runs, on the same directory."""
    await built.router.close()
    built.router = Router(str(built.directory), shelf=built.connect_shelf)
    for replica in built.replicas:
        replica.router._link = None
    await built.until(lambda: built.router.publish().provider("flaky") is not None)
    await built.until(lambda: built.router._learner._early is None)


async def test_a_preference_teaches_too_and_only_once(learning: House) -> None:
    async with client_of(learning.gateway) as client:
        for _ in range(8):
            worse, _ = await ask(client, model="flaky/one")
            better, _ = await ask(client, model="flaky/two")
            told = await tell(client, preferred=better, over=worse)
            assert (told["learned"], told["models"]) == (True, ["flaky/two", "flaky/one"])
        assert (await tell(client, preferred=better, over=worse))["repeated"]
        await settle(learning, client, "flaky/two")


async def test_another_key_may_not_rate_and_nonsense_is_refused(learning: House) -> None:
    admit(learning)
    await learning.until(lambda: len(learning.gateway.router.welcome.keys) == 2)  # type: ignore[union-attr]
    async with client_of(learning.gateway) as mine, client_of(learning.gateway, OTHER) as other:
        request, _ = await ask(mine)
        refused = await other.post("/v1/feedback", json={"request_id": request, "thumb": "down"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found")
        assert (await tell(mine, request_id=request, score=1))["learned"]
        refused = await mine.post("/v1/feedback", json={"request_id": request, "score": 2})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "score")
        mine.headers.pop("authorization")
        assert (await mine.post("/v1/feedback", json={"request_id": request, "score": 1})).status_code == 401


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": "Solve 3x + 4 = 19 for x, and 2y = 8."}]},
        {"input": "Solve 3x + 4 = 19 for x, and 2y = 8."},
    ],
    ids=["chat", "responses"],
)
async def test_a_decision_is_explained_in_full(learning: House, body: dict[str, Any]) -> None:
    bounds = {"policy": "quality", "max_cost": 0.0, "min_quality": 0.2}
    async with client_of(learning.gateway) as client:
        asked = {"model": "auto", **body, "penstock": {"route": bounds}}
        told = (await client.post("/v1/route", json=asked)).json()
        wrong = await client.post("/v1/route", json={**asked, "penstock": {"route": {"min_quality": 2}}})
    assert (told["task"], told["policy"]) == ("mathematics", "quality")
    assert told["bounds"] == {"max_cost": 0, "min_quality": 0.2}
    assert 0 < told["difficulty"] < 1
    assert any(signal.startswith("mathematics: ") for signal in told["signals"])
    assert {entry["model"] for entry in told["candidates"]} >= {"flaky/one", "flaky/two"}
    for entry in told["candidates"]:
        assert sum(entry["terms"].values()) == pytest.approx(entry["score"])
        assert "more than the bound of $0" in entry["beyond"]
        assert (entry["dollars"] or 1) > 0
    assert "simulated" in told["excluded"]["simulator"]
    assert wrong.json()["error"]["param"] == "penstock.route.min_quality"


async def test_aliases_follow_their_strategies(learning: House) -> None:
    async with client_of(learning.gateway) as client:
        assert [(await ask(client, model="turns"))[1] for _ in range(4)] == ["one", "two", "one", "two"]
        assert {(await ask(client, model="plain"))[1] for _ in range(3)} == {"two"}
        for user in ("anna", "bert", "carl"):
            assert len({(await ask(client, model="session", user=user))[1] for _ in range(4)}) == 1
        listed = {model["id"] for model in (await client.get("/v1/models")).json()["data"]}
    assert {"turns", "session", "plain"} <= listed


async def test_a_decision_is_made_again_from_what_the_router_keeps(
    learning: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    chooser = learning.gateway._chooser
    made: list[Chosen] = []
    kept: list[Decided] = []
    choose, decided = chooser.choose, learning.gateway.router.decided

    def chosen_and_noted(call: Call) -> Chosen:
        made.append(choose(call))
        return made[-1]

    def decided_and_noted(one: Decided) -> None:
        kept.append(one)
        decided(one)

    monkeypatch.setattr(chooser, "choose", chosen_and_noted)
    monkeypatch.setattr(learning.gateway.router, "decided", decided_and_noted)
    async with client_of(learning.gateway) as client:
        request, model = await ask(client)
        await ask(client, model="turns")
    await learning.until(lambda: len(learning.router._learner.decisions) == 2)
    for chosen, one in zip(made, kept, strict=True):
        record = msgspec.msgpack.decode(one.record, type=Record)
        assert reproduced(record, chosen.table, chosen.estimate.view) == chosen.decision
    record = msgspec.msgpack.decode(kept[0].record, type=Record)
    assert (kept[0].caller, kept[0].request, record.model) == ("administrator", request, f"flaky/{model}")
    assert record.expected is not None


async def test_a_share_of_auto_explores_unless_the_key_forbids_it(
    learning: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    chooser = learning.gateway._chooser
    settings = learning.gateway._settings.model_copy(update={"explore": 1.0})
    monkeypatch.setattr(chooser, "_settings", settings)
    keys = json.loads((learning.directory / "keys.json").read_text())
    async with client_of(learning.gateway) as client:
        answer = await client.post(CHAT, json=ASKED)
        assert "exploration" in answer.headers["x-penstock-route"]
        assert "exploration" not in (await client.post("/v1/route", json=ASKED)).text
        named = await client.post(CHAT, json={**ASKED, "model": "flaky/one"})
        assert "exploration" not in named.headers["x-penstock-route"]
        (learning.directory / "keys.json").write_text(json.dumps([{**keys[0], "explore": False}]))
        await learning.until(lambda: not learning.gateway.router.welcome.keys[0].explore)  # type: ignore[union-attr]
        answer = await client.post(CHAT, json=ASKED)
        assert "exploration" not in answer.headers["x-penstock-route"]


async def test_a_key_has_bounds_and_a_policy_which_the_request_overrides(learning: House) -> None:
    keys = json.loads((learning.directory / "keys.json").read_text())
    route = {"policy": "quality", "max_cost": 0.0, "min_quality": 0.1}
    (learning.directory / "keys.json").write_text(json.dumps([{**keys[0], "route": route}]))
    await learning.until(lambda: learning.gateway.router.welcome.keys[0].route.policy == "quality")  # type: ignore[union-attr]
    async with client_of(learning.gateway) as client:
        told = (await client.post("/v1/route", json=ASKED)).json()
        own = {**ASKED, "penstock": {"route": {"policy": "fast", "max_cost": 1.0}}}
        overridden = (await client.post("/v1/route", json=own)).json()
    assert (told["policy"], told["bounds"]) == ("quality", {"max_cost": 0, "min_quality": 0.1})
    assert all("more than the bound of $0" in candidate["beyond"] for candidate in told["candidates"])
    assert (overridden["policy"], overridden["bounds"]) == ("fast", {"max_cost": 1, "min_quality": 0.1})
    assert {one["model"] for one in overridden["candidates"] if "beyond" not in one} == {"flaky/one", "flaky/two"}


async def test_asking_the_same_again_counts_against_the_first_answer(learning: House) -> None:
    async with client_of(learning.gateway) as client:
        await ask(client)
        await learning.until(lambda: len(learning.router._learner.decisions) == 1)
        assert (await client.get("/v1/performance")).json()["win_rates"] == []
        await ask(client)
        await learning.until(lambda: len(learning.router._learner.decisions) == 2)
        (rate,) = (await client.get("/v1/performance")).json()["win_rates"]
    assert rate["task"] == "code"
    assert rate["signs"]["retry"]["share"] == pytest.approx(0.5)
    assert rate["signs"]["retry"]["count"] == pytest.approx(2.0)


async def test_an_answer_that_breaks_the_form_is_evidence(learning: House) -> None:
    async with client_of(learning.gateway) as client:
        await ask(client, response_format={"type": "json_object"})
        async with asyncio.timeout(30.0):
            while not (told := (await client.get("/v1/performance")).json())["win_rates"]:
                await asyncio.sleep(0.02)
    (rate,) = told["win_rates"]
    assert rate["task"] == "extraction"
    assert rate["signs"]["parsed"]["share"] == 0.0


async def test_an_alias_of_an_alias_takes_turns_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aliases = {
        "turns": {"models": ["simulator/fast", "simulator/clever"], "strategy": "round_robin"},
        "best": ["turns"],
        "round": ["again"],
        "again": ["round", "best"],
    }
    async with house(tmp_path, monkeypatch, aliases=aliases) as built, client_of(built.gateway) as client:
        for more in ({"model": "best"}, {"model": "none/such", "models": ["turns"]}, {"model": "round"}):
            answered = [(await ask(client, **more))[1] for _ in range(4)]
            assert Counter(answered) == {"fast": 2, "clever": 2}, more
