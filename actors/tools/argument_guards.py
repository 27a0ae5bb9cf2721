"""Guards on arguments: paths inside a root of the real file system, URLs that lead to the public Internet.

What was looked at is what the tool is given: a path is replaced by the one that it resolves to, so that a tool which
reads it from another directory, expands `~` or decodes `%2e` finds nothing to do. Between the look and the tool's own
use somebody may still move a link or a name's address: a root should not be writable for others, and a tool that
fetches by itself should have no network where that matters (`fetch_url` connects to the address that was looked at).

Above it: `executor`, `deployments.tools.fetching`. Below it: `pipelines.tools.addresses`. Outside it: the arguments'
schema.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from pipelines.conversation import Json
from pipelines.errors import ToolFailed
from pipelines.tools.addresses import Reach, pinned, target_of
from pipelines.tools.catalogue import ArgumentGuard

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
        arguments = await _guarded(arguments, guard.argument.split("."), guard, resolve)
    return arguments


async def _guarded(
    arguments: dict[str, Json], names: Sequence[str], guard: ArgumentGuard, resolve: Resolve
) -> dict[str, Json]:
    """The object with what the names lead to replaced."""
    name, *deeper = names
    if arguments.get(name) is None:
        return arguments
    value = arguments[name]
    if deeper:
        if not isinstance(value, dict):
            raise _unfit(guard)
        return {**arguments, name: await _guarded(value, deeper, guard, resolve)}
    if isinstance(value, list):
        return {**arguments, name: [await _one(item, guard, resolve) for item in value]}
    return {**arguments, name: await _one(value, guard, resolve)}


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
