"""What a newcomer sees, on both kinds of port and in both lanes."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest

from tests.clients import Caller
from tests.cluster.doors import CHAT, Door, authorized, client, door
from tests.cluster.running import ABSENT, KEY, PROMPT, Running
from tests.upstream import Fault, UpstreamProcess, text_of

pytestmark = pytest.mark.cluster

PORTS = pytest.mark.parametrize("port", ["ingress", "listener"])


def gateway(cluster: Running, port: str) -> str:
    return cluster.url if port == "ingress" else cluster.listener()


def text(body: dict[str, Any]) -> str:
    said: str = body["choices"][0]["message"]["content"]
    return said


async def test_a_streamed_answer_is_whole(cluster: Running, upstream: UpstreamProcess, way: str) -> None:
    at = door(cluster, way, "openai")
    async with await Caller.connect(at.url) as caller:
        head = await at.ask(caller, "whole")
        frames = await caller.frames()
    assert head.status == 200
    assert head.headers["content-type"].startswith("text/event-stream")
    assert frames[-1].data == b"[DONE]"
    deltas = [json.loads(frame.data)["choices"][0]["delta"] for frame in frames[:-1]]
    assert "".join(delta.get("content") or "" for delta in deltas) == text_of(Fault())


async def test_a_unary_answer_is_whole(cluster: Running, upstream: UpstreamProcess, way: str) -> None:
    at = door(cluster, way, "openai")
    async with at.client() as http:
        answer = await http.post(CHAT, json=at.body("whole", stream=False))
    assert answer.status_code == 200
    assert text(answer.json()) == text_of(Fault())


async def test_another_dialect_is_translated(cluster: Running, upstream: UpstreamProcess, way: str) -> None:
    at = door(cluster, way, "anthropic")
    async with at.client() as http:
        answer = await http.post(CHAT, json=at.body("claude-x", stream=False))
    assert text(answer.json()) == text_of(Fault())
    assert upstream.log().requests[0].path == "/v1/messages"


async def test_the_headers_say_who_answered_and_why(cluster: Running, way: str) -> None:
    at = door(cluster, way, "simulator")
    async with at.client() as http:
        answer = await http.post(CHAT, json=at.body("fast", stream=False), headers={"x-request-id": "my-own-7"})
    assert answer.headers["x-request-id"] == "my-own-7"
    if way.endswith("routed"):
        assert answer.headers["x-penstock-provider"] == "simulator"
        assert answer.headers["x-penstock-model"] == "fast"
        assert "simulator/fast" in answer.headers["x-penstock-route"]


@PORTS
async def test_models(cluster: Running, port: str) -> None:
    async with client(gateway(cluster, port)) as http:
        names = {model["id"] for model in (await http.get("/v1/models")).json()["data"]}
        assert {"auto", "quick", "simulator/fast", "openai/gpt-5", "tiny/fast"} <= names
        assert not any(name.startswith(("keyless/", "openrouter/")) for name in names)
        assert (await http.get("/v1/models/simulator/fast")).json()["id"] == "simulator/fast"
        assert (await http.get("/v1/models/nothing")).status_code == 404


@PORTS
async def test_an_unconfigured_provider_says_which_variable_is_missing(cluster: Running, port: str) -> None:
    async with client(gateway(cluster, port)) as http:
        listed = {entry["name"]: entry for entry in (await http.get("/v1/providers")).json()["data"]}
    assert {name for name, entry in listed.items() if entry["state"] == "ready"} == {
        "openai",
        "anthropic",
        "simulator",
        "tiny",
    }
    wanted = {"openrouter": "OPENROUTER_API_KEY", "local": "LOCAL_BASE_URL", "keyless": ABSENT}
    for name, variable in wanted.items():
        assert listed[name]["state"] == "unconfigured"
        assert variable in listed[name]["why"]


async def test_an_unconfigured_provider_refuses_in_words(cluster: Running, way: str) -> None:
    at = door(cluster, way, "keyless")
    async with at.client() as http:
        answer = await http.post(CHAT, json=at.body("bargain"))
    assert answer.status_code == 503
    assert ABSENT in answer.json()["error"]["message"]


async def test_auto_never_chooses_an_unconfigured_provider(cluster: Running) -> None:
    async with client(cluster.listener()) as http:
        answers = [await http.post(CHAT, json=Door("", "", "").body("auto", stream=False)) for _ in range(10)]
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.headers["x-penstock-provider"] for answer in answers} <= {"openai", "anthropic", "simulator", "tiny"}


async def test_an_alias(cluster: Running) -> None:
    async with client(cluster.url) as http:
        answer = await http.post(CHAT, json=Door("", "", "").body("quick", stream=False))
    assert (answer.headers["x-penstock-provider"], answer.headers["x-penstock-model"]) == ("simulator", "fast")


@pytest.mark.parametrize("fault", [Fault.rate_limited(), Fault.server_error(), Fault.reset_before_headers()])
@pytest.mark.parametrize("stream", [False, True])
@PORTS
async def test_the_next_model_answers_when_the_first_fails(
    cluster: Running, upstream: UpstreamProcess, port: str, fault: Fault, stream: bool
) -> None:
    model = f"failing-{fault.name}-{port}-{stream}"
    upstream.plan(model, fault, times=None)
    body = Door("", "", "").body(f"openai/{model}", models=["simulator/fast"], stream=stream)
    async with client(gateway(cluster, port)) as http:
        answer = await http.post(CHAT, json=body)
    assert answer.status_code == 200
    assert answer.headers["x-penstock-provider"] == "simulator"
    assert model in answer.headers["x-penstock-route"]
    assert not stream or answer.content.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("page", ["/healthz", "/readyz"])
async def test_health_is_open_and_tells_nothing(cluster: Running, way: str, page: str) -> None:
    at = door(cluster, way, "simulator")
    async with httpx.AsyncClient(base_url=at.url + at.prefix, trust_env=False) as http:
        answer = await http.get(page)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize("path", ["/v1/models", "/v1/providers", "/openapi.json", CHAT, "/v1/messages", "/docs", "/"])
@pytest.mark.parametrize("key", ["", "psk-wrong"])
async def test_everything_else_wants_a_key(cluster: Running, way: str, path: str, key: str) -> None:
    at = door(cluster, way, "simulator")
    headers = authorized(key) if key else {}
    async with httpx.AsyncClient(base_url=at.url + at.prefix, trust_env=False, headers=headers) as http:
        for answer in (await http.get(path), await http.post(path, json={})):
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert KEY not in answer.text


@pytest.mark.parametrize("path", ["/-/routes", "/-/Routes", "/-/routes?x"])
async def test_serves_own_list_of_applications_is_closed(cluster: Running, path: str) -> None:
    async with httpx.AsyncClient(base_url=cluster.url, trust_env=False) as http:
        answer = await http.get(path)
    assert answer.status_code == 404
    assert "simulator" not in answer.text


async def test_the_openapi_document_names_what_is_there(cluster: Running, way: str) -> None:
    at = door(cluster, way, "simulator")
    async with at.client() as http:
        document = (await http.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.")
    assert any(path.endswith(CHAT) for path in document["paths"])


def official(at: Door) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{at.url}{at.prefix}/v1", api_key=KEY, max_retries=0)


async def test_the_official_client(cluster: Running, way: str) -> None:
    at = door(cluster, way, "simulator")
    async with official(at) as http:
        answer = await http.chat.completions.create(
            model=f"{at.named}fast", messages=[{"role": "user", "content": PROMPT}]
        )
        assert PROMPT in (answer.choices[0].message.content or "")
        assert answer.usage is not None
        stream = await http.chat.completions.create(
            model=f"{at.named}fast", messages=[{"role": "user", "content": PROMPT}], stream=True
        )
        texts = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
    assert "".join(texts) == answer.choices[0].message.content


async def drain(stream: AsyncIterator[object]) -> None:
    async for _ in stream:
        pass


async def test_the_official_client_understands_our_errors(cluster: Running, way: str) -> None:
    at = door(cluster, way, "simulator")
    async with official(at) as http:
        with pytest.raises(openai.NotFoundError) as caught:
            await http.chat.completions.create(model=f"{at.named}nothing", messages=[{"role": "user", "content": "x"}])
        stream = await http.chat.completions.create(
            model=f"{at.named}fast?fault=cut&after=2", messages=[{"role": "user", "content": "x"}], stream=True
        )
        with pytest.raises(openai.APIError, match=r"cut|went away|broke"):
            await drain(stream)
    assert caught.value.code == "model_not_found"
