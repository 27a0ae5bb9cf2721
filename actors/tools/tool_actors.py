"""The tools' actors as Ray hosts them: one registry, and an executor for each source.

Above it: `directory`, which imports it only where there are tools. Below it: ray, `registry`, `executor`. Outside it:
what they do.
"""

import asyncio
import os
from pathlib import Path

import msgspec
import ray

from actors import directory
from actors.credentials import FOLDER
from actors.tools import executor, registry
from actors.tools.registry_link import registry_connector_to
from actors.tools.tool_source import SourceSpec

KEPT = ("RAY_", "PYTHON", "PATH", "HOME", "LANG", "LC_", "TMPDIR", "PENSTOCK_STATE_DIR", FOLDER, "TZ")
"""Beginnings of the variables that an executor of functions keeps: no provider's key is among them."""


class RayLauncher:
    """See `registry.Launcher`."""

    def __init__(self, state_directory: str) -> None:
        self._directory = state_directory

    async def start(self, spec: SourceSpec) -> None:
        """Find the executor, or start it; one that hosts something else is replaced."""
        encoded = msgspec.msgpack.encode(spec)
        await asyncio.to_thread(directory.connect, self._directory, name_of(spec.name), encoded)

    async def stop(self, name: str) -> None:
        """End it."""
        await asyncio.to_thread(directory.stop, name_of(name))


class RegistryActor(directory.Hosted, registry.Registry):
    """The registry as Ray hosts it."""

    def __init__(self, state_directory: str, preceded: bool) -> None:
        super().__init__(state_directory, preceded, launcher=RayLauncher(state_directory))


class ExecutorActor(directory.Hosted, executor.Executor):
    """An executor as Ray hosts it. spec: an encoded SourceSpec."""

    def __init__(self, state_directory: str, preceded: bool, spec: bytes) -> None:
        described = msgspec.msgpack.decode(spec, type=SourceSpec)
        if described.kind == "functions":
            given = described.settings.get("environment", ())
            for name in [name for name in os.environ if not name.startswith(KEPT) and name not in given]:
                del os.environ[name]
        described = msgspec.structs.replace(described, state_directory=str(Path(state_directory).absolute()))
        connector = registry_connector_to(state_directory, replace=False)
        super().__init__(described, connector, ray.util.get_node_ip_address())
        self._version = executor.code_version(spec)
        self._beginning: asyncio.Task[None] | None = None

    async def version(self) -> str:
        """The code that runs here, and what is hosted. Whoever looks for it has it begin."""
        if self._beginning is None:
            self._beginning = asyncio.get_running_loop().create_task(self.start())
        await asyncio.shield(self._beginning)
        return await super().version()


def name_of(source: str) -> str:
    """The name of a source's executor among the actors."""
    return f"{directory.EXECUTOR}:{source}"


KINDS = {
    directory.REGISTRY: directory.Kind(RegistryActor, registry.code_version),
    directory.EXECUTOR: directory.Kind(ExecutorActor, executor.code_version),
}
"""As `directory` has them."""
