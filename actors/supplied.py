"""What a floor above supplies to an actor in another process: it names the thing, and the actor looks it up.

HTTP belongs to the edges (`deployments`); a source that needs it is told by its settings where it is.

Above it: the tool sources. Below it: importlib. Outside it: what is named.
"""

import importlib
from typing import Any

from pipelines.errors import ConfigurationError


def supplied(name: str) -> Any:
    """What `package.module:attribute` names. Raises ConfigurationError where there is no such thing."""
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError):
        raise ConfigurationError(f"there is no {name!r} in this version") from None
