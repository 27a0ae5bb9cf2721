"""What is configured of single tools of a server or service by their names, held against the tools that it has.

A name that no tool has would be passed over in silence, and with it an approval or a guard. So it is said; and what it
asks for protection holds for tools that are called nearly so, until the name is put right. Others go on as they are: a
server may have taken the tool away.

Above it: `actors.tools.executor`. Below it: `catalogue`. Outside it: the policy of a tool that is named rightly.
"""

import difflib
import re
from collections.abc import Iterable, Sequence

import msgspec

from pipelines.tools.catalogue import Tool, ToolPolicy

_NEAR = 0.8
"""How much of two names must be the same, as `difflib` counts it."""

_MOST_SAID = 10
_BETWEEN_WORDS = re.compile(r"[\W_]+")


class Configured(msgspec.Struct, frozen=True):
    """policies: of single tools; only: the tools that are taken, all where it is empty. By the names at the source."""

    policies: dict[str, ToolPolicy] = {}
    only: tuple[str, ...] = ()

    def compared(self, tools: Sequence[Tool]) -> tuple[tuple[Tool, ...], str]:
        """The tools, as protected as was meant, and what is named and not among them, in words ("" for nothing)."""
        known = {name for tool in tools for name in _names(tool)}
        said = _said("only", [_quoted(name) for name in self.only if name not in known])
        guarded = {tool.name: tool for tool in tools}
        strays = []
        for name in (name for name in self.policies if tools and name not in known):
            near = [tool for tool in tools if self._is_meant(name, tool)]
            for tool in near:
                policy = _protected(guarded[tool.name].policy, self.policies[name])
                guarded[tool.name] = msgspec.structs.replace(guarded[tool.name], policy=policy)
            held = f" (what it protects holds for {', '.join(tool.name for tool in near)})" if near else ""
            strays.append(_quoted(name) + held)
        return tuple(guarded.values()), "; ".join([*said, *_said("policies", strays)])

    def _is_meant(self, name: str, tool: Tool) -> bool:
        """Whether it may be this tool's name, written wrongly. It is not where the tool is named by its own."""
        forms = [_plain(one) for one in (tool.name, *_names(tool))]
        return self.policies.keys().isdisjoint(_names(tool)) and bool(
            difflib.get_close_matches(_plain(name), forms, 1, _NEAR)
        )


def _names(tool: Tool) -> tuple[str, ...]:
    """What the tool is called where it comes from."""
    own = tool.name.removeprefix(f"{tool.toolset}.")
    return (own, tool.alias) if tool.alias else (own,)


def _plain(name: str) -> str:
    return _BETWEEN_WORDS.sub("", name).casefold()


def _quoted(name: str) -> str:
    return repr(name[:100])


def _said(setting: str, names: Iterable[str]) -> list[str]:
    listed = list(names)
    more = f" and {len(listed) - _MOST_SAID} more" if len(listed) > _MOST_SAID else ""
    return [f"`{setting}` names no tool that there is: {', '.join(listed[:_MOST_SAID])}{more}"] if listed else []


def _protected(policy: ToolPolicy, meant: ToolPolicy) -> ToolPolicy:
    """The policy with the protection that another one has."""
    return msgspec.structs.replace(
        policy,
        sequential=policy.sequential or meant.sequential,
        requires_approval=policy.requires_approval or meant.requires_approval,
        guards=policy.guards + tuple(guard for guard in meant.guards if guard not in policy.guards),
    )
