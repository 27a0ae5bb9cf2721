"""The tools that Penstock runs itself, as every floor knows them: what there is, and what running one means.

    Catalogue := Tool*                                 published by the registry, kept by every gateway
    a run     := Progress* Ran                         what an executor yields; closing the generator cancels it

Above it: `turns`, `actors.tools.registry`, `actors.tools.executor`. Below it: `conversation`. Outside it: how tools are
found (Python, MCP, OpenAPI) and where they run.
"""

from collections.abc import AsyncGenerator
from typing import Literal, Protocol

import msgspec

from pipelines.conversation import File, Image, Json, Text

Health = Literal["ready", "starting", "away", "failed"]
"""Whether a tool can be run now: its source answers, is being asked, has gone, or cannot be used at all."""


class _Value(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Frozen, compact on the wire, unknown fields passed over."""


class ArgumentGuard(_Value, frozen=True):
    """What one argument must keep to, whatever its schema says.

    argument: its name (dots go into objects). kind: "path" (inside `roots`) or "url" (no private, loopback,
    link-local or metadata address; `hosts`, where not empty, are the only ones).
    """

    argument: str
    kind: Literal["path", "url"]
    roots: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


class ToolPolicy(_Value, frozen=True):
    """How a tool may be run.

    sequential: never beside another call of its turn; requires_approval: a person allows each call; contained: it
    needs a process of its own under another user, and is refused where that cannot be had; network: what runs it may
    open connections. seconds: the time limit of a call; result: bytes of a result's text that the model is shown;
    concurrent: calls at the same time in the cluster; memory: bytes; guards: of its arguments.
    """

    sequential: bool = False
    requires_approval: bool = False
    contained: bool = True
    network: bool = False
    seconds: float = 30.0
    result: int = 65_536
    concurrent: int = 8
    memory: int = 512 * 1024 * 1024
    guards: tuple[ArgumentGuard, ...] = ()


class Tool(_Value, frozen=True):
    """One tool of the registry.

    name is unique there (`calculator`, `git.git_status`: a server's tools follow its name and a dot); models see a
    safe form of it (`pipelines.tools.names`). schema: the JSON Schema of its arguments, an object. source: "python",
    "package:distribution", "mcp:server", "openapi:document". toolset: the group by which it can be asked for as a
    whole. held: why it is not offered until it is allowed again, "" where it is; why: what is wrong, in words, where
    health is not "ready". fingerprint: of name, description and schema. alias: what it is called at its source, where
    that can be no name here; a configuration may name it so.
    """

    name: str
    description: str
    schema: dict[str, Json]
    source: str
    toolset: str = ""
    policy: ToolPolicy = ToolPolicy()
    health: Health = "ready"
    why: str = ""
    held: str = ""
    fingerprint: str = ""
    alias: str = ""

    @property
    def is_foreign(self) -> bool:
        """Whether a stranger wrote its schema: whoever runs the server, or wrote the document."""
        return self.source.startswith(("mcp:", "openapi:"))


class Catalogue(_Value, frozen=True):
    """One version of all tools. epoch changes with every incarnation of the registry, version counts up within it; ""
    is before anything has been heard of one.
    """

    epoch: str = ""
    version: int = 0
    tools: tuple[Tool, ...] = ()

    def tool(self, name: str) -> Tool | None:
        """The tool of that name."""
        return next((tool for tool in self.tools if tool.name == name), None)


class ToolRun(_Value, frozen=True):
    """One call of a tool, to be run at most once.

    id: unique for ever (the request's id and the call's); a second run of the same id is refused. key: the id of the
    caller's key. arguments: checked against the schema. seconds: what is left of the time limit.
    """

    id: str
    tool: str
    arguments: dict[str, Json]
    request_id: str = ""
    turn: int = 0
    key: str = ""
    seconds: float = 30.0


class Progress(_Value, frozen=True, tag="progress"):
    """Something that the running tool yielded, as text."""

    text: str


Exit = Literal["ok", "error", "timeout", "crash", "refused", "cancelled"]
"""How a run ended: by itself, with an error of its own, out of time, dead, never begun, or given up."""


class Ran(_Value, frozen=True, tag="ran"):
    """The end of a run. parts: the result; error: what went wrong in words for the model, "" where nothing did.

    seconds: that it took; size: bytes of the result, an error's words too, before it was cut; cut: whether it was.
    """

    parts: tuple[Text | Image | File, ...] = ()
    error: str = ""
    exit: Exit = "ok"
    seconds: float = 0.0
    size: int = 0
    cut: bool = False


class Toolbox(Protocol):
    """Where tools are: what a gateway asks."""

    @property
    def catalogue(self) -> Catalogue:
        """The latest that is known here; empty before the first."""

    def run(self, run: ToolRun) -> AsyncGenerator[Progress | Ran, None]:
        """Run it. Yields any number of Progress, then one Ran; it raises nothing of the tool's.

        Closing the generator, or cancelling who reads it, kills what runs.
        """
