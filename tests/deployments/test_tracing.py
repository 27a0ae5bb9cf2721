"""Traces reach a real OTLP receiver: request, route, attempt, provider; context from the caller and to the provider."""

import gzip
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from deployments.telemetry.tracing import CONTENT, ENDPOINTS, tracing
from tests.deployments.house import House, client_of, house
from tests.deployments.test_ledger import HELLO
from tests.readme import ROOT
from tests.upstream import Fault, Upstream

CHAT = "/v1/chat/completions"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE = "0af7651916cd43dd8448eb211c80319c"


class Receiver:
    """What an OpenTelemetry collector would have got. status: what it answers."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: list[dict[str, Any]] = []
        self.status = 200

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.headers.get("content-encoding") == "gzip" and body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(plain(resource.resource.attributes))
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return web.Response(status=self.status)

    def named(self, start: str) -> list[Any]:
        return [span for span in self.spans if span.name.startswith(start)]


def plain(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@asynccontextmanager
async def receiver(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    got = Receiver()
    application = web.Application()
    application.router.add_post("/v1/traces", got.take)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    try:
        yield got
    finally:
        await runner.cleanup()


@asynccontextmanager
async def traced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upstream: Upstream
) -> AsyncIterator[tuple[House, Receiver]]:
    """A house whose spans are all there once it is closed."""
    async with receiver(monkeypatch) as got, house(tmp_path, monkeypatch) as running:
        await running.provider(
            kind="local", name="flaky", base_url=f"{upstream.url}/v1", retry={"base": 0.01, "cap": 0.02}, drain=1.0
        )
        await running.until(lambda: bool((entry := running.gateway.router.table.provider("flaky")) and entry.models))
        yield running, got


async def test_a_request_is_one_trace_from_the_caller_to_the_provider(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upstream: Upstream
) -> None:
    upstream.plan("wrong", Fault.server_error(), times=None)
    upstream.plan("m", Fault.answer(5), times=None)
    body = {"model": "flaky/wrong", "models": ["flaky/m"], "messages": HELLO, "stream": True, "temperature": 0.5}
    async with traced(tmp_path, monkeypatch, upstream) as (running, got), client_of(running.gateway) as client:
        headers = {"traceparent": PARENT, "tracestate": "vendor=1", "x-request-id": "mine-1"}
        answer = await client.post(CHAT, json=body, headers=headers)
        assert answer.status_code == 200
        assert answer.headers["x-request-id"] == "mine-1"
        last = [request for request in upstream.requests if request.method == "POST"][-1]
    assert {span.trace_id.hex() for span in got.spans} == {TRACE}
    (request,) = got.named("POST /v1/chat/completions")
    assert request.parent_span_id.hex() == PARENT.split("-")[2]
    (route,) = got.named("route")
    attempts = got.named("attempt")
    assert {span.parent_span_id for span in (route, *attempts)} == {request.span_id}
    asked = {plain(span.attributes)["gen_ai.request.model"]: span for span in got.named("chat ")}
    owners = {plain(span.attributes)["gen_ai.request.model"]: span for span in attempts}
    assert set(asked) == set(owners) == {"wrong", "m"}
    for model, span in asked.items():
        assert span.parent_span_id == owners[model].span_id
    told = plain(asked["m"].attributes)
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.provider.name"] == "flaky"
    assert told["gen_ai.usage.output_tokens"] == 5
    assert told["gen_ai.request.temperature"] == 0.5
    assert told["penstock.role"] == "fallback"
    assert plain(asked["wrong"].attributes)["error.type"] == "server_error"
    assert asked["wrong"].status.code == 2
    # The provider is told of the very span that stands for asking it.
    assert last.header("traceparent") == f"00-{TRACE}-{asked['m'].span_id.hex()}-01"
    assert last.header("tracestate") == "vendor=1"
    assert last.header("x-request-id") == "mine-1"
    assert {resource["penstock.application"] for resource in got.resources} == {"gateway", "flaky"}
    assert "Hello, how are you?" not in str(got.spans)
    lines = [
        json.loads(line)
        for file in (tmp_path / "logs").glob("gateway*.jsonl")
        for line in file.read_text().splitlines()
    ]
    assert [line["trace"] for line in lines] == [TRACE]


async def test_text_is_told_where_that_is_switched_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upstream: Upstream
) -> None:
    monkeypatch.setenv(CONTENT, "true")
    upstream.plan("m", Fault.answer(3), times=None)
    async with traced(tmp_path, monkeypatch, upstream) as (running, got), client_of(running.replicas[-1]) as client:
        for stream in (True, False):
            await client.post(CHAT, json={"model": "m", "messages": HELLO, "stream": stream})
    for span in got.named("chat m"):
        told = plain(span.attributes)
        (question,), (answer,) = (json.loads(told[f"gen_ai.{way}.messages"]) for way in ("input", "output"))
        assert question == {"role": "user", "parts": [{"type": "text", "content": "Hello, how are you?"}]}
        assert answer["role"] == "assistant"
        assert len(answer["parts"][0]["content"].split()) == 3
    assert len(got.named("chat m")) == 2


async def test_one_who_leaves_and_one_who_is_refused_end_their_traces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upstream: Upstream
) -> None:
    upstream.plan("endless", Fault.without_end(gap=0.02), times=None)
    async with traced(tmp_path, monkeypatch, upstream) as (running, got), client_of(running.gateway) as client:
        async with client.stream(
            "POST", CHAT, json={"model": "flaky/endless", "messages": HELLO, "stream": True}
        ) as it:
            await anext(it.aiter_bytes())
        refused = await client.post(CHAT, json={"model": "nobody/x", "messages": HELLO})
        assert refused.status_code == 404
        await running.until(lambda: not any(replica.front.visits for replica in running.replicas), 30.0)
    requests = {plain(span.attributes)["gen_ai.request.model"]: span for span in got.named("POST ")}
    assert plain(requests["flaky/endless"].attributes)["error.type"] == "cancelled"
    assert plain(requests["nobody/x"].attributes)["error.type"] == "model_not_found"
    for span in (*got.named("attempt"), *got.named("chat ")):
        assert plain(span.attributes)["error.type"] == "cancelled"
        assert span.end_time_unix_nano >= span.start_time_unix_nano


async def test_a_collector_that_fails_harms_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upstream: Upstream
) -> None:
    async with traced(tmp_path, monkeypatch, upstream) as (running, got), client_of(running.gateway) as client:
        got.status = 400
        for _ in range(3):
            answer = await client.post(CHAT, json={"model": "simulator/fast", "messages": HELLO})
            assert answer.status_code == 200
        await running.until(lambda: bool(got.spans), 30.0)


@pytest.mark.parametrize(
    ("variables", "on"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
async def test_when_there_are_traces(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], on: bool) -> None:
    for name in (*ENDPOINTS, "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    made = tracing("gateway", "x")
    assert (made is not None) == on
    if made is not None:
        await made.close()


def test_without_an_endpoint_nothing_of_it_is_imported() -> None:
    code = (
        "import os, sys, deployments.front, deployments.telemetry.tracing as t;"
        "os.environ.pop('OTEL_EXPORTER_OTLP_ENDPOINT', 0);"
        "assert t.tracing('gateway', 'x') is None;"
        "sys.exit(any(name.startswith('opentelemetry.sdk') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
