"""The tools that a request asks Penstock to run, put in the place of the words that ask for them.

    {"type": "penstock", "name": "calculator"}     one
    {"type": "penstock", "toolset": "math"}        all of a toolset that the key may use and that can be used now
    {"type": "penstock", "all": true}              all of them

Above it: the gateway's tool lane. Below it: `catalogue`, `policy`, `conversation`.
"""

from collections.abc import Iterator
from typing import NamedTuple

from msgspec.structs import replace

from pipelines.conversation import Json, Request, ToolSpec
from pipelines.errors import BadRequest, Denied, Overloaded
from pipelines.events import OURS
from pipelines.tools.catalogue import Catalogue, Tool
from pipelines.tools.policy import Rights, unusable

MOST = 128
"""Tools of one request, the caller's own among them: what most providers take at the most."""

_MEMBERS: dict[str, type] = {"name": str, "toolset": str, "all": bool}


class Offer(NamedTuple):
    """A request with its tools spelled out, and those of them that run here, by name."""

    request: Request
    tools: dict[str, Tool]


def names_ours(request: Request) -> bool:
    """Whether the request asks for tools that run here."""
    return any(tool.opaque is not None and OURS in tool.opaque for tool in request.tools)


def offered(request: Request, catalogue: Catalogue, rights: Rights) -> Offer:
    """The request as the models are to see it.

    Raises BadRequest (400) for a tool that is not there, cannot be used now, or has the name of one of the caller's
    own, and for several answers at once (`n`); Denied (403) for one that the key may not use; Overloaded (503) for one
    whose source starts.
    """
    if (request.n or 1) > 1:
        raise BadRequest("tools that Penstock runs want one answer: `n` must be 1", param="n")
    specs: list[ToolSpec] = []
    tools: dict[str, Tool] = {}
    for place, spec in enumerate(request.tools):
        asked = (spec.opaque or {}).get(OURS)
        if asked is None:
            specs.append(spec)
            continue
        for tool in _found(asked, f"tools.{place}", catalogue, rights):
            if tool.name not in tools:
                tools[tool.name] = tool
                specs.append(ToolSpec(tool.name, tool.description, tool.schema))
    own = {spec.name for spec in request.tools if OURS not in (spec.opaque or {})}
    if both := sorted(own & tools.keys()):
        raise BadRequest(f"`tools` has a tool {both[0]!r} of its own beside the one that runs here", param="tools")
    if len(specs) > MOST:
        raise BadRequest(f"there are {len(specs)} tools, more than {MOST}", param="tools")
    return Offer(replace(request, tools=tuple(specs)), tools)


def _found(asked: dict[str, Json], path: str, catalogue: Catalogue, rights: Rights) -> Iterator[Tool]:
    given = {name: asked[name] for name in _MEMBERS if asked.get(name) not in (None, False)}
    if len(given) != 1 or asked.keys() - _MEMBERS.keys() - {"type"}:
        raise BadRequest(f"`{path}` must have one of `name`, `toolset`, `all`, and `type`", param=path)
    ((member, value),) = given.items()
    if not isinstance(value, _MEMBERS[member]):
        raise BadRequest(f"`{path}.{member}` must be a {_MEMBERS[member].__name__}", param=f"{path}.{member}")
    if member == "name":
        yield _named(str(value), f"{path}.name", catalogue, rights)
        return
    some = [tool for tool in catalogue.tools if member == "all" or tool.toolset == value]
    usable = [tool for tool in some if not rights.forbids(tool.name) and not unusable(tool)]
    if not usable:
        what = "no tool" if member == "all" else f"no tool of a toolset {value!r}"
        raise BadRequest(f"{what} can be used now with this key", param=f"{path}.{member}")
    yield from usable


def _named(name: str, path: str, catalogue: Catalogue, rights: Rights) -> Tool:
    """One tool. Whether one that is forbidden exists, nobody is told."""
    if rights.forbids(name):
        raise Denied(f"this key may not use a tool {name!r}", status=403, code="permission", param=path)
    tool = catalogue.tool(name)
    if tool is None:
        raise BadRequest(f"there is no tool {name!r}: GET /v1/tools lists them", code="unknown_tool", param=path)
    if tool.health == "starting" and not tool.held:
        raise Overloaded(f"the tool {name!r} cannot be used yet: its source starts", status=503, retry_after=1.0)
    if why := unusable(tool):
        raise BadRequest(f"the tool {name!r} cannot be used now: {why}", code="tool_unavailable", param=path)
    return tool
