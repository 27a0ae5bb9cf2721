"""The README's examples on a running cluster, word for word but for the ports."""

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.starting.instance import ROOT
from tests.cluster.doors import client
from tests.cluster.running import KEY, Running
from tests.readme import example, run
from tests.upstream import UpstreamProcess

pytestmark = pytest.mark.cluster

INGRESS = "http://127.0.0.1:8000"
LISTENER = "http://127.0.0.1:8100"
SIMULATOR = "http://127.0.0.1:8105"
HELLO = {"role": "user", "content": "Hello"}


def environment(**more: str) -> dict[str, str]:
    """A reader's terminal: nothing of this cluster but the key."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "PENSTOCK_", "PYTHON"))}
    return {**kept, "PENSTOCK_API_KEY": KEY, **more}


def said(cluster: Running, name: str) -> str:
    """What an example prints that asks the ingress."""
    return run(name, environment(), {INGRESS: cluster.url})


def content(answer: dict[str, Any]) -> str:
    text: str = answer["choices"][0]["message"]["content"]
    return text


def test_curl_streams(cluster: Running, upstream: UpstreamProcess) -> None:
    frames = said(cluster, "curl").strip().split("\n\n")
    assert frames[-1] == "data: [DONE]"
    chunks = [json.loads(frame.removeprefix("data: ")) for frame in frames[:-1]]
    assert "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


def test_curl_in_anthropics_dialect(cluster: Running) -> None:
    answer = json.loads(said(cluster, "messages"))
    assert answer["type"] == "message"
    assert answer["content"][0]["text"].startswith("You said: Hello")


def test_the_openai_client(cluster: Running) -> None:
    streamed, whole = said(cluster, "openai").splitlines()
    assert streamed.startswith("You said: Hello")
    assert whole.startswith("You said: Hello again")


def test_the_anthropic_client(cluster: Running) -> None:
    assert said(cluster, "anthropic").startswith("You said: Hello")


def test_a_handle_of_another_job(cluster: Running, tmp_path: Path) -> None:
    more = {"RAY_AUTH_MODE": "token", "RAY_ADDRESS": cluster.gcs_address()}
    streamed, usage = run("handle", environment(**more), cwd=tmp_path).splitlines()[-2:]
    assert streamed.startswith("You said: Hello")
    assert "completion_tokens" in usage


def test_the_direct_lane(cluster: Running) -> None:
    assert content(json.loads(said(cluster, "direct"))).startswith("You said: Hello")


def test_the_own_listeners(cluster: Running) -> None:
    places = {LISTENER: cluster.listener(), SIMULATOR: cluster.listener("simulator")}
    printed = run("listener", environment(), places)
    first, end = json.JSONDecoder().raw_decode(printed)
    second = json.loads(printed[end:])
    assert content(first) == content(second)
    assert content(first).startswith("You said: Hello")


def test_a_fallback_and_the_headers_that_tell_of_it(cluster: Running) -> None:
    head, _, body = said(cluster, "fallbacks").partition("\n\n")
    assert content(json.loads(body)).startswith("You said: Hello")
    headers = dict(line.split(": ", 1) for line in head.splitlines()[1:])
    assert (headers["x-penstock-provider"], headers["x-penstock-model"]) == ("simulator", "fast")
    assert "simulator/clever?fault=500" in headers["x-penstock-route"]
    assert headers["x-request-id"]


def test_what_a_request_asks_for_itself(cluster: Running) -> None:
    printed = said(cluster, "options").strip()
    assert printed.endswith("data: [DONE]")
    assert '"error"' not in printed


def test_feedback_on_an_answer(cluster: Running) -> None:
    told = said(cluster, "feedback")
    assert '"object":"feedback","learned":true' in told
    assert '"task":"chat"' in told


async def test_a_provider_is_added(cluster: Running, upstream: UpstreamProcess, tmp_path: Path) -> None:
    key = tmp_path / "groq.key"
    key.write_text("sk-of-the-readme\n")
    places = {"https://api.groq.com/openai": upstream.url, "~/.penstock/groq.key": str(key)}
    _, stanza = example("provider", places)
    config = yaml.safe_load((cluster.state / "serve_config.yaml").read_text())
    config["applications"] += yaml.safe_load(stanza)
    file = tmp_path / "ray_config.yaml"
    file.write_text(yaml.safe_dump(config))
    serve = f"{sys.executable} -m ray.serve.scripts"
    deploy = {".venv/bin/serve": serve, "http://127.0.0.1:8265": cluster.ray, "ray_config.yaml": str(file)}
    run("deploy", environment(), deploy, cwd=tmp_path)
    async with client(cluster.url) as http:
        end = time.monotonic() + 120.0
        while True:
            listed = {entry["name"]: entry for entry in (await http.get("/v1/providers")).json()["data"]}
            if listed.get("groq", {}).get("state") == "ready":
                break
            assert time.monotonic() < end, listed.get("groq")
            await asyncio.sleep(0.1)
        model = listed["groq"]["models"][0]
        answer = await http.post("/v1/chat/completions", json={"model": f"groq/{model}", "messages": [HELLO]})
    assert answer.status_code == 200, answer.text
    assert upstream.log().requests[-1].header("authorization") == "Bearer sk-of-the-readme"


def test_the_stanza_stands_at_the_end_of_the_file() -> None:
    _, stanza = example("provider")
    own = (ROOT / "ray_config.yaml").read_text()
    names = [application["name"] for application in yaml.safe_load(own + "\n" + stanza)["applications"]]
    assert names[-1] == "groq"
    assert len(names) == len(set(names))
