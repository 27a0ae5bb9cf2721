"""Keys end to end: made over HTTP, enforced on both lanes and over a handle, in every dialect, on every replica."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.replica import Replica
from tests.deployments.house import House, client_of, house
from tests.upstream import Fault, Upstream

CHAT = "/v1/chat/completions"
HELLO: Any = [{"role": "user", "content": "Hello, how are you?"}]
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": HELLO},
    "/v1/messages": {"messages": HELLO, "max_tokens": 50},
    "/v1/responses": {"input": "Hello, how are you?"},
}
INJECTION = "x'); DROP TABLE keys; --"
KEYS = "/v1/keys"

every_dialect = pytest.mark.parametrize("path", list(BODIES))


@pytest.fixture
async def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    """Two gateways, and a simulator."""
    async with house(tmp_path, monkeypatch) as built:
        await built.open_gateway(drain=1.0)
        yield built


def gateways(running: House) -> list[Replica]:
    return [replica for replica in running.replicas if not replica.name]


async def administer(
    running: House, method: str, path: str = KEYS, body: Any = None, *, status: int = 200
) -> dict[str, Any]:
    """What the administrator is answered."""
    async with client_of(running.gateway) as client:
        answer = await client.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def made(running: House, **fields: Any) -> dict[str, Any]:
    """A new key that every replica knows."""
    key = await administer(running, "POST", KEYS, {"name": "of a test", **fields}, status=201)
    await running.until(lambda: all(key["id"] in replica.guard._hashes for replica in running.replicas))
    return key


async def ask(
    replica: Replica, secret: str, model: str = "simulator/fast", path: str = CHAT, **more: Any
) -> httpx.Response:
    async with client_of(replica, secret) as client:
        return await client.post(path, json={"model": model, **BODIES[path], **more})


def said(answer: httpx.Response, path: str, status: int, kind: str, code: str | None = None) -> str:
    """The message of an error that is as its dialect has it."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    error: dict[str, Any] = body["error"]
    assert error["type"] == kind
    if path == "/v1/messages":
        assert body["type"] == "error"
    elif code is not None:
        assert error["code"] == code
    message: str = error["message"]
    return message


async def test_a_key_is_made_shown_changed_and_revoked(alone: House) -> None:
    fields = {
        "name": "search",
        "expires": "2099-01-31T12:00:00+02:00",
        "models": ["simulator/*"],
        "tools": ["weather"],
        "lanes": ["routed"],
        "requests_per_minute": 60,
        "tokens_per_minute": 100_000,
        "streams": 5,
        "budget": {"day": "0.000000001", "month": 12.345678901, "total": 1_000},
        "priority": 5,
        "recovery": "continue",
        "explore": False,
        "keep_alive": 5,
        "route": {"policy": "cheap"},
        "rights": ["usage"],
        "metadata": {"team": "blue"},
    }
    key = await administer(alone, "POST", KEYS, fields, status=201)
    secret = key.pop("secret")
    assert secret.startswith("psk-")
    assert len(secret) >= 47
    money = {"day": "0.000000001", "month": "12.345678901", "total": "1000"}
    assert {name: key[name] for name in fields} == {**fields, "expires": "2099-01-31T10:00:00.000Z", "budget": money}
    assert (key["object"], key["status"], key["revoked"], key["spent"]["total"]) == ("key", "active", None, "0")
    path = f"{KEYS}/{key['id']}"
    assert await administer(alone, "GET", path) == key
    patch = {"name": "find", "expires": None, "models": None, "streams": None, "budget": {"day": 5, "month": None}}
    changed = await administer(alone, "PATCH", path, {**patch, "metadata": {"city": "Bonn"}})
    assert changed == {
        **key,
        **patch,
        "budget": {"day": "5", "month": None, "total": "1000"},
        "metadata": {"team": "blue", "city": "Bonn"},
    }
    revoked = await administer(alone, "DELETE", path)
    assert (revoked["status"], await administer(alone, "DELETE", path)) == ("revoked", revoked)
    await administer(alone, "PATCH", path, {"name": "x"}, status=409)
    assert (await administer(alone, "GET", KEYS))["data"] == []
    assert (await administer(alone, "GET", f"{KEYS}?revoked=true"))["data"] == [revoked]


async def test_keys_are_listed_page_by_page(alone: House) -> None:
    ids = [(await administer(alone, "POST", KEYS, {"name": f"k{n}"}, status=201))["id"] for n in range(5)]
    found: list[str] = []
    page: dict[str, Any] = {"has_more": True}
    while page["has_more"]:
        page = await administer(alone, "GET", f"{KEYS}?limit=2&after={found[-1] if found else ''}")
        assert "secret" not in json.dumps(page)
        found += [key["id"] for key in page["data"]]
        assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], found[-1])
    assert found == sorted(ids)
    for query in ("limit=0", "limit=201", "limit=x", "revoked=1", "colour=red", "limit=9999999999999999999"):
        await administer(alone, "GET", f"{KEYS}?{query}", status=400)


BAD: list[tuple[Any, str]] = [
    ([], ""),
    ({}, "name"),
    ({"name": ""}, "name"),
    ({"name": "a\0b"}, "name"),
    ({"name": 5}, "name"),
    ({"name": "x" * 129}, "name"),
    ({"name": "a", "colour": "red"}, "colour"),
    ({"name": "a", "expires": "2099-01-31T12:00:00"}, "expires"),
    ({"name": "a", "expires": "2099-02-30T12:00:00Z"}, "expires"),
    ({"name": "a", "expires": "0001-01-01T00:00:00+23:00"}, "expires"),
    ({"name": "a", "expires": "2001-01-31T12:00:00Z"}, "expires"),
    ({"name": "a", "expires": 4_000_000_000}, "expires"),
    ({"name": "a", "expires": INJECTION}, "expires"),
    ({"name": "a", "models": "simulator/fast"}, "models"),
    ({"name": "a", "models": []}, "models"),
    ({"name": "a", "models": ["simulator/\n*"]}, "models.0"),
    ({"name": "a", "lanes": ["hop"]}, "lanes.0"),
    ({"name": "a", "lanes": []}, "lanes"),
    ({"name": "a", "requests_per_minute": 0}, "requests_per_minute"),
    ({"name": "a", "requests_per_minute": -1}, "requests_per_minute"),
    ({"name": "a", "requests_per_minute": 1.5}, "requests_per_minute"),
    ({"name": "a", "requests_per_minute": "60"}, "requests_per_minute"),
    ({"name": "a", "streams": True}, "streams"),
    ({"name": "a", "budget": 5}, "budget"),
    ({"name": "a", "budget": {"day": -1}}, "budget.day"),
    ({"name": "a", "budget": {"day": "-0.01"}}, "budget.day"),
    ({"name": "a", "budget": {"day": "NaN"}}, "budget.day"),
    ({"name": "a", "budget": {"day": "1e3"}}, "budget.day"),
    ({"name": "a", "budget": {"day": INJECTION}}, "budget.day"),
    ({"name": "a", "budget": {"day": "0.0000000001"}}, "budget.day"),
    ({"name": "a", "budget": {"day": True}}, "budget.day"),
    ({"name": "a", "budget": {"day": 1e30}}, "budget.day"),
    ({"name": "a", "budget": {"week": 1}}, "budget.week"),
    ({"name": "a", "priority": 101}, "priority"),
    ({"name": "a", "recovery": INJECTION}, "recovery"),
    ({"name": "a", "explore": "yes"}, "explore"),
    ({"name": "a", "keep_alive": 0.5}, "keep_alive"),
    ({"name": "a", "keep_alive": -1}, "keep_alive"),
    ({"name": "a", "route": {"policy": INJECTION}}, "route.policy"),
    ({"name": "a", "rights": ["root"]}, "rights.0"),
    ({"name": "a", "metadata": {"a": 5}}, "metadata.a"),
    ({"name": "a", "metadata": {"a": "x" * 513}}, "metadata.a"),
    ({"name": "a", INJECTION: 1}, INJECTION),
]


async def test_bad_bodies_are_refused_and_say_which_field_it_is(alone: House) -> None:
    kept = await administer(alone, "POST", KEYS, {"name": "kept"}, status=201)
    for body, field in BAD:
        told = await administer(alone, "POST", KEYS, body, status=400)
        assert (told["error"]["param"] or "") == field, body
        if field and isinstance(body, dict) and field in body and field != "name":
            told = await administer(alone, "PATCH", f"{KEYS}/{kept['id']}", {field: body[field]}, status=400)
            assert told["error"]["param"] == field
    async with client_of(alone.gateway) as client:
        exact = b'{"name": "a", "budget": {"day": 0.1000000000000000000000000000000001}}'
        assert (await client.post(KEYS, content=exact)).status_code == 400
        assert (await client.post(KEYS, content=b"{")).status_code == 400
    for path in (f"{KEYS}/none", f"{KEYS}/{INJECTION}", f"{KEYS}/{kept['id']}/rotate/now", f"{KEYS}/{kept['id']}/x"):
        await administer(alone, "GET", path, status=404)
    rotate = f"{KEYS}/{kept['id']}/rotate"
    for overlap in (-1, 2_592_001, "1 day", None):
        await administer(alone, "POST", rotate, {"overlap": overlap}, status=400)
    assert [key["name"] for key in (await administer(alone, "GET", KEYS))["data"]] == ["kept"]


async def test_statements_in_every_field_are_words(alone: House) -> None:
    fields = {
        "name": INJECTION,
        "models": [INJECTION],
        "tools": [INJECTION],
        "metadata": {INJECTION: INJECTION},
    }
    key = await made(alone, **fields)
    assert {name: key[name] for name in fields} == fields
    # Of a request, too.
    async with client_of(alone.gateway, key["secret"]) as client:
        headers = {"x-penstock-tag": INJECTION, "x-request-id": "x');DROP", "idempotency-key": INJECTION}
        body = {"model": INJECTION, "messages": HELLO, "metadata": {INJECTION: INJECTION}}
        assert (await client.post(CHAT, json=body, headers=headers)).status_code == 404
        assert (await client.post(CHAT, json=body, headers={"authorization": f"Bearer {INJECTION}"})).status_code == 401
    assert (await administer(alone, "GET", f"{KEYS}/{key['id']}"))["name"] == INJECTION


@every_dialect
async def test_strangers_the_expired_and_the_revoked(alone: House, path: str) -> None:
    key = await made(alone, expires="2099-01-01T00:00:00Z")
    secret = key["secret"]
    assert (await ask(alone.gateway, secret, path=path)).status_code == 200
    for bad in ("psk-unknown", secret + "x", secret[:-1], secret.upper(), "é", "x" * 5000):
        async with client_of(alone.gateway) as client:
            headers = [(b"authorization", b"Basic x"), (b"x-api-key", bad.encode())]
            answer = await client.post(path, json={"model": "simulator/fast", **BODIES[path]}, headers=headers)
        assert "not known" in said(answer, path, 401, "authentication_error", "authentication")
    for replica in alone.replicas:
        replica.guard._clock = lambda: time.time() + 100 * 366 * 86_400
    answer = await ask(alone.gateway, secret, path=path)
    assert "expired" in said(answer, path, 401, "authentication_error", "authentication")
    for replica in alone.replicas:
        replica.guard._clock = time.time
    await administer(alone, "DELETE", f"{KEYS}/{key['id']}")
    await alone.until(lambda: all(key["id"] not in replica.guard._hashes for replica in alone.replicas))
    for replica in alone.replicas:
        answer = await ask(replica, secret, "fast" if replica.name else "simulator/fast", path)
        assert "not known" in said(answer, path, 401, "authentication_error", "authentication")


@every_dialect
async def test_models_and_lanes_that_a_key_may_not_take(alone: House, path: str) -> None:
    simulator, gateway = alone.replicas[0], alone.gateway
    one = (await made(alone, models=["simulator/fast"]))["secret"]
    for replica, model in ((gateway, "simulator/clever"), (gateway, "clever"), (simulator, "clever")):
        message = said(await ask(replica, one, model, path), path, 403, "permission_error", "permission")
        assert "may not use" in message
    for replica, model in ((gateway, "simulator/fast"), (gateway, "fast"), (gateway, "auto"), (simulator, "fast")):
        answer = await ask(replica, one, model, path)
        assert answer.status_code == 200
        assert answer.headers.get("x-penstock-model", "fast") == "fast"
    direct = (await made(alone, lanes=["direct"]))["secret"]
    assert "routed lane" in said(await ask(gateway, direct, path=path), path, 403, "permission_error", "permission")
    assert (await ask(simulator, direct, "fast", path)).status_code == 200
    routed = (await made(alone, lanes=["routed"]))["secret"]
    assert "direct lane" in said(await ask(simulator, routed, "fast", path), path, 403, "permission_error")
    assert (await ask(gateway, routed, path=path)).status_code == 200


async def test_only_what_a_key_may_ask_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aliases: Any = {"quick": ["simulator/fast"], "best": ["simulator/clever"], "any": ["best", "quick"]}
    async with house(tmp_path, monkeypatch, aliases=aliases) as built:
        secret = (await made(built, models=["simulator/fa*"]))["secret"]

        async def listed(replica: Replica) -> list[str]:
            async with client_of(replica, secret) as client:
                return [model["id"] for model in (await client.get("/v1/models")).json()["data"]]

        assert await listed(built.gateway) == ["auto", "quick", "any", "simulator/fast"]
        assert await listed(built.replicas[0]) == ["fast"]
        async with client_of(built.gateway, secret) as client:
            assert (await client.get("/v1/models/simulator/clever")).status_code == 404
            explained = (await client.post("/v1/route", json={"model": "any", "messages": HELLO})).json()
            unknown = await client.post("/v1/chat/completions", json={"model": "clevr", "messages": HELLO})
        assert [candidate["model"] for candidate in explained["candidates"]] == ["simulator/fast"]
        assert "clever" not in str(explained)
        assert unknown.status_code == 404
        assert "clever" not in unknown.text
        answer = await ask(built.gateway, secret, "any")
        assert (answer.status_code, answer.headers["x-penstock-model"]) == (200, "fast")


async def test_why_a_provider_is_no_candidate_is_told_to_those_who_see_how_providers_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path, monkeypatch) as built:
        await built.provider(kind="openai", name="paid", key_variable="SECRET_PLACE", drain=1.0)
        await built.until(lambda: built.gateway.router.table.provider("paid") is not None)
        told: list[Any] = []
        for rights in ([], ["usage"]):
            secret = (await made(built, rights=rights))["secret"]
            async with client_of(built.gateway, secret) as client:
                answer = await client.post("/v1/route", json={"model": "auto", "messages": HELLO})
                told.append(answer.json()["excluded"]["paid"])
    assert told[0] == "unconfigured"
    assert "SECRET_PLACE" in told[1]


@every_dialect
async def test_requests_a_minute_hold_over_all_replicas_and_lanes(alone: House, path: str) -> None:
    secret = (await made(alone, requests_per_minute=9))["secret"]
    ways = [(alone.replicas[0], "fast"), *((replica, "simulator/fast") for replica in gateways(alone))]
    answers = [await ask(*ways[number % 3][:1], secret, ways[number % 3][1], path) for number in range(12)]
    fine, refused = answers[:9], answers[9:]
    assert [answer.status_code for answer in fine] == [200] * 9
    for answer in refused:
        message = said(answer, path, 429, "rate_limit_error", "rate_limit_exceeded")
        assert "9 requests of a minute" in message
        assert 1 <= int(answer.headers["retry-after"]) <= 61
    assert {answer.headers["x-ratelimit-limit-requests"] for answer in answers} == {"9"}
    assert int(fine[0].headers["x-ratelimit-remaining-requests"]) == 8
    assert {answer.headers["x-ratelimit-remaining-requests"] for answer in refused} == {"0"}
    # Once it is known that nobody holds what he has not used.
    async with asyncio.timeout(30.0):
        while int((answer := await ask(ways[0][0], secret, "fast", path)).headers["retry-after"]) < 10:
            await asyncio.sleep(0.05)
    assert answer.status_code == 429
    assert 10 < float(answer.headers["x-ratelimit-reset-requests"][:-1]) < 61


@every_dialect
async def test_tokens_a_minute(alone: House, path: str) -> None:
    key = await made(alone, tokens_per_minute=60)
    first = await ask(alone.gateway, key["secret"], path=path)
    assert (first.status_code, first.headers["x-ratelimit-limit-tokens"]) == (200, "60")
    codes = [(await ask(alone.gateway, key["secret"], path=path)).status_code for _ in range(10)]
    assert codes == sorted(codes)
    assert codes[-1] == 429
    refused = await ask(gateways(alone)[0], key["secret"], path=path)
    assert "60 tokens of a minute" in said(refused, path, 429, "rate_limit_error", "rate_limit_exceeded")
    assert refused.headers["x-ratelimit-remaining-tokens"] == "0"
    assert "retry-after" in refused.headers
    large = (await made(alone, tokens_per_minute=3))["secret"]
    answer = await ask(alone.gateway, large, path=path)
    assert "about 4 tokens" in said(answer, path, 429, "rate_limit_error", "rate_limit_exceeded")
    assert "retry-after" not in answer.headers


@every_dialect
async def test_streams_at_once(running: House, upstream: Upstream, path: str) -> None:
    upstream.plan("endless", Fault.without_end(gap=0.01), times=None)
    secret = (await made(running, streams=1))["secret"]
    body = {"model": "flaky/endless", **BODIES[path], "stream": True}
    async with client_of(running.gateway, secret) as client:
        async with client.stream("POST", path, json=body) as answer:
            assert answer.status_code == 200
            chunks = answer.aiter_bytes()  # an iterator that nobody holds would close the stream
            await anext(chunks)
            refused = await client.post(path, json={**body, "model": "simulator/fast"})
            assert "1 streams at once" in said(refused, path, 429, "rate_limit_error", "rate_limit_exceeded")
            assert "retry-after" in refused.headers
            # What is no stream is not counted.
            assert (
                await client.post(path, json={**body, "model": "simulator/fast", "stream": False})
            ).status_code == 200
        async with asyncio.timeout(30.0):
            while (await client.post(path, json={**body, "model": "simulator/fast"})).status_code != 200:
                await asyncio.sleep(0.05)


@every_dialect
async def test_a_budget_ends_and_begins_anew_where_it_is_raised(alone: House, path: str) -> None:
    key = await made(alone, budget={"total": "0.00005"})
    answers: list[httpx.Response] = []
    async with asyncio.timeout(60.0):
        while not answers or answers[-1].status_code == 200:
            bound: dict[str, Any] = {"max_output_tokens" if path == "/v1/responses" else "max_tokens": 50}
            answers.append(await ask(gateways(alone)[len(answers) % 2], key["secret"], path=path, **bound))
    answer = answers[-1]
    message = said(answer, path, 429, "rate_limit_error", "insufficient_quota")
    assert "the budget of this key, 0.00005 dollars in all" in message
    assert answer.headers["x-should-retry"] == "false"
    assert len(answers) >= 2
    shown = await administer(alone, "GET", f"{KEYS}/{key['id']}")
    assert 0 < float(shown["spent"]["total"]) <= 0.00005
    assert shown["spent"]["day"] == shown["spent"]["month"] == shown["spent"]["total"]
    await administer(alone, "PATCH", f"{KEYS}/{key['id']}", {"budget": {"total": 1}})
    async with asyncio.timeout(30.0):
        while (await ask(alone.gateway, key["secret"], path=path)).status_code != 200:
            await asyncio.sleep(0.02)


async def test_a_handle_s_calls_count_as_its_key_s(alone: House) -> None:
    secret = (await made(alone, requests_per_minute=2, models=["simulator/*"]))["secret"]
    gateway = alone.gateway
    body: dict[str, Any] = {"model": "simulator/fast", "messages": HELLO}
    assert "choices" in await gateway.chat(body, secret)
    assert "error" not in [chunk async for chunk in gateway.chat_stream(body, secret)][-1]
    refused: Any = await gateway.chat(body, secret)
    assert refused["error"]["code"] == "rate_limit_exceeded"
    (streamed,) = [chunk async for chunk in gateway.chat_stream(body, secret)]
    assert streamed == refused
    direct = (await made(alone, lanes=["direct"]))["secret"]
    denied: Any = await gateway.chat(body, direct)
    assert denied["error"]["code"] == "permission"
    assert "choices" in await gateway.chat(body)


async def test_rotation_leaves_the_old_secret_for_a_while(alone: House) -> None:
    key = await made(alone)
    path, old = f"{KEYS}/{key['id']}/rotate", key["secret"]
    turned = await administer(alone, "POST", path, {"overlap": 600})
    new = turned["secret"]
    assert turned["rotated"]["old_until"] > key["created"]
    await alone.until(lambda: all(len(replica.guard._hashes[key["id"]]) == 2 for replica in alone.replicas))
    for replica in gateways(alone):
        assert [(await ask(replica, secret)).status_code for secret in (old, new)] == [200, 200]
        replica.guard._clock = lambda: time.time() + 601
        assert [(await ask(replica, secret)).status_code for secret in (old, new)] == [401, 200]
        replica.guard._clock = time.time
    # Once more, at once: the first secret is over, and so is the second.
    newest = (await administer(alone, "POST", path, {"overlap": 0}))["secret"]
    async with asyncio.timeout(30.0):
        while (await ask(alone.gateway, new)).status_code == 200:
            await asyncio.sleep(0.01)
    assert [(await ask(alone.gateway, secret)).status_code for secret in (old, new, newest)] == [401, 401, 200]
    default = await administer(alone, "POST", path)
    assert default["rotated"]["old_until"] is not None


async def test_a_normal_key_sees_nothing_of_the_others(running: House) -> None:
    own, other = [await made(running, name=name) for name in ("own", "other")]
    mine, his = own["secret"], other["secret"]
    flaky = running.replicas[-1]
    async with client_of(running.gateway, mine) as client, client_of(running.gateway, his) as stranger:
        for method, path in (
            ("GET", KEYS),
            ("POST", KEYS),
            ("GET", f"{KEYS}/anything"),
            ("GET", "/metrics"),
            ("GET", "/v1/performance"),
        ):
            assert (await client.request(method, path, json={})).status_code == 403, path
        providers = (await client.get("/v1/providers")).json()["data"]
        assert [set(provider) for provider in providers] == [{"name", "state", "models"}] * 2
        assert (await client.post("/v1/route", json={"model": "auto", "messages": HELLO})).status_code == 200
        headers = {"idempotency-key": "same", "x-request-id": "mine"}
        body = {"model": "auto", "messages": HELLO}
        first = await client.post(CHAT, json=body, headers=headers)
        again = await client.post(CHAT, json=body, headers=headers)
        foreign = await stranger.post(CHAT, json={**body, "n": 1}, headers={"idempotency-key": "same"})
        assert [answer.headers.get("x-penstock-idempotency") for answer in (first, again, foreign)] == [
            None,
            "replayed",
            None,
        ]
        thumb = {"request_id": "mine", "thumb": "up"}
        assert (await stranger.post("/v1/feedback", json=thumb)).status_code == 404
        assert (await stranger.post("/v1/feedback", json={**thumb, "key": own["id"]})).status_code == 403
        assert (await client.post("/v1/feedback", json={**thumb, "key": own["id"]})).status_code == 200
        judge = (await made(running, rights=["feedback"]))["secret"]
        async with client_of(running.gateway, judge) as third:
            again = await third.post("/v1/feedback", json={**thumb, "key": own["id"]})
            assert (again.status_code, again.json()["repeated"]) == (200, True)
            assert (await third.post("/v1/feedback", json={**thumb, "key": INJECTION})).status_code == 404
    async with client_of(flaky, mine) as client:
        for method, path in (("GET", "/v1/files"), ("DELETE", "/v1/files/x"), ("POST", "/v1/batches")):
            assert (await client.request(method, path)).status_code == 403


async def test_rights_are_named_and_not_given_by_those_who_have_them_not(running: House) -> None:
    keeper = (await made(running, rights=["keys", "usage", "forward"]))["secret"]
    admin = await made(running, rights=["admin"])
    flaky = running.replicas[-1]
    async with client_of(running.gateway, keeper) as client:
        assert (await client.get("/metrics")).status_code == 200
        assert (await client.get("/v1/performance")).status_code == 200
        assert "performance" in (await client.get("/v1/providers")).json()["data"][0]
        assert (await client.post(KEYS, json={"name": "a", "rights": ["usage"]})).status_code == 201
        plain = (await client.post(KEYS, json={"name": "b"})).json()
        for attempt in (
            client.post(KEYS, json={"name": "a", "rights": ["admin"]}),
            client.patch(f"{KEYS}/{plain['id']}", json={"rights": ["approvals"]}),
            client.patch(f"{KEYS}/{admin['id']}", json={"name": "mine"}),
            client.patch(f"{KEYS}/{admin['id']}", json={"rights": []}),
            client.delete(f"{KEYS}/{admin['id']}"),
            client.post(f"{KEYS}/{admin['id']}/rotate"),
        ):
            assert (await attempt).status_code == 403
    async with client_of(running.gateway, admin["secret"]) as client:
        assert (await client.post(KEYS, json={"name": "c", "rights": ["admin"]})).status_code == 201
    async with client_of(flaky, keeper) as client:
        assert (await client.get("/v1/files")).status_code != 403


async def test_without_the_ledger_keys_go_on_and_changes_are_refused(alone: House) -> None:
    free, limited = (await made(alone))["secret"], (await made(alone, requests_per_minute=1000))["secret"]
    kept, alone.ledger = alone.ledger, None
    for replica in alone.replicas:
        replica.ledger._link = None
    async with client_of(alone.gateway) as client:
        answer = await client.post(KEYS, json={"name": "a"})
    assert (answer.status_code, answer.json()["error"]["message"]) == (503, "the ledger does not answer")
    refused = await ask(alone.gateway, limited)
    assert refused.status_code == 503
    assert "limits of this key" in refused.json()["error"]["message"]
    asking = asyncio.create_task(ask(alone.gateway, free))
    await alone.until(lambda: alone.gateway.ledger.waiting)
    alone.ledger = kept
    assert (await asking).status_code == 200
    async with asyncio.timeout(30.0):
        while (await ask(alone.gateway, limited)).status_code != 200:
            await asyncio.sleep(0.05)


async def test_a_secret_is_nowhere_but_in_its_answer(alone: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = await made(alone, requests_per_minute=1)
    secret = key["secret"]
    rotated = (await administer(alone, "POST", f"{KEYS}/{key['id']}/rotate"))["secret"]
    answers = [await ask(alone.gateway, secret, path=path) for path in BODIES]
    answers += [await ask(alone.gateway, secret + "x", path=path) for path in BODIES]
    async with client_of(alone.gateway, secret) as client:
        answers += [await client.get("/v1/models"), await client.get(KEYS), await client.get(f"/{secret[4:20]}")]
    await alone.until(lambda: not any(replica.ledger.waiting for replica in alone.replicas))
    shown = json.dumps([await administer(alone, "GET", KEYS), await administer(alone, "GET", f"{KEYS}/{key['id']}")])
    assert "secret" not in shown
    await alone.close()
    alone.replicas.clear()
    alone.ledger = alone.replays = None
    files = [file for file in alone.directory.rglob("*") if file.is_file()]
    assert {"ledger.sqlite", "keys.json"} <= {file.name for file in files}
    assert any(file.suffix == ".jsonl" for file in files)
    for one in (secret, rotated):
        random = one.removeprefix("psk-")
        assert not [file for file in files if random.encode() in file.read_bytes()]
        assert random not in caplog.text
        assert not [answer for answer in answers if random in answer.text or random in str(answer.headers)]
