"""A real Prometheus of the tests' own, from Debian's package."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.deployments.house import KEY, free_port
from tests.programs import program

DOCS = Path(__file__).resolve().parents[2] / "docs" / "observability"


class Prometheus:
    """What it answers."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def query(self, query: str) -> list[dict[str, Any]]:
        """The series of an instant query, as of now."""
        answer = await self._client.get("/api/v1/query", params={"query": query})
        assert answer.status_code == 200, f"{query}: {answer.text}"
        result: list[dict[str, Any]] = answer.json()["data"]["result"]
        return result

    async def until(self, query: str, seconds: float = 60.0) -> None:
        """Wait until a query gives anything."""
        async with asyncio.timeout(seconds):
            while not await self.query(query):
                await asyncio.sleep(0.2)

    async def rules(self) -> list[dict[str, Any]]:
        """Every rule and how its last evaluation went."""
        groups = (await self._client.get("/api/v1/rules")).json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


@asynccontextmanager
async def prometheus(directory: Path, target: str) -> AsyncIterator[Prometheus]:
    """One with the configuration of the documentation, only quicker; target: `host:port` of a gateway."""
    binary = program("prometheus")
    settings = yaml.safe_load((DOCS / "prometheus.yml").read_text())
    settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    settings["rule_files"] = [str(DOCS / name) for name in settings["rule_files"]]
    (job,) = settings["scrape_configs"]
    job["authorization"]["credentials_file"] = str(directory / "penstock.key")
    job["static_configs"] = [{"targets": [target]}]
    (directory / "penstock.key").write_text(KEY)
    (directory / "prometheus.yml").write_text(yaml.safe_dump(settings))
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        binary,
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20.0, trust_env=False) as client:
            await _ready(client, process)
            yield Prometheus(client)
    finally:
        process.kill()
        await process.wait()


async def _ready(client: httpx.AsyncClient, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(60.0):
        while process.returncode is None:
            try:
                if (await client.get("/-/ready")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)
    raise RuntimeError("prometheus did not start")
