"""The command line: keys, usage, requests, exports, providers and routes of a running Penstock, over its HTTP API.

    penstock usage --by model        python -m deployments.cli usage --by model

Above it: a person at a terminal, or a script (`--json`). Below it: httpx, typer, rich, `actors.administrator` (the key
file's name). Outside it: everything that the API does not say.
"""

import sys
from typing import Any

import typer

from deployments.cli.commands import app
from deployments.cli.tables import complain
from deployments.cli.talking import Failure

_WRONG_USAGE: Any = typer.BadParameter.__mro__[1]
"""What typer raises for wrong usage, of which it exports this child alone."""


def main() -> None:
    """Run a command. A failure is one red line and exit code 1; wrong usage is 2, as typer has it."""
    try:
        code = app(prog_name="penstock", standalone_mode=False)
    except Failure as failure:
        complain(str(failure))
        sys.exit(1)
    except (typer.Abort, KeyboardInterrupt):
        complain("stopped")
        sys.exit(130)
    except _WRONG_USAGE as error:
        # It is empty where the help has been shown in its place.
        if words := error.format_message().strip():
            complain(f"{words} (--help says more)")
        sys.exit(2)
    sys.exit(code if isinstance(code, int) else 0)
