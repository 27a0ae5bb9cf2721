"""What executors, the registry and gateways tell each other of tools.

Above it: `registry`, `executor`, `toolbox`. Below it: `frames`, `tool_source`, `pipelines.tools`. Outside it: how it
gets there.
"""

import msgspec

from actors.frames import Endpoint
from actors.tools.tool_source import SourceSpec
from pipelines.tools.admission import Refused
from pipelines.tools.catalogue import Catalogue, Health, Tool


class Registration(msgspec.Struct, frozen=True, omit_defaults=True):
    """An executor is there. instance: of its process; endpoint: where calls go; tools: None where they are as before.

    health: of the source as a whole; why: what is wrong with it, or with its configuration.
    """

    source: str
    instance: str
    endpoint: Endpoint
    tools: tuple[Tool, ...] | None = None
    health: Health = "ready"
    why: str = ""


class SourceState(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a source is."""

    name: str
    health: Health = "starting"
    why: str = ""


class Published(msgspec.Struct, frozen=True, omit_defaults=True):
    """What every gateway knows. endpoints: of the executors that can be called, by source."""

    catalogue: Catalogue = Catalogue()
    endpoints: dict[str, Endpoint] = {}
    refused: tuple[Refused, ...] = ()
    sources: tuple[SourceState, ...] = ()


class Journal(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the registry writes down: the tools as they were allowed, and the sources that are configured."""

    known: tuple[Tool, ...] = ()
    specs: tuple[SourceSpec, ...] = ()
