"""What callers read in the ledger, over real sockets: sums, rows, stories, exports; their own and nobody else's."""

import asyncio
import csv
import hashlib
import io
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from deployments.pages import usage_pages, usage_query
from deployments.pages.usage_query import cursor, rows, sums
from pipelines.errors import BadRequest
from pipelines.ledger import Batch, Question, Row
from pipelines.ledger_questions import Position
from tests.actors.ledger_rows import BILL, attempt, request
from tests.deployments.house import House, client_of, house
from tests.upstream import Fault, Upstream

CHAT = "/v1/chat/completions"
HELLO: Any = [{"role": "user", "content": "Hello"}]
NOW = datetime(2026, 11, 22, 10, 30, tzinfo=UTC).timestamp()
OTHER = "psk-of-somebody-else"


def add_key(directory: Path, identity: str, key: str, **more: Any) -> None:
    file = directory / "keys.json"
    entries = json.loads(file.read_text())
    entries.append({"id": identity, "name": identity, "hash": hashlib.sha256(key.encode()).hexdigest(), **more})
    file.write_text(json.dumps(entries))


@pytest.fixture
async def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upstream: Upstream) -> AsyncIterator[House]:
    async with house(tmp_path, monkeypatch) as built:
        add_key(tmp_path, "team", OTHER)
        await built.provider(
            kind="local",
            name="flaky",
            base_url=f"{upstream.url}/v1",
            retry={"base": 0.01, "cap": 0.02},
            models=[{"name": "m", "input_price": 1.0, "output_price": 3.0}],
            any_model=True,
        )
        await built.until(lambda: built.gateway.router.table.provider("flaky") is not None, 30.0)
        async with client_of(built.gateway, OTHER) as client:
            async with asyncio.timeout(30.0):
                while (await client.get("/v1/models")).status_code == 401:
                    await asyncio.sleep(0.05)
        upstream.reset()
        yield built


async def ask(client: httpx.AsyncClient, model: str, **more: Any) -> httpx.Response:
    return await client.post(CHAT, json={"model": model, "messages": HELLO, **more})


async def got(client: httpx.AsyncClient, path: str, **parameters: Any) -> Any:
    answer = await client.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def put(running: House, *rows: Row) -> None:
    assert running.ledger is not None
    await (await running.ledger._ready()).settle([Batch("me", rows)])


def many(count: int, key: str = "team", begin: float | None = None) -> list[Row]:
    """As many requests, one a second, and their attempts, the last of them a little ago."""
    made: list[Row] = []
    begin = time.time() - count - 5 if begin is None else begin
    for number in range(count):
        at = begin + number
        identity = f"{int(at * 1000):012x}{number:020x}"
        made.append(replace(request(number, key=key, time=at), id=identity))
        made.append(replace(attempt(number, key=key, time=at, request=identity), id=f"{identity[:-6]}ffffff"))
    return made


async def test_sums_by_everything_with_exact_costs(running: House, upstream: Upstream) -> None:
    upstream.plan("m", Fault.answer(10), times=None)
    async with client_of(running.gateway) as client, client_of(running.gateway, OTHER) as other:
        for tag in ("red", "blue", "red"):
            await client.post(CHAT, json={"model": "flaky/m", "messages": HELLO}, headers={"x-penstock-tag": tag})
        await ask(other, "flaky/m")
        await ask(other, "flaky/unpriced")
        await ask(other, "flaky/unpriced", models=["nobody/nothing"])
        report = await got(client, "/v1/usage", by="key,tag,model,provider")
        (day,) = (await got(client, "/v1/usage"))["data"]
        (hour,) = (await got(client, "/v1/usage", by="hour,task"))["data"][:1]
    prompt = report["data"][0]["tokens"]["input"] // report["data"][0]["requests"]
    price = Decimal(prompt) / 10**6 + Decimal(3 * 10) / 10**6
    groups = {(one["key"], one["tag"], one["model"], one["provider"]): one for one in report["data"]}
    red = groups["administrator", "red", "m", "flaky"]
    assert (red["requests"], red["attempts"], red["errors"], red["unknown_costs"]) == (2, 2, 0, 0)
    assert red["tokens"] == {"input": 2 * prompt, "cached_read": 0, "cache_write": 0, "output": 20, "reasoning": 0}
    assert Decimal(red["cost_exact"]) == 2 * price
    assert red["cost"] == float(2 * price)
    assert Decimal(groups["team", "", "m", "flaky"]["cost_exact"]) == price
    unpriced = groups["team", "", "unpriced", "flaky"]
    assert (unpriced["unknown_costs"], unpriced["cost"], unpriced["cost_exact"]) == (2, 0.0, "0")
    assert (report["total"]["requests"], Decimal(report["total"]["cost_exact"])) == (6, 4 * price)
    assert report["total"]["unknown_costs"] == 2
    assert day["day"] == datetime.now(UTC).date().isoformat() or day["requests"] < 6
    assert datetime.fromisoformat(hour["hour"]).minute == 0


async def test_a_normal_key_sees_its_own(running: House) -> None:
    async with client_of(running.gateway) as client, client_of(running.gateway, OTHER) as other:
        mine = (await ask(client, "simulator/fast")).headers["x-request-id"]
        theirs = (await ask(other, "simulator/fast")).headers["x-request-id"]
        for by in ("key", "day", "tag,key"):
            report = await got(other, "/v1/usage", by=by)
            assert report["total"]["requests"] == 1
        assert [row["key"] for row in (await got(other, "/v1/requests"))["data"]] == ["team"]
        assert (await got(other, "/v1/requests", key="team"))["data"][0]["request_id"] == theirs
        assert (await got(other, f"/v1/requests/{theirs}"))["key"] == "team"
        for path in ("/v1/usage", "/v1/requests", "/v1/usage/export"):
            refused = await other.get(path, params={"key": "administrator"})
            assert refused.status_code == 403
            assert "usage" in refused.json()["error"]["message"]
        assert (await other.get(f"/v1/requests/{mine}")).status_code == 404
        exported = (await other.get("/v1/usage/export", params={"format": "json"})).text.splitlines()
        assert [json.loads(line)["request_id"] for line in exported] == [theirs]
        tries = await other.get("/v1/usage/export", params={"format": "json", "kind": "attempts"})
        assert [json.loads(line)["key"] for line in tries.text.splitlines()] == ["team"]
        assert (await other.delete("/v1/requests", params={"key": "team"})).status_code == 403
        assert (await got(client, "/v1/usage", by=""))["total"]["requests"] == 2
        assert {row["key"] for row in (await got(client, "/v1/requests"))["data"]} == {"administrator", "team"}
        assert (await got(client, f"/v1/requests/{theirs}"))["key"] == "team"
    async with httpx.AsyncClient(base_url=str(client.base_url), trust_env=False) as stranger:
        assert (await stranger.get("/v1/usage")).status_code == 401


async def test_a_story_has_every_attempt_with_its_role_and_cost(running: House, upstream: Upstream) -> None:
    upstream.plan("m", Fault.server_error(), times=None)
    async with client_of(running.gateway) as client:
        answer = await ask(client, "flaky/m", models=["simulator/fast"], metadata={"team": "blue"})
        assert answer.status_code == 200
        found = await got(client, f"/v1/requests/{answer.headers['x-request-id']}")
        assert await got(client, f"/v1/requests/{found['id']}") == found
    assert (found["object"], found["outcome"], found["asked"]) == ("request", "ok", "flaky/m")
    assert (found["provider"], found["metadata"]) == ("simulator", {"team": "blue"})
    first, second = found["attempts"]
    assert (first["role"], first["provider"], first["outcome"], first["retries"]) == (
        "first",
        "flaky",
        "server_error",
        2,
    )
    assert (second["role"], second["provider"], second["outcome"]) == ("fallback", "simulator", "ok")
    assert first["cost"] == 0
    assert found["total"]["cost_exact"] == second["cost_exact"] == found["cost_exact"]
    assert found["seconds"] >= second["seconds"] > 0
    assert datetime.fromisoformat(first["time"]) <= datetime.fromisoformat(second["time"])


async def test_requests_come_page_by_page(running: House) -> None:
    await put(running, *many(25))
    async with client_of(running.gateway) as client:
        seen: list[str] = []
        more: dict[str, Any] = {}
        sizes = []
        while True:
            page = await got(client, "/v1/requests", limit=10, **more)
            seen += [row["request_id"] for row in page["data"]]
            sizes.append(len(page["data"]))
            if not page["has_more"]:
                break
            more = {"cursor": page["next_cursor"]}
        assert page["next_cursor"] is None
        assert sizes == [10, 10, 5]
        assert seen == [f"x{number}" for number in reversed(range(25))]
        assert (await got(client, "/v1/requests", outcome="cancelled"))["data"] == []
        assert len((await got(client, "/v1/requests", key="team", provider="p", since="1d"))["data"]) == 25


@pytest.mark.parametrize("form", ["csv", "json"])
@pytest.mark.parametrize("kind", ["requests", "attempts"])
async def test_an_export_is_a_page_at_a_time(
    running: House, monkeypatch: pytest.MonkeyPatch, form: str, kind: str
) -> None:
    monkeypatch.setattr(usage_pages, "EXPORT_ROWS", 10)
    put_in = many(35)
    await put(running, *put_in)
    asked: list[int] = []
    ask_ledger = usage_pages.UsagePages._ask

    async def counted(self: Any, inquiry: Any, kind: Any) -> Any:
        asked.append(inquiry.most)
        return await ask_ledger(self, inquiry, kind)

    monkeypatch.setattr(usage_pages.UsagePages, "_ask", counted)
    async with client_of(running.gateway) as client:
        answer = await client.get("/v1/usage/export", params={"format": form, "kind": kind})
    assert answer.status_code == 200
    assert asked == [10, 10, 10, 10]
    assert f"penstock-{kind}" in answer.headers["content-disposition"]
    if form == "csv":
        read = list(csv.DictReader(io.StringIO(answer.text)))
        assert {row["cost"] for row in read} == {"0.0000075"}
    else:
        read = [json.loads(line) for line in answer.text.splitlines()]
        assert {row["cost"] for row in read} == {BILL.cost / 1e9 if BILL.cost else 0}
    wanted = [row.id for row in put_in if (kind == "attempts") == hasattr(row, "role")]
    assert [row["id"] for row in read] == wanted


async def test_text_in_an_export_is_no_formula(running: House) -> None:
    (row, _) = many(1)
    await put(running, replace(row, tag='=cmd|"/c calc"!A1', outcome="ok,\n2"))
    async with client_of(running.gateway) as client:
        (read,) = csv.DictReader(io.StringIO((await client.get("/v1/usage/export")).text))
    assert (read["tag"], read["outcome"]) == ('\'=cmd|"/c calc"!A1', "ok,\n2")


async def test_an_export_that_breaks_is_cut_off(running: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_pages, "EXPORT_ROWS", 10)
    await put(running, *many(35))
    ask_ledger, asked = usage_pages.UsagePages._ask, []

    async def failing(self: Any, inquiry: Any, kind: Any) -> Any:
        asked.append(inquiry)
        if len(asked) == 3:
            running.ledger = None
            running.gateway.ledger._link = None
        return await ask_ledger(self, inquiry, kind)

    kept = running.ledger
    monkeypatch.setattr(usage_pages.UsagePages, "_ask", failing)
    async with client_of(running.gateway) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/v1/usage/export")
        assert (await client.get("/v1/usage")).status_code == 503
        running.ledger = kept
        assert (await client.get("/v1/usage")).status_code == 200


async def test_the_administrator_erases_a_key(running: House) -> None:
    await put(running, *many(5), *many(3, "left", time.time() - 100))
    async with client_of(running.gateway) as client:
        assert (await client.delete("/v1/requests")).json()["error"]["param"] == "key"
        assert (await client.delete("/v1/requests?key=team&sums=some")).json()["error"]["param"] == "sums"
        gone = (await client.delete("/v1/requests?key=team")).json()
        assert (gone["requests"], gone["attempts"], gone["sums"]) == (5, 5, "anonymous")
        assert {row["key"] for row in (await got(client, "/v1/requests"))["data"]} == {"left"}
        groups = (await got(client, "/v1/usage", by="key"))["data"]
        assert {one["key"]: one["requests"] for one in groups} == {"erased": 5, "left": 3}


@pytest.mark.parametrize(
    ("path", "wrong", "param"),
    [
        ("/v1/usage", "by=key,colour", "by"),
        ("/v1/usage", "since=yesterday", "since"),
        ("/v1/usage", "until=2026-13-01", "until"),
        ("/v1/usage", "since=2026-11-02&until=2026-11-01", "since"),
        ("/v1/usage", "since=-5", "since"),
        ("/v1/usage", "since=1e400", "since"),
        ("/v1/usage", "outcome=ok", "outcome"),
        ("/v1/usage", "by=day&by=key", "by"),
        ("/v1/requests", "limit=0", "limit"),
        ("/v1/requests", "limit=1001", "limit"),
        ("/v1/requests", "limit=ten", "limit"),
        ("/v1/requests", "limit=%C2%B2", "limit"),
        ("/v1/requests", "cursor=nonsense", "cursor"),
        ("/v1/requests", "cursor=%00", "cursor"),
        ("/v1/requests", "order=asc", "order"),
        ("/v1/usage/export", "format=xml", "format"),
        ("/v1/usage/export", "kind=tools", "kind"),
        ("/v1/usage/export", "limit=5", "limit"),
    ],
)
async def test_wrong_parameters_are_named(running: House, path: str, wrong: str, param: str) -> None:
    async with client_of(running.gateway) as client:
        answer = await client.get(f"{path}?{wrong}")
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
    assert f"`{param}`" in answer.json()["error"]["message"]


def test_times_in_every_form() -> None:
    assert sums({}, NOW) == Question(NOW - 30 * 86400 - 1800, NOW + 1800, ("day",), most=usage_query.MOST_GROUPS + 1)
    for text in ("2026-11-20", "2026-11-20T00:00:00Z", "2026-11-20T01:00:00+01:00", "2026-11-20T01:00:00 01:00"):
        assert rows({"since": text}, NOW).since == datetime(2026, 11, 20, tzinfo=UTC).timestamp()
    assert rows({"since": "36h"}, NOW).since == NOW - 36 * 3600
    assert rows({"until": "15m"}, NOW).until == NOW - 900
    assert rows({"since": "1795003200.5"}, NOW + 1e9).since == 1795003200.5
    assert rows({"cursor": cursor(Position(1.5, "ab"))}, NOW).after == Position(1.5, "ab")
    with pytest.raises(BadRequest):
        rows({"since": "nan"}, NOW)
