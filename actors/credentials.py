"""Keys and passwords that come in environment variables, kept out of the environment of Ray's processes.

Whoever runs as the same user reads `/proc/<id>/environ` of every process, and whatever Ray starts inherits what it was
started with. So the launcher puts each such variable into a file of the run directory (mode 600, gone when the run
ends), and whoever needs one asks here. Where Penstock is started otherwise the variables are where they were.

Above it: `deployments.starting.instance`, which withdraws them, and all who read one. Below it: files.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

FOLDER = "PENSTOCK_CREDENTIALS"
"""Variable that says where the files are."""

_TELLING = re.compile(
    r"(?:^|_)(?:APIKEY|KEYS?|TOKENS?|SECRETS?|PASSWORD|PASSWD|CREDENTIALS?)(?:_|$)|^PENSTOCK_LEDGER_URL$"
)
_NEEDED = re.compile(r"^(?:RAY|PYTHON|LC|XDG|SSL|OTEL)_|^(?:PATH|HOME|USER|LANG|TZ|TMPDIR|PWD|SHELL|TERM)$|^" + FOLDER)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def credential(name: str) -> str:
    """What the variable of that name holds, wherever it is; "" where there is none. Without spaces round it."""
    given = os.environ.get(name, "").strip()
    folder = os.environ.get(FOLDER, "")
    if given or not folder or not _NAME.fullmatch(name):
        return given
    try:
        return (Path(folder) / name).read_text().strip()
    except OSError:
        return ""


def credentials() -> dict[str, str]:
    """Every variable, wherever it is."""
    folder = os.environ.get(FOLDER, "")
    names = os.listdir(folder) if folder and os.path.isdir(folder) else []
    return {**os.environ, **{name: credential(name) for name in names}}


def withdrawn(environment: Mapping[str, str], named: Iterable[str], folder: Path) -> dict[str, str]:
    """The environment without what is a credential by its name, or is `named` by the configuration.

    They are written into `folder`, made with mode 700, to which FOLDER in what is returned leads.
    """
    wanted = set(named)
    folder.mkdir(mode=0o700, exist_ok=True)
    left = {FOLDER: str(folder)}
    for name, value in environment.items():
        if _NEEDED.search(name) or not (_TELLING.search(name) or name in wanted) or not _NAME.fullmatch(name):
            left[name] = value
            continue
        file = os.open(folder / name, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
        with os.fdopen(file, "w") as output:
            output.write(value)
    return left
