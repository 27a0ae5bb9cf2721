"""A small file of the state directory that is written whole or not at all, and checked when it is read.

The file holds the CRC-32 of what follows (4 bytes, big endian), and then that; mode 600.

Above it: `meters`. Below it: files. Outside it: what the bytes mean; all of it blocks.
"""

import logging
import os
import secrets
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

ASIDE = ".corrupt"
"""What a file that cannot be understood is renamed with, for a person to look at."""

_log = logging.getLogger("penstock.router")
_Value = TypeVar("_Value")


class CheckedFile:
    """The file `name` in `directory`. what: begins anew where the file is lost, for the log."""

    def __init__(self, directory: str | Path, name: str, what: str) -> None:
        self._file = Path(directory) / name
        self._what = what

    def read(self, decode: Callable[[bytes], _Value]) -> _Value | None:
        """What was written last; None where there is no file, or none that can be understood.

        decode raises msgspec.DecodeError for what is corrupt; such a file is put aside.
        """
        try:
            data = self._file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.error("%s cannot be read, %s begins anew: %s", self._file, self._what, error.strerror)
            return None
        try:
            return decode(_checked(data))
        except msgspec.DecodeError as error:
            _log.error("%s is corrupt, it is put aside and %s begins anew: %s", self._file, self._what, error)
            self._file.replace(self._file.with_name(self._file.name + ASIDE))
            return None

    def write(self, data: bytes) -> None:
        """Put it in the file's place. Raises OSError where that fails; the old file is there then."""
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._file.with_name(f".{self._file.name}.{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as output:
                output.write(zlib.crc32(data).to_bytes(4, "big") + data)
                output.flush()
                os.fsync(output.fileno())
            draft.replace(self._file)
        except OSError:
            draft.unlink(missing_ok=True)
            raise


def _checked(data: bytes) -> bytes:
    if zlib.crc32(data[4:]) != int.from_bytes(data[:4], "big"):
        raise msgspec.DecodeError("its checksum is wrong")
    return data[4:]
