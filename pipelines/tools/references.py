"""References within a schema: noted while it is read, settled when it has its final form.

Source: JSON Schema 2020-12, core, sections 8.2 (`$ref`, `$anchor`, `$id`); RFC 6901 (JSON Pointer).

Above it: `schemas`, `root`, `portable`. Below it: `keywords`.
"""

import re
from collections.abc import Callable
from urllib.parse import unquote

from pipelines.conversation import Json
from pipelines.tools.keywords import LISTED, MAPPED, SINGLE, Path

_PLACE = re.compile(r"[0-9]{1,9}")
"""A place in a list. Python refuses to read numbers of some thousand digits."""

Moved = Callable[[str], str]
"""Where a pointer leads after the top level was rebuilt."""


class References:
    """The references of one schema."""

    def __init__(self) -> None:
        self._holders: list[tuple[dict[str, Json], Path]] = []
        self._anchors: set[str] = set()
        self._base = ""

    def note(self, node: dict[str, Json], path: Path) -> None:
        """Take in what `node` says of references. path: to its `$ref`."""
        anchor = node.get("$anchor")
        if isinstance(anchor, str):
            self._anchors.add(anchor)
        if len(path) == 1 and isinstance(node.get("$id"), str):
            self._base = node["$id"].partition("#")[0]
        if "$ref" in node:
            self._holders.append((node, path))

    def settle(self, root: dict[str, Json], moved: Moved, lost: list[Path]) -> None:
        """Point every reference to its place below `root`; take out and name those that have none."""
        for node, path in self._holders:
            if "$ref" not in node:
                continue
            target = self._local(node["$ref"], moved)
            if target is not None and (target[1:] in self._anchors or resolve(root, target) is not None):
                node["$ref"] = target
            else:
                del node["$ref"]
                lost.append(path)

    def _local(self, reference: Json, moved: Moved) -> str | None:
        if not isinstance(reference, str):
            return None
        if self._base and reference.startswith(f"{self._base}#"):
            reference = reference[len(self._base) :]
        return moved(reference) if reference.startswith("#") else None


def step_name(step: str) -> str:
    """The member that a step of a pointer in a reference names."""
    return unquote(step).replace("~1", "/").replace("~0", "~")


def noted(schema: Json, path: Path, references: References) -> Json:
    """A copy of a valid schema whose references are noted, to be settled. path: its own."""
    if not isinstance(schema, dict):
        return schema
    found: dict[str, Json] = {}
    for key, value in schema.items():
        if key in SINGLE:
            found[key] = noted(value, (*path, key), references)
        elif key in LISTED and isinstance(value, list):
            found[key] = [noted(one, (*path, key, str(place)), references) for place, one in enumerate(value)]
        elif key in MAPPED and isinstance(value, dict):
            found[key] = {name: noted(one, (*path, key, name), references) for name, one in value.items()}
        else:
            found[key] = value
    references.note(found, (*path, "$ref"))
    return found


def resolve(root: Json, reference: Json) -> Json:
    """The schema that `reference` (`#`, `#/…`) points to below `root`; None where there is none."""
    if not isinstance(reference, str) or (reference != "#" and not reference.startswith("#/")):
        return None
    found = root
    for step in reference[2:].split("/") if len(reference) > 1 else ():
        name = step_name(step)
        if isinstance(found, dict):
            found = found.get(name)
        elif isinstance(found, list) and _PLACE.fullmatch(name) and int(name) < len(found):
            found = found[int(name)]
        else:
            return None
    return found if isinstance(found, dict | bool) else None
