"""Options that several commands have.

Above it: the commands. Below it: typer.
"""

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="The API's own answer, for scripts.")]

Since = Annotated[str | None, typer.Option(help="From then on: 2026-11-22, 2026-11-22T10:00:00Z, 30d, 12h.")]
Until = Annotated[str | None, typer.Option(help="Up to then, likewise; now unless given.")]
OfKey = Annotated[str | None, typer.Option("--key", help="Of this key only, by its id.")]
Tag = Annotated[str | None, typer.Option(help="With this tag only.")]
Model = Annotated[str | None, typer.Option(help="Of this model only.")]
Provider = Annotated[str | None, typer.Option(help="Of this provider only.")]
Task = Annotated[str | None, typer.Option(help="Of this task only.")]
Outcome = Annotated[str | None, typer.Option(help="That ended so: ok, cancelled, lost, timeout, …")]
