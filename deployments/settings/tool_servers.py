"""The part of the configuration that says which servers and services tools come from.

What is secret stands in variables, which are named; they must be in Ray's environment when Ray starts.

Above it: `tool_settings`. Below it: `policy_settings`, `actors.tools.tool_source`. Outside it: asking them.
"""

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from actors.tools.tool_source import SourceSpec
from deployments.settings.policy_settings import PolicySettings
from deployments.settings.setting import Settings

FETCH = "deployments.tools.fetching:fetch"
HTTP = "deployments.tools.mcp_http:connected"
"""What the sources are supplied with."""

ServerName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
"""A server's tools are called by its name, a dot, and their own."""


class OriginSettings(Settings):
    """What every origin of tools has."""

    policy: PolicySettings = Field(default_factory=PolicySettings, description="How its tools may be run.")
    policies: dict[str, PolicySettings] = Field(
        default_factory=dict,
        description="How single tools may be run, by the names that they have there (an operation's `operationId`); "
        "`GET /v1/tools` says which names no tool has.",
    )
    only: tuple[str, ...] = Field(
        (), description="The tools that are taken, by the names there; empty: all. No more than 1,000 can be taken."
    )

    @model_validator(mode="after")
    def _runs_elsewhere(self) -> Self:
        _elsewhere(self.policy, *self.policies.values())
        return self

    def plain(self) -> dict[str, Any]:
        """As a source takes it."""
        policy = {**_ELSEWHERE, **self.policy.value()}
        policies = {name: {**policy, **one.value()} for name, one in self.policies.items()}
        return {**self.model_dump(mode="json"), "policy": policy, "policies": policies}


_ELSEWHERE = {"contained": False, "network": True}
"""What runs is the server's own, outside of any executor's containment."""


def _elsewhere(*policies: PolicySettings) -> None:
    if any(set(policy.value()) & {"contained", "network", "memory"} for policy in policies):
        raise ValueError("contained, network and memory are for functions, which run here")


class McpServerSettings(OriginSettings):
    """An MCP server: a command that speaks over its standard input and output, or a URL."""

    command: tuple[str, ...] = Field((), description="The program and its arguments; without secrets.")
    env: dict[str, str] = Field(
        default_factory=dict, description="Its variables, each by the name of the variable that holds the value."
    )
    directory: str = Field("", description="Where it runs; empty: a directory of its own.")
    user: str = Field("", description="The user whose rights it has (only root can give them); empty: Penstock's own.")
    url: str = Field("", description="Its address, where it speaks streamable HTTP.")
    headers: dict[str, str] = Field(
        default_factory=dict, description="Headers of each request, each by the name of the variable with its value."
    )
    ca_file: Path | None = Field(None, description="PEM bundle of authorities to trust beside the usual ones.")

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        if bool(self.command) == bool(self.url):
            raise ValueError("an MCP server has either a command or a url")
        if self.url and (self.env or self.directory or self.user):
            raise ValueError("env, directory and user are for a command")
        if self.command and (self.headers or self.ca_file):
            raise ValueError("headers and ca_file are for a url")
        if "@" in self.url.partition("//")[2].partition("/")[0]:
            raise ValueError("a url has no password; name a variable in headers")
        return self

    def spec(self, name: str) -> SourceSpec:
        """As the registry takes it."""
        settings = {**self.plain(), "ca_file": str(self.ca_file or ""), "http": HTTP}
        return SourceSpec(kind="mcp", name=f"mcp:{name}", settings=settings)


class CredentialSettings(Settings):
    """How a service knows us."""

    kind: Literal["bearer", "basic", "header", "query"] = Field(description="Where the credential goes.")
    variable: str = Field(description="Variable that holds it; for `basic` it holds `user:password`.")
    name: str = Field("", description="Name of the header, or of the query's member.")

    @model_validator(mode="after")
    def _is_named(self) -> Self:
        if bool(self.name) != (self.kind in ("header", "query")):
            raise ValueError("a credential in a header or the query has a name, others have none")
        return self


class OpenApiSettings(OriginSettings):
    """A service that an OpenAPI document (3.0 or 3.1) describes; each operation is a tool."""

    document: str = Field(description="The document: a file or a URL; JSON (up to 32 MiB) or YAML (8 MiB).")
    base_url: str = Field(description="Where requests go, whatever the document says.")
    credentials: tuple[CredentialSettings, ...] = Field((), description="How the service knows us.")
    networks: tuple[str, ...] = Field((), description="Private networks (`10.1.0.0/16`) that it may be in.")

    @field_validator("networks")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        return _checked(networks)

    def spec(self, name: str) -> SourceSpec:
        """As the registry takes it."""
        return SourceSpec(kind="openapi", name=f"openapi:{name}", settings={**self.plain(), "fetch": FETCH})


class FetchSettings(Settings):
    """The tool `fetch_url`, for pages of the public Internet."""

    hosts: tuple[str, ...] = Field((), description="The only hosts (`*.name` for all below a name); empty: any.")
    ports: tuple[int, ...] = Field((80, 443), description="The only ports.")
    networks: tuple[str, ...] = Field((), description="Private networks that may be asked all the same.")
    most: int = Field(1_000_000, gt=0, description="Bytes of a page that are read.")
    policy: PolicySettings = Field(default_factory=PolicySettings, description="How it may be run.")

    @model_validator(mode="after")
    def _runs_elsewhere(self) -> Self:
        _elsewhere(self.policy)
        return self

    @field_validator("networks")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        return _checked(networks)

    def spec(self) -> SourceSpec:
        """As the registry takes it."""
        settings = {**self.model_dump(mode="json"), "policy": {**_ELSEWHERE, **self.policy.value()}, "fetch": FETCH}
        return SourceSpec(kind="fetch", name="fetch", settings=settings)


def _checked(networks: tuple[str, ...]) -> tuple[str, ...]:
    for network in networks:
        ip_network(network)
    return networks
