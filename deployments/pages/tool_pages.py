"""The tools that Penstock runs, and letting one that has changed be used again.

    GET  /v1/tools                 what the key may use; for an administrator all, with what is refused, and the sources
    POST /v1/tools/{name}/allow    {"fingerprint": …} of what was looked at, or {}

Above it: `gateway`. Below it: `actors.tools.toolbox`, `pipelines.tools.policy`. Outside it: who is let in.
"""

import msgspec

from actors.tools.toolbox import ToolboxClient
from deployments.http.reading import json_object
from deployments.visit import Visit
from pipelines.calls import Caller
from pipelines.conversation import Json
from pipelines.errors import BadRequest, Denied
from pipelines.tools.catalogue import Tool
from pipelines.tools.policy import Rights, unusable

LIST = "/v1/tools"
_ALLOW = "/allow"

TOOL_PAGES = {
    ("get", LIST): "The tools that Penstock runs",
    ("post", f"{LIST}/{{name}}{_ALLOW}"): "Allows a tool that has changed, for whoever administers",
}
"""For people: what there is, by method and path."""


class ToolPages:
    """toolbox: None where no tools are configured."""

    def __init__(self, toolbox: ToolboxClient | None) -> None:
        self._toolbox = toolbox

    async def answer(self, visit: Visit, caller: Caller) -> bool:
        """Answer one of the pages; False where the visit asks for none. Raises PenstockError."""
        if (visit.method, visit.path) == ("GET", LIST):
            told = self._listed(caller)
        elif visit.method == "POST" and visit.path.startswith(f"{LIST}/") and visit.path.endswith(_ALLOW):
            told = await self._allow(visit, caller, visit.path[len(LIST) + 1 : -len(_ALLOW)])
        else:
            return False
        await visit.reply(200, msgspec.json.encode(told), {})
        return True

    def _listed(self, caller: Caller) -> dict[str, Json]:
        published = self._toolbox.published if self._toolbox is not None else None
        tools = published.catalogue.tools if published is not None else ()
        if caller.admin and published is not None:
            return {
                "object": "list",
                "data": [_entry(tool) for tool in tools],
                "refused": msgspec.to_builtins(published.refused),
                "sources": [{"name": one.name, "health": one.health, "why": one.why} for one in published.sources],
            }
        rights = Rights(key=("*",) if caller.tools is None else caller.tools)
        mine = [tool for tool in tools if not rights.forbids(tool.name) and not unusable(tool)]
        return {"object": "list", "data": [_entry(tool) for tool in mine]}

    async def _allow(self, visit: Visit, caller: Caller, name: str) -> dict[str, Json]:
        if not caller.admin:
            raise Denied("only an administrator may allow a tool", status=403, code="permission")
        body = await visit.body()
        fingerprint = json_object(body).get("fingerprint", "") if body else ""
        if not isinstance(fingerprint, str):
            raise BadRequest("fingerprint must be a string", param="fingerprint")
        if self._toolbox is None:
            raise BadRequest(f"there is no tool {name!r}", status=404, code="tool_not_found")
        return _entry(await self._toolbox.allow(name, fingerprint))


def _entry(tool: Tool) -> dict[str, Json]:
    """A tool as it is listed: every field, whether it is the usual one or not."""
    entry: dict[str, Json] = {name: getattr(tool, name) for name in tool.__struct_fields__ if name != "policy"}
    policy = {name: getattr(tool.policy, name) for name in tool.policy.__struct_fields__}
    return {"object": "tool", **entry, "policy": msgspec.to_builtins(policy)}
