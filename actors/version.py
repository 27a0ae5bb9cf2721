"""A name for the code that an actor runs, so that it is replaced when that has changed.

Above it: `router`, `replays`. Below it: files.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

_BESIDE = Path(__file__).with_name("pulse.py")
"""What every actor runs beside its own."""


def version_of(files: Iterable[Path]) -> str:
    """The hash of source files, names and all, as 16 hexadecimal digits; what every actor runs is among them."""
    digest = hashlib.sha256()
    for file in (*files, _BESIDE):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
