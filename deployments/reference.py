"""What of the README and of `docs` is made of the code: tables, and the README's contents.

`python -m deployments.reference` (`make docs`) writes each between its two markers: contents and metrics in
`README.md`, errors in `docs/errors.md`, the fields of the request log in `docs/logs.md`. The configuration, from the
models in `config`, is a page of its own (`docs/configuration.md`), with the README's variables of the environment.

Above it: the Makefile, tests that all of it is current. Below it: `config`, `error_reference`, `request_log`. Outside
it: all other words there.
"""

import re
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import annotated_types
import msgspec
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from deployments.config import (
    AliasSettings,
    GatewaySettings,
    KeySettings,
    LedgerSettings,
    ListenSettings,
    ModelSettings,
    ModelTimeoutSettings,
    ObservabilitySettings,
    ProviderSettings,
    ReplicaSettings,
    RetrySettings,
    TimeoutSettings,
    TrialSettings,
)
from deployments.error_reference import own_errors, refusals
from deployments.error_reference import types as error_types
from deployments.settings.guardrail_settings import GuardrailSettings
from deployments.settings.loop_settings import LoopSettings
from deployments.settings.money_settings import PriceSettings, RetentionSettings
from deployments.settings.policy_settings import GuardSettings, PolicySettings
from deployments.settings.scaling_settings import AutoscalingSettings
from deployments.settings.tool_servers import (
    CredentialSettings,
    FetchSettings,
    McpServerSettings,
    OpenApiSettings,
    OriginSettings,
)
from deployments.settings.tool_settings import ToolSettings
from deployments.telemetry.metrics import GAUGES
from deployments.telemetry.request_log import Line
from pipelines.metering.instruments import INSTRUMENTS

README = Path(__file__).resolve().parents[1] / "README.md"
PAGE = README.parent / "docs" / "configuration.md"
ERRORS = README.parent / "docs" / "errors.md"
LOGS = README.parent / "docs" / "logs.md"

ENVIRONMENT = "### Environment\n"
"""The heading in the README of what the page has from there."""

INTRODUCTION = """# Every setting

Arguments (`args`) of the applications in `ray_config.yaml`. An unknown field is an error. What stands under "Gateway
and provider" both take. All other fields of the file are Ray Serve's. `make docs` makes this page of the code.

"""

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^(##|###) (.+)$", re.MULTILINE)

SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("Gateway", GatewaySettings),
    ("Provider", ProviderSettings),
    ("Gateway and provider", ReplicaSettings),
    ("`autoscaling`", AutoscalingSettings),
    ("`tools`", ToolSettings),
    ("`loop`", LoopSettings),
    ("`policies`", PolicySettings),
    ("`guards`", GuardSettings),
    ("`mcp`", McpServerSettings),
    ("`openapi`", OpenApiSettings),
    ("`mcp` and `openapi`", OriginSettings),
    ("`credentials`", CredentialSettings),
    ("`fetch`", FetchSettings),
    ("`aliases`", AliasSettings),
    ("`trials`", TrialSettings),
    ("`ledger`", LedgerSettings),
    ("`observability`", ObservabilitySettings),
    ("`retention`", RetentionSettings),
    ("`prices`", PriceSettings),
    ("`guardrails`", GuardrailSettings),
    ("`listen`", ListenSettings),
    ("`keys`", KeySettings),
    ("`models`", ModelSettings),
    ("`timeouts`", TimeoutSettings),
    ("`timeouts` of a model", ModelTimeoutSettings),
    ("`retry`", RetrySettings),
)
"""The heading of each model's table, in order. A field that a model inherits stands in its parent's table."""

_WORDS = {str: "string", int: "integer", float: "number", bool: "boolean", Path: "path", type(None): "null"}
_SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


def reference() -> str:
    """Every table, as Markdown."""
    return "\n".join("\n".join(_table(heading, model)) for heading, model in SECTIONS)


def metrics() -> str:
    """Every metric with its labels, as Markdown."""
    rows = [(one, ", ".join(f"`{label}`" for label in one.labels)) for one in (*INSTRUMENTS, *GAUGES)]
    lines = [f"| `{one.name}` | {labels or '–'} | {one.help} |" for one, labels in rows]
    return "\n".join(["| metric | labels | meaning |", "|---|---|---|", *lines, ""])


def log_fields() -> str:
    """Every field of a line of the request log, as Markdown."""
    hints = typing.get_type_hints(Line, include_extras=True)
    lines = ["| field | in every line | meaning |", "|---|---|---|"]
    for field in msgspec.structs.fields(Line):
        (told,) = (one for one in hints[field.name].__metadata__ if isinstance(one, msgspec.Meta))
        lines.append(f"| `{field.name}` | {'yes' if field.required else ''} | {told.description} |")
    return "\n".join([*lines, ""])


def contents(text: str) -> str:
    """The README's headings as a list of links, those of a section in its line."""
    sections: list[list[str]] = []
    for level, title in _HEADING.findall(_FENCE.sub("", text)):
        link = f"[{title}](#{anchor(title)})"
        if level == "##":
            sections.append([link])
        else:
            sections[-1].append(link)
    lines = [f"- {first}{': ' if below else ''}{', '.join(below)}" for first, *below in sections]
    return "\n".join([*lines, ""])


def anchor(title: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def inserted(text: str, **made: str) -> str:
    """A page with what is made, each between the markers of its name. ValueError where a marker is missing."""
    for name, table in made.items():
        first = f"<!-- {name}: begin (`make docs` writes what stands between the markers) -->"
        last = f"<!-- {name}: end -->"
        before, begin, rest = text.partition(first)
        _, end, after = rest.partition(last)
        if not begin or not end:
            raise ValueError(f"there is no marker of the {name}")
        text = f"{before}{first}\n\n{table}\n{last}{after}"
    return text


def written() -> dict[Path, str]:
    """Every file that holds something made, as it should be."""
    readme = README.read_text()
    readme = inserted(readme, contents=contents(readme), metrics=metrics())
    return {
        README: readme,
        PAGE: page(readme),
        ERRORS: inserted(ERRORS.read_text(), own=own_errors(), refusals=refusals(), types=error_types()),
        LOGS: inserted(LOGS.read_text(), fields=log_fields()),
    }


def _table(heading: str, model: type[BaseModel]) -> Iterable[str]:
    yield f"## {heading}\n"
    yield "| field | type | default | meaning |"
    yield "|---|---|---|---|"
    for name, field in model.model_fields.items():
        if name in model.__annotations__:
            yield f"| `{name}` | {_kind(field)} | {_default(field)} | {_meaning(field)} |"
    yield ""


def _kind(field: FieldInfo) -> str:
    bounds = [
        f"{sign} {getattr(bound, word):g}"
        for bound in field.metadata
        if isinstance(bound, annotated_types.BaseMetadata)
        for word, sign in _SIGNS.items()
        if hasattr(bound, word)
    ]
    return " ".join([_name(field.annotation), ", ".join(bounds)]).strip()


def _name(kind: Any) -> str:
    """A type in words."""
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return ", ".join(f"`{value}`" if value else '`""`' for value in inside)
    if origin is typing.Annotated:
        return _name(inside[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_name, inside))
    if origin is tuple:
        return f"list of {_name(inside[0])}"
    if origin is dict:
        return f"map of {_name(inside[0])} to {_name(inside[1])}"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return next(heading for heading, model in SECTIONS if model is kind)
    return _WORDS[kind]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "see there"
    if value is None or value in ("", (), {}):
        return "–"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _meaning(field: FieldInfo) -> str:
    if field.description:
        return field.description
    return str(field.annotation.__doc__).partition("\n")[0]


def page(readme: str) -> str:
    """The page of the configuration. readme: the README's text. ValueError where it has no variables."""
    _, found, rest = readme.partition(ENVIRONMENT)
    if not found:
        raise ValueError("the README lacks its section on the environment")
    environment = rest.partition("\n#")[0].strip()
    environment = re.sub(r"\[([^\]]+)\]\(#[^)]*\)", r'"\1" of the README', environment)
    return f"{INTRODUCTION}{reference()}\n## Environment\n\n{environment}\n"


def main() -> None:
    """Write all of it."""
    for file, text in written().items():
        file.write_text(text)


if __name__ == "__main__":
    main()
