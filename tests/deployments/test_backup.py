"""A backup made while it runs, and restored, as `docs/upgrade.md` says: rows, keys and the administrator are there."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deployments.house import House, client_of, house
from tests.test_site import fence

CHAT = "/v1/chat/completions"
HELLO = {"model": "simulator/fast", "messages": [{"role": "user", "content": "Hello"}]}


def run(mark: str, state: Path, backup: Path) -> None:
    environment = {**os.environ, "PENSTOCK_STATE_DIR": str(state), "BACKUP": str(backup)}
    subprocess.run(["bash", "-euc", fence("upgrade.md", mark)], env=environment, check=True, stdin=subprocess.DEVNULL)


async def used(running: House, key: str) -> int:
    """How many requests the ledger has of the key that asks."""
    async with client_of(running.gateway, key) as client:
        answer = await client.get("/v1/requests", params={"limit": 100})
    assert answer.status_code == 200, answer.text
    return len(answer.json()["data"])


async def test_what_was_backed_up_is_there_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, backup, second = (tmp_path / name for name in ("first", "backup", "second"))
    first.mkdir(mode=0o700)
    async with house(first, monkeypatch) as running:
        async with client_of(running.gateway) as client:
            made = await client.post("/v1/keys", json={"name": "team"})
            assert made.status_code in (200, 201), made.text
            key = made.json()["secret"]
        async with client_of(running.gateway, key) as client:
            for _ in range(3):
                assert (await client.post(CHAT, json=HELLO)).status_code == 200
        run("backup", first, backup)
    shutil.rmtree(first)
    assert {path.name for path in backup.iterdir()} == {"ledger.sqlite", "keys.json"}
    assert backup.stat().st_mode & 0o077 == 0

    run("restore", second, backup)
    assert second.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in second.iterdir()} == {0o600}
    before = (second / "keys.json").read_text()
    async with house(second, monkeypatch) as running:
        assert (second / "keys.json").read_text() == before
        await running.until(lambda: running.gateway._watcher.hearing)
        assert await used(running, key) == 3
