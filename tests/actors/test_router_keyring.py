import json
import os
import stat
from pathlib import Path

import pytest

from actors.keyring import KEYS_FILE, SECRET_FILE, Keyring
from pipelines.errors import ConfigurationError
from pipelines.routing.table import CallerKey

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
