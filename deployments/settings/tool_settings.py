"""The part of the gateway's configuration that says which tools Penstock runs.

Above it: `config`. Below it: `actors.tools.tool_source`, `actors.tools.function_finding`. Outside it: what the tools
do.
"""

from typing import Self

from pydantic import Field, model_validator

from actors.tools.function_finding import code_of, offered
from actors.tools.tool_source import SourceSpec
from deployments.settings.loop_settings import LoopSettings
from deployments.settings.policy_settings import PolicySettings
from deployments.settings.setting import Settings
from deployments.settings.tool_servers import FetchSettings, McpServerSettings, OpenApiSettings, ServerName
from pipelines.conversation import Json
from pipelines.errors import ConfigurationError


class ToolSettings(Settings):
    """Tools that Penstock runs itself; none where nothing is named."""

    functions: tuple[str, ...] = Field(
        (), description="Python functions made with `@tool`: `module` for all of a module, `module:function` for one."
    )
    packages: tuple[str, ...] = Field(
        (), description="Installed packages whose entry points (`penstock.tools`) are tools here; `*` for all."
    )
    users: tuple[int, int] = Field(
        (61184, 65519), description="First and last number of the users that contained calls run as."
    )
    same_user: tuple[str, ...] = Field(
        (),
        description="Tools that may run as Penstock's own user where no other can be had; elsewhere it says nothing.",
    )
    environment: tuple[str, ...] = Field(
        (), description="Variables of Penstock's environment that functions are given; of the others they see none."
    )
    policies: dict[str, PolicySettings] = Field(
        default_factory=dict, description="How functions may be run, by their names, over what their code says."
    )
    mcp: dict[ServerName, McpServerSettings] = Field(
        default_factory=dict, description="MCP servers; the tools of `git` are `git.…`."
    )
    openapi: dict[ServerName, OpenApiSettings] = Field(
        default_factory=dict, description="Services with an OpenAPI document; the operations of `shop` are `shop.…`."
    )
    fetch: FetchSettings | None = Field(None, description="The tool `fetch_url`; none where absent.")
    loop: LoopSettings = Field(default_factory=LoopSettings, description="How far a request that runs tools may go.")

    @model_validator(mode="after")
    def _has_users(self) -> Self:
        if not 0 < self.users[0] <= self.users[1]:
            raise ValueError("users are two numbers, the lower one first, and neither is root's")
        return self

    def sources(self) -> tuple[SourceSpec, ...]:
        """As the registry takes them. Raises ConfigurationError for a package that offers no tools."""
        specs = [self._functions("python", self.functions)] if self.functions else []
        if self.packages:
            found = offered()
            missing = sorted(set(self.packages) - set(found) - {"*"})
            if missing:
                raise ConfigurationError(f"the package {missing[0]} is not installed, or offers no tools")
            wanted = found if "*" in self.packages else {name: found[name] for name in self.packages}
            specs += [self._functions(f"package:{name}", names) for name, names in sorted(wanted.items())]
        specs += [server.spec(name) for name, server in sorted(self.mcp.items())]
        specs += [service.spec(name) for name, service in sorted(self.openapi.items())]
        specs += [self.fetch.spec()] if self.fetch else []
        return tuple(specs)

    def _functions(self, name: str, functions: tuple[str, ...]) -> SourceSpec:
        settings: dict[str, Json] = {
            "functions": list(functions),
            "code": code_of(functions),
            "users": list(self.users),
            "same_user": list(self.same_user),
            "environment": list(self.environment),
            "policies": {name: policy.value() for name, policy in self.policies.items()},
        }
        return SourceSpec(kind="functions", name=name, settings=settings)
