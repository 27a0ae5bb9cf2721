"""A Ray cluster for the tests that are marked so; databases for those of the ledger."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.directory import LEDGER, REPLAYS, ROUTER, stop
from tests.actors.postgres import Postgres, postgres, programs
from tests.programs import absent

ROOT = Path(__file__).resolve().parents[2]


def _started(attempts: int = 3) -> Any:
    """Start Ray, which gives a node 30 s and no more to come up: on a busy machine more than once."""
    while True:
        attempts -= 1
        try:
            return ray.init(
                address="local",
                num_cpus=2,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                configure_logging=False,
            )
        except Exception as error:
            if not attempts or "timed out during startup" not in str(error):
                raise
            ray.shutdown()


@pytest.fixture
async def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
    """A cluster of one node, in this process' care; its workers find the code by PYTHONPATH. Yields a directory."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # As `make serve` has it: beside anything else nice workers starve.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    started = await asyncio.to_thread(_started)
    monkeypatch.setenv("RAY_TEST_ADDRESS", started.address_info["gcs_address"])
    try:
        yield tmp_path / "state"
    finally:
        for name in (ROUTER, REPLAYS, LEDGER):
            await asyncio.to_thread(stop, name)
        await asyncio.to_thread(ray.shutdown)


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    """A PostgreSQL server for the whole session."""
    if programs() is None:
        absent("PostgreSQL", "postgresql")
    with postgres() as running:
        yield running


_numbers = count()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database for the ledger, of each kind that there is."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.sqlite"
    server: Postgres = request.getfixturevalue("server")
    return server.new_database(f"ledger{next(_numbers)}")
