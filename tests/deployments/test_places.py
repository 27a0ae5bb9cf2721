"""The other places of the face: embeddings, legacy completions, token counts, Azure's addresses, lists, CORS."""

import asyncio
import re
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipelines.version import VERSION
from tests.clients import Caller
from tests.deployments.house import KEY, House, client_of, url_of
from tests.upstream import Fault, Upstream

ROOT = Path(__file__).resolve().parents[2]
HELLO: Any = [{"role": "user", "content": "Hello"}]


async def test_embeddings_and_legacy_completions_by_the_official_client(running: House) -> None:
    async with openai.AsyncOpenAI(base_url=f"{url_of(running.gateway)}/v1", api_key=KEY) as client:
        vectors = await client.embeddings.create(model="simulator/fast", input=["a", "b"], encoding_format="float")
        assert [len(item.embedding) for item in vectors.data] == [8, 8]
        assert vectors.data[0].embedding != vectors.data[1].embedding
        whole = await client.completions.create(model="simulator/fast", prompt="Hello")
        assert whole.choices[0].text == "You said: Hello"
        stream = await client.completions.create(model="simulator/fast", prompt="Hello", stream=True)
        assert "".join([chunk.choices[0].text async for chunk in stream]) == "You said: Hello"
        with pytest.raises(openai.NotFoundError):
            await client.embeddings.create(model="simulator/none", input="a")


async def test_the_anthropic_client_talks_counts_and_lists(running: House) -> None:
    async with anthropic.AsyncAnthropic(base_url=url_of(running.gateway), api_key=KEY) as client:
        for model in ("simulator/fast", "flaky/m"):
            answer = await client.messages.create(model=model, max_tokens=100, messages=HELLO)
            assert answer.content[0].type == "text"
            async with client.messages.stream(model=model, max_tokens=100, messages=HELLO) as stream:
                text = "".join([piece async for piece in stream.text_stream])
            assert text == answer.content[0].text
            counted = await client.messages.count_tokens(model=model, messages=HELLO)
            assert counted.input_tokens > 0
            raw = await client.messages.with_raw_response.count_tokens(model=model, messages=HELLO)
            assert raw.headers.get("x-penstock-estimated") == ("true" if model == "flaky/m" else None)
        assert "simulator/fast" in [model.id async for model in client.models.list()]
        with pytest.raises(anthropic.NotFoundError) as refused:
            await client.messages.create(model="nobody/x", max_tokens=1, messages=HELLO)
        assert refused.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]


async def test_azures_addresses_mean_the_same(running: House) -> None:
    async with openai.AsyncAzureOpenAI(
        azure_endpoint=url_of(running.gateway), api_key=KEY, api_version="2024-10-21"
    ) as client:
        answer = await client.chat.completions.create(model="simulator/fast", messages=HELLO)
        assert str(answer.choices[0].message.content).startswith("You said: Hello")


async def test_one_model_and_the_list_of_the_direct_lane(running: House) -> None:
    async with client_of(running.gateway) as client:
        assert (await client.get("/v1/models/simulator/fast")).json()["id"] == "simulator/fast"
        assert (await client.get("/v1/models/nothing")).status_code == 404
        document = (await client.get("/openapi.json")).json()
        assert "/v1/chat/completions" in document["paths"]
    async with client_of(running.replicas[0]) as client:
        assert (await client.get("/v1/models")).json()["data"][0]["id"] == "fast"
        assert (await client.get("/simulator/v1/models")).status_code == 200


async def test_the_api_s_description_has_every_page(running: House) -> None:
    async with client_of(running.gateway) as client:
        described = (await client.get("/openapi.json")).json()
        for path, methods in described["paths"].items():
            for method in methods:
                if path != "/v1/live":  # which has no end
                    answer = await client.request(method, re.sub(r"{\w+}", "x", path), json={})
                    assert answer.status_code != 405, path
                    assert answer.status_code != 404 or "{" in path, path
    source = "".join(path.read_text() for path in (ROOT / "deployments").rglob("*.py"))
    written = {found.rstrip("/") for found in re.findall(r'"(/v1/[a-z_/]+)["/?]', source)}
    assert len(written) > 15
    assert written <= set(described["paths"])
    assert described["info"]["version"] == VERSION


async def test_every_other_path_of_the_direct_lane_is_the_providers_own(running: House, upstream: Upstream) -> None:
    reply = Fault(body=b'{"text":"hello"}', headers={"content-type": "application/json"})
    upstream.plan("/v1/audio/transcriptions", reply, times=None)
    async with client_of(running.replicas[-1]) as client:
        answer = await client.post("/v1/audio/transcriptions?x=1", content=b"x" * 300_000, headers={"x-secret": "mine"})
        assert answer.json() == {"text": "hello"}
        for path in ("/v1/../admin", "/v1/%2e%2e/admin", "/v1/%252e%252e/admin", "/v1//x", "/other"):
            assert (await client.post(path, content=b"x")).status_code in (404, 405)
        client.headers.pop("authorization")
        assert (await client.post("/v1/audio/transcriptions", content=b"x")).status_code == 401
    seen = [request for request in upstream.requests if "audio" in request.path]
    assert [request.path for request in seen] == ["/v1/audio/transcriptions?x=1"]
    assert seen[0].header("x-secret") is None
    assert KEY not in str(seen[0].headers)


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("/v1/files/a%23b", "/v1/files/a%23b"),
        ("/v1/files/a%3Fb%3Dc?d=e", "/v1/files/a%3Fb=c?d=e"),
        ("/v1/files/%C3%BC b", "/v1/files/%C3%BC%20b"),
        ("/v1/chat/completions%3F", "/v1/chat/completions%3F"),
    ],
)
async def test_a_forwarded_path_is_the_one_that_was_asked_for(
    running: House, upstream: Upstream, asked: str, sent: str
) -> None:
    async with client_of(running.replicas[-1]) as client:
        await client.delete(asked)
    assert [request.path for request in upstream.requests if request.method == "DELETE"] == [sent]


async def test_pages_of_a_configured_origin_may_call_and_no_others(running: House) -> None:
    shop = await running.provider(kind="simulator", name="shop", origins=["https://shop.example"], drain=1.0)
    question = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    async with client_of(shop) as client:
        for origin, allowed in (("https://shop.example", True), ("https://evil.example", False)):
            asked = await client.options("/v1/chat/completions", headers={"origin": origin, **question})
            told = await client.get("/v1/models", headers={"origin": origin})
            for answer in (asked, told):
                assert (answer.headers.get("access-control-allow-origin") == origin) == allowed
    async with client_of(running.gateway) as client:
        told = await client.get("/v1/models", headers={"origin": "https://shop.example"})
        assert "access-control-allow-origin" not in told.headers


async def test_prometheus_reads_the_whole_cluster(running: House) -> None:
    async with client_of(running.gateway) as client:
        for model in ("simulator/fast", "flaky/m"):
            await client.post("/v1/chat/completions", json={"model": model, "messages": HELLO, "stream": True})
        async with client_of(running.replicas[0]) as direct:
            await direct.post("/v1/chat/completions", json={"model": "fast", "messages": HELLO})
        async with asyncio.timeout(30):
            counted = 'penstock_attempts_total{model="fast",outcome="ok",provider="simulator",role="first"} 2.0'
            while counted not in (text := (await client.get("/metrics")).text):
                await asyncio.sleep(0.05)
        families = {family.name: family for family in text_string_to_metric_families(text)}
        client.headers.pop("authorization")
        assert (await client.get("/metrics")).status_code == 401
    states = {tuple(s.labels.values()): s.value for s in families["penstock_provider_state"].samples}
    assert states["simulator", "ready"] == 1.0
    assert {s.labels["model"] for s in families["penstock_attempts"].samples} <= {"fast", "model-a", "model-b", "other"}
    first = families["penstock_time_to_first_output_seconds"].samples
    assert all(0 < sample.value < 60 for sample in first)


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1/chat/completions", {"messages": HELLO}),
        ("/v1/messages", {"messages": HELLO, "max_tokens": 9}),
        ("/v1/responses", {"input": "Hello"}),
        ("/v1/completions", {"prompt": "Hello"}),
        ("/v1/embeddings", {"input": "Hello"}),
    ],
)
async def test_a_list_of_models_needs_no_model_beside_it(running: House, path: str, asked: dict[str, Any]) -> None:
    async with client_of(running.gateway) as client:
        for models in (["simulator/clever", "simulator/fast"], ["nobody/x", "simulator/clever"]):
            answer = await client.post(path, json={"models": models, **asked})
            assert (answer.status_code, answer.headers["x-penstock-model"]) == (200, "clever"), answer.text
            assert answer.headers["x-penstock-route"].startswith(", ".join(models) + ":")
        odds: list[Any] = [[], [1], [""], "simulator/fast"]
        for odd in odds:
            refused = await client.post(path, json={"models": odd, **asked})
            assert refused.status_code == 400
            assert "model" in refused.text


async def test_a_decision_is_explained_without_being_made(running: House, upstream: Upstream) -> None:
    body = {"model": "auto", "messages": HELLO, "tools": [{"type": "function", "function": {"name": "f"}}]}
    async with client_of(running.gateway) as client:
        told = (await client.post("/v1/route", json=body)).json()
        assert {entry["model"] for entry in told["candidates"]} == {"flaky/model-a", "flaky/model-b"}
        for entry in told["candidates"]:
            assert sum(entry["terms"].values()) == pytest.approx(entry["score"])
        assert "simulated" in told["excluded"]["simulator"]
        refused = await client.post("/v1/route", json={**body, "model": "nobody/x"})
        assert refused.json()["error"]["code"] == "model_not_found"
    assert not [request for request in upstream.requests if request.method == "POST"]


@pytest.mark.parametrize("body", [b"", b"x" * 1000], ids=["no body", "a body"])
async def test_a_caller_who_leaves_a_forwarded_request_closes_the_upstream(
    running: House, upstream: Upstream, body: bytes
) -> None:
    upstream.plan("/v1/files", Fault.never_answer(), times=None)
    direct = running.replicas[-1]
    async with await Caller.connect(url_of(direct)) as caller:
        await caller.request("POST" if body else "GET", "/v1/files", body, headers=[("x-api-key", KEY)])
        await upstream.until(lambda: any(request.path == "/v1/files" for request in upstream.requests))
    seen = next(request for request in upstream.requests if request.path == "/v1/files")
    await upstream.wait_closed(seen.connection)
    await running.until(lambda: direct.front.visits == 0)
    assert direct.limiter.in_flight == 0
