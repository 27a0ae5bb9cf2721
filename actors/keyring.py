"""The cluster's secret and the callers' keys, in two files of the state directory.

    cluster.secret   32 random bytes, URL-safe; made here once, with mode 600
    keys.json        [{"id", "name", "hash", "admin", …}] (`CallerKey`); hash is the SHA-256 of the key, in
                     hexadecimal; written by the launcher, with mode 600

A file that another user of the machine could read is refused: whoever holds the secret may ask every provider.

Above it: `router`. Below it: `pipelines.routing.table`, `pipelines.errors`, files.
"""

import os
import re
import secrets
import stat
from pathlib import Path

import msgspec

from pipelines.errors import ConfigurationError
from pipelines.routing.table import CallerKey

SECRET_FILE = "cluster.secret"
KEYS_FILE = "keys.json"

_VALUE = re.compile(r"'.*'")
"""msgspec quotes a value that it does not take, and what should not be in the file may be just that value."""

_Stamp = tuple[int, int, int]


class Keyring:
    """Reads, and for the secret makes, what the cluster shares. `directory` is made with mode 700 if need be."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self._keys: tuple[CallerKey, ...] = ()
        self._stamp: _Stamp | None = None

    def secret(self) -> str:
        """The cluster's secret; the first caller makes it.

        It appears whole under its name or not at all: written to a file of its own (O_EXCL), then linked, and of
        several makers the first link stays. Raises ConfigurationError for a file that others can read, that is
        empty, or that cannot be made.
        """
        file = self.directory / SECRET_FILE
        try:
            if not file.exists():
                self._make(file)
            _refuse_readable(file)
            secret = file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{file} cannot be read or made: {_words(error)}") from None
        if not secret:
            raise ConfigurationError(f"{file} is empty: delete it, a new one is made at the next start")
        return secret

    def keys(self) -> tuple[CallerKey, ...]:
        """The callers' keys; the file is read again only when it has changed. No file: no keys.

        Raises ConfigurationError for a file that others can read or that is not as described above; the message
        shows nothing of what is in it.
        """
        file = self.directory / KEYS_FILE
        try:
            status = file.stat()
        except FileNotFoundError:
            self._keys, self._stamp = (), None
            return ()
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        if stamp != self._stamp:
            _refuse_readable(file)
            try:
                self._keys = tuple(msgspec.json.decode(file.read_bytes(), type=list[CallerKey]))
            except (OSError, msgspec.MsgspecError) as error:
                raise ConfigurationError(f"{file} cannot be read: {_words(error)}") from None
            self._stamp = stamp
        return self._keys

    def _make(self, file: Path) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
        handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="ascii") as output:
                output.write(secrets.token_urlsafe(32) + "\n")
                output.flush()
                os.fsync(output.fileno())
            try:
                os.link(draft, file)
            except FileExistsError:
                return
        finally:
            draft.unlink()


def _refuse_readable(file: Path) -> None:
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077:
        raise ConfigurationError(f"{file} can be read by others (mode {mode:o}): run chmod 600 {file}")


def _words(error: Exception) -> str:
    """What went wrong, without any of the file's content."""
    if isinstance(error, OSError):
        return error.strerror or "input/output error"
    return "it is not ASCII text" if isinstance(error, UnicodeError) else _VALUE.sub("…", str(error))[:200]
