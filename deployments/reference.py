"""The tables of the README that are made: the configuration, from the models in `config`, and the metrics.

`python -m deployments.reference` (`make docs`) writes each between its two markers of `README.md`, and the
configuration, with the README's variables of the environment, as a page of its own (`docs/configuration.md`).

Above it: the Makefile, tests that both are current. Below it: `config`. Outside it: all other words there.
"""

import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import annotated_types
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
from pipelines.metering.instruments import INSTRUMENTS

README = Path(__file__).resolve().parents[1] / "README.md"
PAGE = README.parent / "docs" / "configuration.md"

ENVIRONMENT = "### Environment\n"
"""The heading in the README of what the page has from there."""

INTRODUCTION = """# Every setting

Arguments (`args`) of the applications in `ray_config.yaml`. An unknown field is an error. What stands under "Gateway
and provider" both take. All other fields of the file are Ray Serve's. `make docs` makes this page of the code.

"""

BEGIN = "<!-- reference: begin (`make docs` writes what stands between the markers) -->"
END = "<!-- reference: end -->"

METRICS_BEGIN = "<!-- metrics: begin (`make docs` writes what stands between the markers) -->"
METRICS_END = "<!-- metrics: end -->"

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


def inserted(text: str) -> str:
    """`text` (the README) with the tables between their markers. ValueError where a marker is missing."""
    return _between(_between(text, METRICS_BEGIN, METRICS_END, metrics()), BEGIN, END, reference())


def _between(text: str, first: str, last: str, made: str) -> str:
    before, begin, rest = text.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end:
        raise ValueError("the README lacks a marker of the reference")
    return f"{before}{first}\n\n{made}\n{last}{after}"


def _table(heading: str, model: type[BaseModel]) -> Iterable[str]:
    yield f"#### {heading}\n"
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
    return f"{INTRODUCTION}{reference().replace('#### ', '## ')}\n## Environment\n\n{environment}\n"


def main() -> None:
    """Write the tables into the README, and the page."""
    README.write_text(inserted(README.read_text()))
    PAGE.write_text(page(README.read_text()))


if __name__ == "__main__":
    main()
