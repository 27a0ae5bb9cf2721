"""Starting twice, starting beside a stranger, growing while it runs; what is written down, and how long a start is."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.clients import Caller
from tests.cluster.doors import CHAT, Door, authorized, client, door
from tests.cluster.running import (
    KEY,
    PROMPT,
    SECRET,
    Running,
    environment,
    free_ports,
    holding,
    launch,
    simulator,
    until,
)
from tests.upstream import Fault, UpstreamProcess

pytestmark = pytest.mark.cluster

REFUSED_WITHIN = 15.0


async def test_a_start_ends_in_a_first_token(cluster: Running) -> None:
    seconds = cluster.up - cluster.began
    undisturbed = seconds * (1.0 - cluster.elsewhere)
    print(f"\nfrom the start to the banner {seconds:.1f} s, {undisturbed:.1f} s of them our own")  # noqa: T201
    at = door(cluster, "ingress-routed", "simulator")
    async with await Caller.connect(at.url) as caller:
        began = time.monotonic()
        await at.ask(caller, "fast")
        assert await caller.frame() is not None
    print(f"the first token after {(time.monotonic() - began) * 1e3:.0f} ms more")  # noqa: T201
    assert cluster.key == KEY


def refused(environment: dict[str, str], config: Path, output: Path) -> str:
    """What a start says that must fail: one line."""
    with output.open("wb") as handle:
        process = launch(environment, config, handle)
    try:
        assert process.wait(REFUSED_WITHIN) == 1
    finally:
        process.kill()
        process.wait()
    said = output.read_text().strip()
    assert said.startswith("penstock: ")
    assert len(said.splitlines()) == 1
    return said


def test_a_second_instance_on_the_same_ports_is_refused(cluster: Running, tmp_path: Path) -> None:
    own = environment(tmp_path / "state", cluster.port, cluster.ports[1])
    said = refused(own, cluster.config, tmp_path / "output")
    assert str(cluster.port) in said
    assert "in use" in said


def test_a_second_instance_on_the_same_listeners_is_refused(cluster: Running, tmp_path: Path) -> None:
    own = environment(tmp_path / "state", free_ports(1), cluster.ports[1])
    said = refused(own, cluster.config, tmp_path / "output")
    assert f"port {cluster.ports[1]}" in said
    assert "LISTEN_PORT" in said


def test_a_second_instance_with_the_same_state_is_refused(cluster: Running, tmp_path: Path) -> None:
    first = free_ports(10)
    said = refused(environment(cluster.state, first, first + 1), cluster.config, tmp_path / "output")
    assert "already runs" in said
    assert str(cluster.port) in said


def test_a_port_that_a_stranger_holds_is_named(cluster: Running, tmp_path: Path) -> None:
    first = free_ports(10)
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", first + 4))
        stranger.listen()
        said = refused(environment(tmp_path / "state", first, first + 1), cluster.config, tmp_path / "output")
    assert f"port {first + 4}" in said
    assert str(os.getpid()) in said


async def test_a_provider_is_added_while_nothing_restarts(cluster: Running, tmp_path: Path) -> None:
    config = yaml.safe_load((cluster.state / "serve_config.yaml").read_text())
    names = [application["name"] for application in config["applications"]]
    before = {name: cluster.replica(name) for name in names}
    config["applications"].append(simulator("extra", free_ports(1)))
    file = tmp_path / "more.yaml"
    file.write_text(yaml.safe_dump(config))
    async with await Caller.connect(cluster.listener()) as caller:
        at = Door(cluster.listener(), "", "simulator/")
        assert (await at.ask(caller, "fast?tokens=400&gap=20")).status == 200
        deploy(cluster, file)
        await listed(cluster, "extra", 120.0)
        frames = await caller.frames()
    assert frames[-1].data == b"[DONE]"
    assert {name: cluster.replica(name) for name in names} == before
    for url, prefix, named in (
        (cluster.url, "", "extra/"),
        (cluster.url, "/extra", ""),
        (cluster.listener(), "", "extra/"),
    ):
        way = Door(url, prefix, named)
        async with way.client() as http:
            answer = await http.post(CHAT, json=way.body("fast", stream=False))
        assert answer.status_code == 200, answer.text


def deploy(cluster: Running, file: Path) -> None:
    """`serve deploy`, as somebody at the machine would."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-m", "ray.serve.scripts", "deploy", "-a", cluster.ray, str(file)],
        env={**kept, "RAY_AUTH_MODE": "token"},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr


async def listed(cluster: Running, name: str, seconds: float) -> None:
    """Until a provider is ready in the published table."""
    end = time.monotonic() + seconds
    async with client(cluster.url) as http:
        while True:
            found = {entry["name"]: entry["state"] for entry in (await http.get("/v1/providers")).json()["data"]}
            if found.get(name) == "ready":
                return
            assert time.monotonic() < end, found
            await asyncio.sleep(0.1)


async def test_no_log_holds_a_prompt_or_a_key(cluster: Running, upstream: UpstreamProcess) -> None:
    bodies = [
        Door("", "", "openai/").body(model, stream=stream)
        for model in ("spilling-whole", "spilling-error", "spilling-cut", "spilling-malformed")
        for stream in (False, True)
    ]
    upstream.plan("spilling-error", Fault(status=400, body=spilled()), times=None)
    upstream.plan("spilling-cut", Fault(cut="reset", cut_after=3), times=None)
    upstream.plan("spilling-malformed", Fault(malformed_at=2), times=None)
    async with client(cluster.url) as http:
        for body in bodies:
            answer = await http.post(CHAT, json=body)
            assert SECRET not in answer.text
        await http.post(CHAT, content=PROMPT.encode())
        await http.post(CHAT, json={"model": PROMPT, "messages": PROMPT})
        await http.get("/v1/providers", headers=authorized("psk-wrong-key-" + PROMPT))
    count = len(bodies)
    until(lambda: len(lines(cluster)) >= count, 60.0, "the requests are in the log")
    assert holding((SECRET, KEY), (file for file in cluster.logs())) == []


def spilled() -> bytes:
    """An error of a provider that repeats the key, as some do."""
    return json.dumps({"error": {"message": f"Incorrect API key provided: {SECRET}", "type": "x"}}).encode()


def lines(cluster: Running) -> list[str]:
    return [line for file in (cluster.state / "logs").glob("gateway-*.jsonl") for line in file.read_text().splitlines()]
