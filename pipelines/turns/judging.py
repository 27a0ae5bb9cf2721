"""Whether a call is run: the steps of `tools.policy` up to its beginning, in their order.

    catalogue of the key → deny → allow → schema → guard → approval → budget

Above it: `running`. Below it: `tools`, `limits`, `ports`. Outside it: running it.
"""

from typing import NamedTuple

from pipelines.conversation import Json, ToolCall
from pipelines.tools.arguments import WrongArguments, fingerprint
from pipelines.tools.catalogue import Tool
from pipelines.tools.policy import unusable
from pipelines.turns.limits import Limit, Tally
from pipelines.turns.ports import Setting

_WHY: dict[Limit, str] = {
    "repeats": "the same call with the same arguments was made before, and is not run again",
    "calls": "no more calls are allowed in this conversation",
    "mistakes": "too many calls were wrong",
}


class Allowed(NamedTuple):
    """The one call that a person has allowed, and its fingerprint: with other arguments it is another one."""

    call: str
    arguments: str


class Ready(NamedTuple):
    """A call that may be run. decisions: what each step said."""

    call: ToolCall
    tool: Tool
    arguments: dict[str, Json]
    fingerprint: str
    decisions: tuple[str, ...]


class Waiting(NamedTuple):
    """A call that a person has to allow first."""

    ready: Ready


class Refused(NamedTuple):
    """A call that is not run. why: in words for the model; limit: what ends the loop with it."""

    call: ToolCall
    why: str
    decisions: tuple[str, ...]
    tool: Tool | None = None
    fingerprint: str = ""
    limit: Limit | None = None


Judged = Ready | Waiting | Refused


async def judged(call: ToolCall, setting: Setting, tally: Tally, allowed: Allowed | None = None) -> Judged:
    """What is to be done with a call. allowed: what a person has allowed."""
    offered = setting.tools.get(call.name)
    if offered is None:
        return _mistake(call, f"there is no tool {call.name!r}", ("catalogue: unknown",), setting, tally)
    tool = setting.toolbox.catalogue.tool(call.name)
    if tool is None or tool.fingerprint != offered.fingerprint:
        return Refused(call, "the tool is not what it was when it was offered", ("catalogue: changed",), tool)
    if why := unusable(tool):
        return Refused(call, f"the tool cannot be used now: {why}", ("catalogue: unusable",), tool)
    if step := setting.rights.forbids(tool.name):
        return Refused(call, "the tool may not be used", (f"{step}: no",), tool)
    try:
        arguments = setting.checker.read(tool, call.arguments)
    except WrongArguments as wrong:
        return _mistake(call, str(wrong), ("catalogue: yes", "schema: no"), setting, tally, tool)
    own = fingerprint(tool.name, arguments)
    decisions: tuple[str, ...] = ("catalogue: yes", "schema: yes")
    if why := await setting.guard(tool, arguments):
        return Refused(call, why, (*decisions, "guard: no"), tool, own)
    decisions = (*decisions, "guard: yes") if tool.policy.guards else decisions
    if setting.approves(tool):
        if (call.id, own) != allowed:
            return _asking(Ready(call, tool, arguments, own, decisions), setting)
        decisions = (*decisions, "approval: yes")
    if limit := tally.call(own, setting.limits):
        return Refused(call, _WHY[limit], (*decisions, f"budget: {limit}"), tool, own, limit)
    return Ready(call, tool, arguments, own, (*decisions, "budget: yes"))


def _asking(ready: Ready, setting: Setting) -> Judged:
    if setting.hold is not None:
        return Waiting(ready)
    why = "a person would have to allow this call, and nobody can be asked"
    return Refused(ready.call, why, (*ready.decisions, "approval: nobody"), ready.tool, ready.fingerprint)


def _mistake(
    call: ToolCall, why: str, decisions: tuple[str, ...], setting: Setting, tally: Tally, tool: Tool | None = None
) -> Refused:
    return Refused(call, why, decisions, tool, limit=tally.mistake(setting.limits))
