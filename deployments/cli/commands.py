"""The root of the command line: what of it stands in other modules, the two commands about routing, and the import.

Above it: `deployments.cli`. Below it: `key_commands`, `usage_commands`, `talking`, `tables`.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from deployments.cli import key_commands, usage_commands
from deployments.cli.options import AsJson
from deployments.cli.tables import Column, console, facts, money, note, number, raw, seconds, table
from deployments.cli.talking import Failure, ask
from pipelines.errors import PenstockError
from pipelines.version import VERSION

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Keys, usage, requests and routes of a running Penstock. It is found by PENSTOCK_URL "
    "(http://127.0.0.1:8000 unless set) and asked with PENSTOCK_API_KEY, or the key in the state directory.",
)
app.add_typer(key_commands.app, name="keys")
app.add_typer(usage_commands.requests, name="requests")
app.command("usage")(usage_commands.usage)
app.command("export")(usage_commands.export)


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    """What stands before every command."""
    if version:
        sys.stdout.write(f"penstock {VERSION}\n")
        raise typer.Exit


@app.command()
def providers(as_json: AsJson = False) -> None:
    """Providers: their state, and what was measured of their models."""
    answer = ask("GET", "/v1/providers")
    if as_json:
        raw(answer)
        return
    columns = (
        Column("PROVIDER"),
        Column("STATE"),
        Column("REPLICAS", right=True),
        Column("MODELS", right=True),
        Column("FIRST OUTPUT", right=True, wide=True),
        Column("ERRORS", right=True, wide=True),
        Column("WHY", fold=True),
    )
    table(columns, [_provider(entry) for entry in answer["data"]])


@app.command()
def route(
    model: Annotated[str, typer.Argument(help="`auto`, an alias, a model or `provider/model`.")],
    prompt: Annotated[str, typer.Argument(help="What would be asked.")] = "Hello",
    as_json: AsJson = False,
) -> None:
    """Explain which models a request would go to, and why. Nobody is asked."""
    answer = ask("POST", "/v1/route", {"model": model, "messages": [{"role": "user", "content": prompt}]})
    if as_json:
        raw(answer)
        return
    facts(
        [
            ("wanted", ", ".join(answer["wanted"])),
            ("task", f"{answer['task']}, difficulty {answer['difficulty']:.2f}"),
            ("policy", answer["policy"]),
        ]
    )
    console().print()
    columns = (
        Column("", right=True),
        Column("MODEL"),
        Column("SCORE", right=True),
        Column("QUALITY", right=True),
        Column("COST", right=True),
        Column("TIME", right=True),
        Column("BEYOND"),
        Column("TERMS", wide=True, fold=True),
    )
    table(columns, [_candidate(place, one) for place, one in enumerate(answer["candidates"], 1)])
    if answer["excluded"]:
        console().print()
        table((Column("NOT ASKED"), Column("WHY", fold=True)), sorted(answer["excluded"].items()))


@app.command("import-litellm")
def import_litellm(
    file: Annotated[Path, typer.Argument(help="A LiteLLM proxy's configuration (YAML).", exists=True, dir_okay=False)],
) -> None:
    """Write a LiteLLM proxy's configuration as one for `serve run`, and say what could not be carried over."""
    from deployments.litellm_import import imported

    try:
        found = imported(yaml.safe_load(file.read_text(encoding="utf-8-sig")) or {})
    except (yaml.YAMLError, PenstockError) as error:
        raise Failure(f"{file}: {error}") from None
    except UnicodeDecodeError:
        raise Failure(f"{file}: no text in UTF-8") from None
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}") from None
    sys.stdout.write(yaml.safe_dump(found.configuration, sort_keys=False, allow_unicode=True))
    for sentence in found.notes:
        note(sentence)


def _provider(entry: dict[str, Any]) -> list[str]:
    # A key without the right `usage` hears the name, the state and its models.
    measured = [one for one in entry.get("performance", {}).values() if one.get("attempts")]
    first = [one["first_output"] for one in measured if one.get("first_output") is not None]
    attempts = sum(one["attempts"] for one in measured)
    failed = sum(one.get("error_rate", 0.0) * one["attempts"] for one in measured)
    return [
        entry["name"],
        entry["state"],
        number(entry.get("replicas")),
        number(len(entry["models"])),
        seconds(min(first)) if first else "",
        f"{failed / attempts:.1%}" if attempts else "",
        entry.get("why", ""),
    ]


def _candidate(place: int, one: dict[str, Any]) -> list[str]:
    terms = ", ".join(f"{name} {value:.3g}" for name, value in (one["terms"] or {}).items())
    beyond = one.get("beyond", "")
    return [
        str(place),
        one["model"],
        "" if one["score"] is None else f"{one['score']:.3f}",
        "" if one["quality"] is None else f"{one['quality']:.2f}",
        "" if one["dollars"] is None else money(one["dollars"]),
        seconds(one["seconds"]),
        beyond if isinstance(beyond, str) else ", ".join(beyond),
        terms,
    ]
