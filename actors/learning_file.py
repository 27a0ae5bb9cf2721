"""What was learned, in a file of the state directory: written whole or not at all, and read again at a start.

    learning.bin    the CRC-32 of what follows (4 bytes, big endian), an encoded `Learning`; mode 600

Above it: `learner`. Below it: `pipelines.routing.learning.state`, files. Outside it: when; all of it blocks.
"""

import logging
import os
import secrets
import zlib
from pathlib import Path

import msgspec

from pipelines.routing.learning.state import Learning, decode, encode

FILE = "learning.bin"

ASIDE = ".corrupt"
"""What a file that cannot be understood is renamed with, for a person to look at."""

_log = logging.getLogger("penstock.router")


class LearningFile:
    """Reads and writes the file in `directory`."""

    def __init__(self, directory: str | Path) -> None:
        self._file = Path(directory) / FILE

    def read(self, width: int) -> Learning:
        """What was written last; nothing at all where there is no file, or none that can be understood.

        width: features of a vector. A corrupt file is put aside.
        """
        try:
            data = self._file.read_bytes()
        except FileNotFoundError:
            return Learning(width)
        except OSError as error:
            _log.error("%s cannot be read, learning begins anew: %s", self._file, error.strerror)
            return Learning(width)
        try:
            return decode(_checked(data), width)
        except msgspec.DecodeError as error:
            _log.error("%s is corrupt, it is put aside and learning begins anew: %s", self._file, error)
            self._file.replace(self._file.with_name(FILE + ASIDE))
            return Learning(width)

    def write(self, learning: Learning) -> None:
        """Put it in the file's place. Raises OSError where that fails; the old file is there then."""
        data = encode(learning)
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._file.with_name(f".{FILE}.{secrets.token_hex(4)}")
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
