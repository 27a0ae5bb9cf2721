"""How tools may be run, as an operator writes it: what is left out stays as the tool itself has it.

Above it: `tool_settings`. Below it: `setting`. Outside it: what the values do (`pipelines.tools.catalogue.ToolPolicy`).
"""

from typing import Literal

from pydantic import Field

from deployments.settings.setting import Settings
from pipelines.conversation import Json


class GuardSettings(Settings):
    """What one argument must keep to, whatever the tool's schema says."""

    argument: str = Field(description="Its name; dots go into objects.")
    kind: Literal["path", "url"] = Field(
        description="A path inside `roots`, or a URL with no private, loopback, link-local or metadata address."
    )
    roots: tuple[str, ...] = Field((), description="Directories; relative paths start at the first.")
    hosts: tuple[str, ...] = Field((), description="The only hosts, where any are named.")


class PolicySettings(Settings):
    """How a tool may be run; what is left out is as the tool has it."""

    sequential: bool | None = Field(None, description="Never beside another call of its turn.")
    requires_approval: bool | None = Field(None, description="A person allows each call.")
    contained: bool | None = Field(None, description="In a process of its own under another user, or not at all.")
    network: bool | None = Field(None, description="It may open connections.")
    seconds: float | None = Field(None, gt=0, description="Time limit of a call.")
    result: int | None = Field(None, gt=0, description="Bytes of a result's text that the model is shown.")
    concurrent: int | None = Field(None, gt=0, description="Calls at the same time.")
    memory: int | None = Field(None, gt=0, description="Bytes that a call may use.")
    guards: tuple[GuardSettings, ...] | None = Field(None, description="Of its arguments; they replace its own.")

    def value(self) -> dict[str, Json]:
        """What is set, as plain values."""
        return self.model_dump(mode="json", exclude_none=True)
