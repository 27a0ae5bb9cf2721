"""Where tools come from: what an executor hosts, one source each.

    SourceSpec --(`SOURCES`, in the executor's own process)--> ToolSource --tools()--> the registry
                                                                         --run()----> whoever holds a toolbox

The registry starts an executor for each source that is configured, asks it for its tools, and again whenever the
source says that they have changed; gateways connect to the executor for each run. A source therefore lives in one
process for long, has one event loop, and may hold connections and processes.

Above it: `executor`, which hosts sources. Below it: `pipelines.tools.catalogue`. Outside it: each source.
"""

import importlib
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Protocol

import msgspec

from pipelines.conversation import Json
from pipelines.errors import ConfigurationError
from pipelines.tools.catalogue import Progress, Ran, Tool, ToolRun


class SourceSpec(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A source as it is configured: what its maker is given, in another process.

    kind: a key of `SOURCES`. name: `Tool.source` of all its tools ("python", "mcp:git", "openapi:petstore"); it is
    unique. settings: plain values, which name variables and files where a secret is needed, never the secret.
    state_directory: where the cluster's own files are, which no tool may see; it is the executor's to fill in.
    """

    kind: str
    name: str
    settings: dict[str, Json] = {}
    state_directory: str = ""


class ToolSource(Protocol):
    """One source of tools, made by its maker on a running event loop."""

    async def start(self, on_change: Callable[[], None]) -> None:
        """Begin. on_change may be called at any time on the loop: `tools` is asked again soon after.

        It returns soon; what takes long (a server that starts, a document to fetch) goes on beside it. An exception
        makes the source fail for good (its words are shown to administrators: no secrets in them).
        """

    async def tools(self) -> Sequence[Tool]:
        """Its tools as of now, with the schema as the source gives it (any dict) and the policy that is configured.

        `name` is complete (`git.git_status`), `source` is the spec's name, `fingerprint` and `held` are empty: the
        registry fills them in, and refuses what cannot be used. `health` and `why` are the source's to say. While
        nothing is known yet: none. An exception means that the source is away: its tools stay listed so.
        """

    def run(self, run: ToolRun) -> AsyncGenerator[Progress | Ran, None]:
        """Run a tool: any number of Progress, then one Ran. It should raise nothing; what it raises is exit "error".

        Arguments have been checked. Its time limit (`run.seconds`), the cut some way after `policy.result` bytes and at
        most once per `run.id` are the executor's business; closing the generator (also at the time limit) must end what
        runs, and is given some seconds for it.
        """

    async def close(self) -> None:
        """End everything that runs here. Called once; the process may also just be killed."""


Maker = Callable[[SourceSpec], ToolSource]
"""Makes a source; it blocks for no more than an import. Raises ConfigurationError for settings it cannot use."""

SOURCES = {
    "functions": "actors.tools.function_source:FunctionSource",
    "fetch": "actors.tools.fetch_source:FetchSource",
    "mcp": "actors.tools.mcp_source:McpSource",
    "openapi": "actors.tools.openapi_source:OpenApiSource",
}
"""Makers by kind, imported where they are used: an executor loads one of them."""


def make(spec: SourceSpec) -> ToolSource:
    """The source that a spec describes. Raises ConfigurationError for a kind that is not known."""
    where = SOURCES.get(spec.kind)
    if where is None:
        raise ConfigurationError(f"there are no tool sources of the kind {spec.kind!r}")
    module, _, name = where.partition(":")
    maker: Maker = getattr(importlib.import_module(module), name)
    return maker(spec)
