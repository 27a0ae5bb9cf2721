"""Keys leave the environment, and are found again by whoever asks."""

from pathlib import Path

import pytest

from actors.credentials import FOLDER, credential, credentials, withdrawn

GIVEN = {
    "OPENAI_API_KEY": "sk-1",
    "GITHUB_TOKEN": " sk-2\n",
    "DB_PASSWORD": "sk-3",
    "PENSTOCK_LEDGER_URL": "postgresql://u:sk-4@h/d",
    "OF_MY_OWN": "sk-5",
    "AWS_SECRET_ACCESS_KEY": "sk-6",
    "PATH": "/bin",
    "RAY_AUTH_TOKEN": "ray's",
    "MONKEY": "business",
    "TOKENIZERS_PARALLELISM": "false",
    "BASH_FUNC_key%%": "() { :; }",
}


def test_what_is_secret_by_its_name_or_the_configuration_is_in_files_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "credentials"
    left = withdrawn(GIVEN, ["OF_MY_OWN", "PATH", "ABSENT"], folder)
    assert "sk-" not in str(left)
    assert {name for name in GIVEN if name in left} == {
        "PATH",
        "RAY_AUTH_TOKEN",
        "MONKEY",
        "TOKENIZERS_PARALLELISM",
        "BASH_FUNC_key%%",
    }
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    for name in GIVEN:
        monkeypatch.delenv(name, raising=False)
    assert credential("OPENAI_API_KEY") == ""
    monkeypatch.setenv(FOLDER, left[FOLDER])
    assert credential("OPENAI_API_KEY") == "sk-1"
    assert credential("GITHUB_TOKEN") == "sk-2"
    assert credential("OF_MY_OWN") == "sk-5"
    assert credential("ABSENT") == ""
    assert credential("../credentials/OPENAI_API_KEY") == ""
    assert credentials()["DB_PASSWORD"] == "sk-3"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-7")
    assert credential("OPENAI_API_KEY") == "sk-7"
