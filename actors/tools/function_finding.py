"""Which functions are tools: by the names that are configured, and by what installed packages offer.

Above it: `workshop`, `function_source`, `deployments.settings.tool_settings`. Below it: importlib,
`pipelines.tools.functions`.
"""

import contextlib
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from actors.version import version_of
from pipelines.errors import ConfigurationError
from pipelines.tools.functions import FunctionTool, tools_in

GROUP = "penstock.tools"
"""The group of entry points (Python Packaging User Guide, "Entry points specification")."""


def find(names: Iterable[str]) -> dict[str, FunctionTool[..., Any]]:
    """Import "module" (all its tools) and "module:function" each; the tools by their own names.

    Raises ConfigurationError for what cannot be imported or is no tool, and for two tools of one name.
    """
    found: dict[str, FunctionTool[..., Any]] = {}
    for name in names:
        for made in _load(name):
            if found.setdefault(made.definition.name, made) is not made:
                raise ConfigurationError(f"two tools are named {made.definition.name}")
    return found


def offered() -> dict[str, tuple[str, ...]]:
    """What installed packages offer, as names for `find`, by distribution. Nothing is imported."""
    found: dict[str, tuple[str, ...]] = {}
    for point in importlib.metadata.entry_points(group=GROUP):
        distribution = point.dist.name if point.dist is not None else point.name
        found[distribution] = (*found.get(distribution, ()), point.value.partition(" ")[0])
    return found


def code_of(names: Iterable[str]) -> str:
    """A name for the source of the modules in `names` that is another when it changes; "" where none is found.

    Only packages above a module are imported. What a module imports itself is not looked at.
    """
    files = set()
    for name in names:
        with contextlib.suppress(ImportError, ValueError, AttributeError):
            found = importlib.util.find_spec(name.partition(":")[0])
            if found is not None and found.origin is not None and Path(found.origin).is_file():
                files.add(Path(found.origin))
    return version_of(sorted(files)) if files else ""


def _load(name: str) -> list[FunctionTool[..., Any]]:
    place, _, inner = name.partition(":")
    try:
        thing: object = importlib.import_module(place)
        for step in filter(None, inner.split(".")):
            thing = getattr(thing, step)
    except Exception as error:  # what a module raises while it is imported may be anything
        raise ConfigurationError(f"{name} cannot be imported: {type(error).__name__}: {error}") from None
    made = tools_in([thing] if inner else vars(thing).values())
    if not made:
        raise ConfigurationError(f"{name} is no tool" if inner else f"the module {name} has no tools")
    return made
