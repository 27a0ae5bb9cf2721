"""Fixtures: a house of ours, and a misbehaving upstream that two of its providers ask."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import uvloop

from deployments import provider_replica
from tests.deployments.house import House, house
from tests.upstream import Upstream

ON_BOTH_LOOPS = frozenset(
    ("test_hop.py", "test_http_client.py", "test_line.py", "test_outbound.py", "test_passage.py", "test_transport.py")
)
"""What works on sockets itself: replicas run on uvloop, plain Python on asyncio's own loop."""


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loops on which a test is run. See pytest-asyncio."""
    usual = {"asyncio": asyncio.new_event_loop}
    return {**usual, "uvloop": uvloop.new_event_loop} if item.path.name in ON_BOTH_LOOPS else usual


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as running:
        yield running


@pytest.fixture
async def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upstream: Upstream) -> AsyncIterator[House]:
    """Gateway, simulator, and `flaky`, a compatible provider that asks the upstream; no real backoff.

    It is more patient than any test: one that wants a timeout asks for it (`penstock.timeouts`).
    """
    # No list of models is read among the requests of a test, however long it takes.
    monkeypatch.setattr(provider_replica, "REFRESH_SECONDS", 3600.0)
    async with house(tmp_path, monkeypatch, wait_for_replica=2.0) as built:
        await built.provider(
            kind="local",
            name="flaky",
            base_url=f"{upstream.url}/v1",
            retry={"base": 0.01, "cap": 0.02},
            timeouts={"connect": 10.0, "first_event": 90.0, "idle": 90.0, "total": 120.0},
            drain=1.0,
        )
        await built.until(lambda: _ready(built, "flaky"))
        upstream.reset()
        yield built


def _ready(built: House, name: str) -> bool:
    entry = built.gateway.router.table.provider(name)
    return entry is not None and entry.state == "ready"
