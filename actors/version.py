"""A name for the code that an actor runs, so that it is replaced when that has changed.

Above it: `router`, `replays`. Below it: files.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path


def version_of(files: Iterable[Path]) -> str:
    """The hash of source files, names and all, as 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
