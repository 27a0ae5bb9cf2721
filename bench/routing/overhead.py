"""What routing adds to a request from end to end: a whole gateway on real sockets, in this process and without Ray.

A model is asked by its name, which leaves nothing to decide, and in turn `auto` among CANDIDATES; the upstream answers
at once. A time is a caller's: through the gateway, the hop, the provider's replica and the ledger's commit, on a loop
that caller, gateway, provider and upstream share.

Above it: `__main__`. Below it: `bench.upstream`, `actors`, `deployments`. Outside it: Ray; `python -m bench` has that.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from unittest.mock import patch

import aiohttp

from actors.money.ledger import Ledger
from actors.replaying.replays import Replays
from actors.routing.router import Router
from bench.upstream import Upstream
from deployments.config import GatewaySettings, ListenSettings, ModelSettings, ProviderSettings
from deployments.gateway import Gateway
from deployments.provider_replica import ProviderReplica
from deployments.replica import Replica

CANDIDATES = 50
ROUNDS = 1000
KEY = "psk-of-the-benchmark"
QUESTION = "Write a function in Python that merges two sorted lists into one, and explain its running time."


@contextlib.asynccontextmanager
async def gateway(directory: Path) -> AsyncIterator[str]:
    """A gateway and a provider of CANDIDATES models; its address."""
    router, ledger, replays = Router(str(directory)), Ledger(str(directory)), Replays(str(directory))

    async def to_router() -> Router:
        return router

    async def to_ledger() -> Ledger:
        return ledger

    async def to_replays() -> Replays:
        return replays

    models = tuple(ModelSettings(name=f"u-{16 + size}", input_price=1, output_price=1) for size in range(CANDIDATES))
    replicas: list[Replica] = []
    async with Upstream() as upstream:
        port = _free_port()
        provider = ProviderSettings(kind="openai", base_url=f"{upstream.url}/v1", models=models, drain=1.0)
        settings = GatewaySettings(listen=ListenSettings(port=port), drain=1.0)
        replicas.append(ProviderReplica(provider, to_router, to_replays, to_ledger))
        replicas.append(Gateway(settings, to_router, to_replays, to_ledger))
        try:
            for replica in replicas:
                await replica.start()
            yield f"http://127.0.0.1:{port}/v1/chat/completions"
        finally:
            await asyncio.gather(*(replica.stop() for replica in replicas))
            await asyncio.gather(ledger.close(), replays.close(), router.close())


async def measure(session: aiohttp.ClientSession, url: str, models: Sequence[str], rounds: int) -> list[list[float]]:
    """Milliseconds of each request for each of the models, in ascending order; they are asked in turn."""
    times: list[list[float]] = [[] for _ in models]
    for _ in range(rounds):
        for model, found in zip(models, times, strict=True):
            body = {"model": model, "messages": [{"role": "user", "content": QUESTION}]}
            began = time.perf_counter()
            async with session.post(url, json=body) as answer:
                await answer.read()
                answer.raise_for_status()
            found.append(1000 * (time.perf_counter() - began))
    return [sorted(found) for found in times]


async def report(rounds: int = ROUNDS) -> str:
    """A table of medians and 99th percentiles."""
    asked = {"openai/u-16": "a model by its name", "auto": f"`auto`, {CANDIDATES} candidates"}
    lines = ["| from end to end, one caller | ms p50 | ms p99 |", "|---|---|---|"]
    with tempfile.TemporaryDirectory() as name:
        _write_key(Path(name))
        with patch.dict(os.environ, {"PENSTOCK_STATE_DIR": name, "OPENAI_API_KEY": "none"}):
            async with gateway(Path(name)) as url, _session() as session:
                await measure(session, url, list(asked), max(1, rounds // 10))
                times = await measure(session, url, list(asked), rounds)
    lines += [
        f"| {told} | {found[rounds // 2]:.2f} | {found[int(rounds * 0.99)]:.2f} |"
        for told, found in zip(asked.values(), times, strict=True)
    ]
    return "\n".join(lines)


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(headers={"authorization": f"Bearer {KEY}"})


def _write_key(directory: Path) -> None:
    directory.chmod(0o700)
    file = directory / "keys.json"
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    file.write_text(json.dumps([{"id": "bench", "name": "bench", "hash": digest, "admin": True}]))
    file.chmod(0o600)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
