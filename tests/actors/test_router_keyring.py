import json
import os
import stat
from pathlib import Path

import msgspec
import pytest

from actors.keyring import KEYS_FILE, SECRET_FILE, Keyring
from actors.routing.router import Router
from pipelines.errors import ConfigurationError
from pipelines.routing.table import CallerKey, Welcome
from tests.actors.virtual_time import run

ENTRY = {"id": "k1", "name": "somebody", "hash": "ab" * 32, "admin": True}


def write_keys(directory: Path, text: str, mode: int = 0o600) -> Path:
    file = directory / KEYS_FILE
    file.write_text(text)
    file.chmod(mode)
    return file


def test_the_secret_is_made_once_with_mode_600(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    secret = Keyring(directory).secret()
    file = directory / SECRET_FILE
    assert len(secret) >= 43
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert Keyring(directory).secret() == secret
    assert os.listdir(directory) == [SECRET_FILE]


def test_of_two_makers_the_first_one_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda self: False)
    first = Keyring(tmp_path).secret()
    assert Keyring(tmp_path).secret() == first
    assert os.listdir(tmp_path) == [SECRET_FILE]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_secret_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    secret = Keyring(tmp_path).secret()
    (tmp_path / SECRET_FILE).chmod(mode)
    with pytest.raises(ConfigurationError, match="chmod 600") as caught:
        Keyring(tmp_path).secret()
    assert secret not in caught.value.message


def test_an_empty_secret_is_refused(tmp_path: Path) -> None:
    Keyring(tmp_path).secret()
    (tmp_path / SECRET_FILE).write_text("\n")
    with pytest.raises(ConfigurationError, match="empty"):
        Keyring(tmp_path).secret()


def test_keys_are_read_and_read_again_when_they_change(tmp_path: Path) -> None:
    keyring = Keyring(tmp_path)
    assert keyring.keys() == ()
    file = write_keys(tmp_path, json.dumps([ENTRY]))
    assert keyring.keys() == (CallerKey("k1", "somebody", "ab" * 32, True),)
    write_keys(tmp_path, json.dumps([ENTRY, {**ENTRY, "id": "k2", "admin": False}]))
    changed = keyring.keys()
    assert [key.id for key in changed] == ["k1", "k2"]
    file.unlink()
    assert keyring.keys() == ()


def test_keys_that_others_can_read_are_refused(tmp_path: Path) -> None:
    write_keys(tmp_path, json.dumps([ENTRY]), 0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        Keyring(tmp_path).keys()


@pytest.mark.parametrize("text", ["", "{", "{}", '[{"id": "k"}]', '["abababab"]'])
def test_a_broken_file_of_keys_is_refused_without_showing_it(tmp_path: Path, text: str) -> None:
    write_keys(tmp_path, text)
    with pytest.raises(ConfigurationError, match=KEYS_FILE) as caught:
        Keyring(tmp_path).keys()
    assert "abab" not in caught.value.message


def test_a_key_carries_its_holders_wishes(tmp_path: Path) -> None:
    write_keys(tmp_path, json.dumps([{**ENTRY, "priority": -100, "recovery": "continue", "keep_alive": 1}]))
    (key,) = Keyring(tmp_path).keys()
    assert (key.priority, key.recovery, key.keep_alive) == (-100, "continue", 1.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("priority", 101),
        ("priority", -101),
        ("priority", 1.5),
        ("priority", "high"),
        ("keep_alive", 0.5),
        ("keep_alive", -1),
        ("keep_alive", None),
        ("recovery", "psk-in-the-wrong-place"),
        ("admin", "yes"),
    ],
)
def test_a_bad_value_is_named_and_the_old_keys_stay(tmp_path: Path, field: str, value: object) -> None:
    keyring = Keyring(tmp_path)
    write_keys(tmp_path, json.dumps([ENTRY]))
    good = keyring.keys()
    write_keys(tmp_path, json.dumps([ENTRY, {**ENTRY, field: value}]))
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=field) as caught:
            keyring.keys()
        assert "psk-in" not in caught.value.message
    write_keys(tmp_path, json.dumps([ENTRY]))
    assert keyring.keys() == good


def test_the_router_goes_on_with_the_old_keys(tmp_path: Path) -> None:
    async def keys(router: Router) -> tuple[CallerKey, ...]:
        return msgspec.msgpack.decode(await router.greet("g1"), type=Welcome).keys

    async def scene() -> None:
        router = Router(str(tmp_path))
        write_keys(tmp_path, json.dumps([ENTRY]))
        before = await keys(router)
        write_keys(tmp_path, json.dumps([{**ENTRY, "id": "other", "priority": 1000}]))
        assert await keys(router) == before
        write_keys(tmp_path, json.dumps([{**ENTRY, "id": "other", "priority": 10}]))
        assert [(key.id, key.priority) for key in await keys(router)] == [("other", 10)]

    run(scene())
