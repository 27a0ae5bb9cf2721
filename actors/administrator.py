"""The administrator's key: made once, kept in the state directory, known to the cluster by its hash alone.

Whoever starts the cluster makes it: `make serve`, or the router actor itself where `serve run` was called by hand.

Above it: `directory`, `deployments.launch`. Below it: `keyring`'s file names, `pipelines.errors`, files.
"""

import hashlib
import json
import os
import secrets
from pathlib import Path

from actors.keyring import KEYS_FILE
from pipelines.errors import ConfigurationError

KEY_FILE = "administrator.key"


def ensure_keys(state: Path) -> Path | None:
    """Make an administrator's key if the cluster has no keys at all; returns the file that holds it if so.

    `PENSTOCK_API_KEY` of this process is the key where it is set.
    """
    if (state / KEYS_FILE).exists():
        return None
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_keys(state, administrator_key(state, os.environ.get("PENSTOCK_API_KEY", "")))
    return state / KEY_FILE


def write_private(file: Path, text: str) -> None:
    """Write `text` to `file` with mode 600; a reader sees the old text or the new, never a part."""
    draft = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(text)
    draft.replace(file)


def administrator_key(state: Path, given: str) -> str:
    """The administrator's key: the one `given`, else the one kept in `state`, else a new one, which is kept."""
    if given:
        return given
    file = state / KEY_FILE
    kept = file.read_text().strip() if file.exists() else ""
    key = kept or f"psk-{secrets.token_urlsafe(32)}"
    if kept:
        file.chmod(0o600)
    else:
        write_private(file, key + "\n")
    return key


def write_keys(state: Path, key: str) -> None:
    """Put the administrator's `key`, hashed (SHA-256, hex), into `keys.json`; other entries stay.

    Raises ConfigurationError if the file is there and is no list of keys.
    """
    file = state / KEYS_FILE
    try:
        entries = json.loads(file.read_text()) if file.exists() else []
        others = [entry for entry in entries if entry["id"] != "administrator"]
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigurationError(f"{file} is no list of keys: mend it or take it away") from error
    digest = hashlib.sha256(key.encode()).hexdigest()
    own = {"id": "administrator", "name": "administrator", "hash": digest, "admin": True}
    write_private(file, json.dumps([own, *others], indent=2) + "\n")
