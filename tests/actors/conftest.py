"""A Ray cluster for the tests that are marked so."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import ray

from actors.directory import REPLAYS, ROUTER, stop

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
    """A cluster of one node, in this process' care; its workers find the code by PYTHONPATH. Yields a directory."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    started = await asyncio.to_thread(
        ray.init,
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        configure_logging=False,
    )
    monkeypatch.setenv("RAY_TEST_ADDRESS", started.address_info["gcs_address"])
    try:
        yield tmp_path / "state"
    finally:
        for name in (ROUTER, REPLAYS):
            await asyncio.to_thread(stop, name)
        await asyncio.to_thread(ray.shutdown)
