"""A name for the code that an actor runs, so that it is replaced when that has changed.

Above it: the actors. Below it: files.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

_EVERY_ACTORS = Path(__file__).parent


def version_of(files: Iterable[Path]) -> str:
    """The hash of files, names and all, as 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def code_of(room: str, *packages: ModuleType) -> str:
    """The version of an actor's code: what lies beside its module, whose `__file__` is `room`; what every actor may
    import of this floor; and packages of the floor below, with what they contain.

    More than the actor runs: one that is replaced in vain costs a second, one that is not is a riddle.
    """
    folders = [Path(room).resolve().parent, *(Path(package.__path__[0]) for package in packages)]
    inside = (path for folder in folders for path in folder.rglob("*") if path.suffix in (".py", ".bin"))
    return version_of(sorted({*inside, *_EVERY_ACTORS.glob("*.py")}))
