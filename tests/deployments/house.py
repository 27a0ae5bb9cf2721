"""A whole Penstock in one process, on real sockets, without Ray: router, gateway and providers as they are.

Only Ray's part is left out (placement, lifecycle, its ingress); `tests/deployments/test_cluster_*` has that.
"""

import asyncio
import hashlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from actors.money.ledger import Ledger
from actors.money.ledger_link import LedgerLink
from actors.replaying import replay_client
from actors.replaying.replay_link import ReplaysLink
from actors.replaying.replays import Replays
from actors.routing.router import Router
from actors.tools.executor import Executor
from actors.tools.registry import Registry
from actors.tools.registry_link import RegistryLink
from actors.tools.tool_source import SourceSpec
from deployments.config import GatewaySettings, ListenSettings, ProviderSettings
from deployments.gateway import Gateway
from deployments.provider_replica import ProviderReplica
from deployments.replica import Replica

KEY = "psk-of-the-tests"


class House:
    """What runs, and how to reach it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.router = Router(str(directory), shelf=self.connect_shelf)
        self.replays: Replays | None = Replays(str(directory))
        self.ledger: Ledger | None = Ledger(str(directory))
        self.executors: dict[str, Executor] = {}
        self.registry: Registry | None = Registry(str(directory), launcher=self)
        self.replicas: list[Replica] = []
        self.gateway: Gateway

    async def connect(self) -> Router:
        """The connector of every replica."""
        return self.router

    async def connect_replays(self) -> ReplaysLink:
        """The other one."""
        if self.replays is None:
            raise ConnectionError("the replays are away")
        return self.replays

    async def connect_ledger(self) -> LedgerLink:
        """And the third."""
        if self.ledger is None:
            raise ConnectionError("the ledger is away")
        return self.ledger

    async def connect_registry(self) -> RegistryLink:
        """And the one of those who have tools."""
        if self.registry is None:
            raise ConnectionError("the registry is away")
        return self.registry

    async def start(self, spec: SourceSpec) -> None:
        """The registry's launcher: an executor in this process; its workshops are real processes."""
        if spec.name not in self.executors:
            spec = msgspec.structs.replace(spec, state_directory=str(self.directory))
            self.executors[spec.name] = Executor(spec, self.connect_registry)
            await self.executors[spec.name].start()

    async def stop(self, name: str) -> None:
        """The launcher's other half."""
        await self.executors.pop(name).close()

    async def connect_shelf(self) -> Ledger:
        """The router's own."""
        if self.ledger is None:
            raise ConnectionError("the ledger is away")
        return self.ledger

    async def provider(self, **settings: Any) -> ProviderReplica:
        """Start one more provider replica."""
        complete = ProviderSettings(listen=ListenSettings(port=free_port()), **settings)
        replica = ProviderReplica(complete, self.connect, self.connect_replays, self.connect_ledger)
        self.replicas.append(replica)
        await replica.start()
        return replica

    async def open_gateway(self, **settings: Any) -> Gateway:
        """Start the gateway."""
        complete = GatewaySettings(listen=ListenSettings(port=free_port()), **settings)
        self.gateway = Gateway(complete, self.connect, self.connect_replays, self.connect_ledger, self.connect_registry)
        self.replicas.append(self.gateway)
        await self.gateway.start()
        return self.gateway

    async def until(self, condition: Any, seconds: float = 30.0) -> None:
        """Wait until `condition()` holds."""
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.01)

    async def close(self) -> None:
        """Stop everything."""
        await asyncio.gather(*(replica.stop() for replica in self.replicas))
        if self.registry is not None:
            await self.registry.close()
        await asyncio.gather(*(executor.close() for executor in self.executors.values()))
        if self.replays is not None:
            await self.replays.close()
        if self.ledger is not None:
            await self.ledger.close()


def free_port() -> int:
    """A port that nobody holds now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def url_of(replica: Replica) -> str:
    """Where the replica's own listener for callers is."""
    host, port = replica._ports[-1].address
    return f"http://{host}:{port}"


def client_of(replica: Replica, key: str = KEY) -> httpx.AsyncClient:
    """A client of the replica's own listener."""
    return httpx.AsyncClient(
        base_url=url_of(replica), headers={"authorization": f"Bearer {key}"}, timeout=60.0, trust_env=False
    )


@asynccontextmanager
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **gateway: Any) -> AsyncIterator[House]:
    """A house with a simulator and a gateway."""
    tmp_path.chmod(0o700)
    monkeypatch.setenv("PENSTOCK_STATE_DIR", str(tmp_path))
    # Who looks for a stored answer waits for the file to be made, however slow the disk is.
    monkeypatch.setattr(replay_client, "LOOKING", 30.0)
    keys = tmp_path / "keys.json"
    keys.write_text(
        json.dumps(
            [
                {
                    "id": "administrator",
                    "name": "administrator",
                    "hash": hashlib.sha256(KEY.encode()).hexdigest(),
                    "admin": True,
                }
            ]
        )
    )
    keys.chmod(0o600)
    built = House(tmp_path)
    try:
        await built.provider(kind="simulator", drain=1.0)
        await built.open_gateway(drain=1.0, **gateway)
        await built.until(lambda: built.gateway.router.table.provider("simulator") is not None)
        yield built
    finally:
        await built.close()
