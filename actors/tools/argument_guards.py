"""Guards on arguments: paths inside a root of the real file system, URLs that lead to the public Internet.

What was looked at is what the tool is given: a path is replaced by the one that it resolves to, so that a tool which
reads it from another directory, expands `~` or decodes `%2e` finds nothing to do. Between the look and the tool's own
use somebody may still move a link or a name's address: a root should not be writable for others, and a tool that
fetches by itself should have no network where that matters (`fetch_url` connects to the address that was looked at).

A guard that names no argument of its tool would look at nothing: such a tool cannot be used (`misnamed`).

Above it: `executor`, `deployments.tools.fetching`. Below it: `pipelines.tools.addresses`, `pipelines.tools.schemas`.
Outside it: whether arguments fit their schema.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from pipelines.conversation import Json
from pipelines.errors import ToolFailed
from pipelines.tools.addresses import Reach, pinned, target_of
from pipelines.tools.catalogue import ArgumentGuard, Tool
from pipelines.tools.formats import PLAIN
from pipelines.tools.keywords import LISTED
from pipelines.tools.references import resolve as referred
from pipelines.tools.schemas import convert

OUTSIDE = "path_refused"
"""Code of a path that is outside its roots."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of (host, port). Raises OSError for a name that has none."""


def inside(text: str, roots: Sequence[str]) -> str:
    """The absolute path that `text` is, with every link followed; relative ones start at the first root.

    What does not exist yet is inside if its nearest existing directory is. Nothing is decoded or expanded. Raises
    ToolFailed where it is outside of every root, or written so that others might read another path in it. Blocks for
    some calls of the file system.
    """
    if not roots or not text or "\0" in text or text.startswith("~") or text.lower().startswith("file:"):
        raise _outside()
    try:
        resolved = (Path(roots[0]) / text).resolve()
        if any(resolved.is_relative_to(Path(root).resolve()) for root in roots):
            return str(resolved)
    except (OSError, RuntimeError, ValueError):
        pass  # a loop of links, a name that is too long
    raise _outside()


def _outside() -> ToolFailed:
    return ToolFailed("the path is outside of the directories that may be used", status=403, code=OUTSIDE)


async def addresses_of(host: str, port: int) -> Sequence[str]:
    """What this machine's resolver says: a `Resolve`."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


async def guarded(
    arguments: dict[str, Json], guards: Sequence[ArgumentGuard], resolve: Resolve = addresses_of
) -> dict[str, Json]:
    """The arguments as the tool may have them. An argument that is not there is none of a guard's business.

    Raises ToolFailed for one that does not keep to its guard, or is neither a string nor a list of strings.
    """
    for guard in guards:
        arguments = await _guarded(arguments, guard.argument, guard, resolve)
    return arguments


def misnamed(tool: Tool) -> str:
    """The first guard's argument that the tool's schema does not have; "" where all are there."""
    if not tool.policy.guards:
        return ""
    schema = convert(tool.schema, PLAIN).schema
    return next((guard.argument for guard in tool.policy.guards if not _has(schema, guard.argument)), "")


def _has(root: Json, argument: str) -> bool:
    """Whether objects of the schema `root` have a property at the path `argument`.

    No place is looked at twice for the same path: a stranger's references may lead to it in any number of ways.
    """
    waiting, seen = [(root, argument)], set[tuple[int, str]]()
    while waiting:
        schema, path = waiting.pop()
        if not isinstance(schema, dict) or (id(schema), path) in seen:
            continue
        seen.add((id(schema), path))
        for name, inner in schema.get("properties", {}).items():
            if name == path:
                return True
            if path.startswith(f"{name}."):
                waiting.append((inner, path[len(name) + 1 :]))
        waiting += [(branch, path) for key in LISTED - {"prefixItems"} for branch in schema.get(key, ())]
        waiting += [(one, path) for one in (referred(root, schema.get("$ref")), schema.get("then"), schema.get("else"))]
    return False


async def _guarded(arguments: dict[str, Json], path: str, guard: ArgumentGuard, resolve: Resolve) -> dict[str, Json]:
    """The object with what the path leads to replaced. A name may have dots: each reading of the path counts."""
    found = dict(arguments)
    for name, value in arguments.items():
        if value is None or not (name == path or path.startswith(f"{name}.")):
            continue
        if name != path:
            if not isinstance(value, dict):
                raise _unfit(guard)
            found[name] = await _guarded(value, path[len(name) + 1 :], guard, resolve)
        elif isinstance(value, list):
            found[name] = [await _one(item, guard, resolve) for item in value]
        else:
            found[name] = await _one(value, guard, resolve)
    return found


async def _one(value: Json, guard: ArgumentGuard, resolve: Resolve) -> str:
    if not isinstance(value, str):
        raise _unfit(guard)
    if guard.kind == "path":
        return await asyncio.to_thread(inside, value, guard.roots)
    reach = Reach(hosts=guard.hosts, ports=())
    target = target_of(value, reach)
    try:
        found = [str(target.address)] if target.address else await resolve(target.host, target.port)
    except OSError:
        found = []
    pinned(found, reach)
    return str(target.url)


def _unfit(guard: ArgumentGuard) -> ToolFailed:
    return ToolFailed(f"the argument {guard.argument!r} must be a string, or a list of them", status=400)
