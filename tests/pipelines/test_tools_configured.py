"""Names of a configuration, held against the tools that there are."""

import pytest

from pipelines.tools.catalogue import ArgumentGuard, Tool, ToolPolicy
from pipelines.tools.configured import Configured

CAREFUL = ToolPolicy(requires_approval=True, guards=(ArgumentGuard("path", "path"),))


def tool(name: str, alias: str = "") -> Tool:
    return Tool(name=f"git.{name}", description="", schema={}, source="mcp:git", toolset="git", alias=alias)


TOOLS = (tool("repos_delete", "repos/delete"), tool("repos_list", "repos.list"), tool("issues"))


@pytest.mark.parametrize("name", ["repos_delete", "repos/delete", "repos_list", "repos.list", "issues"])
def test_a_tool_is_named_as_at_its_source_or_as_here(name: str) -> None:
    assert Configured({name: CAREFUL}, (name,)).compared(TOOLS) == (TOOLS, "")


@pytest.mark.parametrize("name", ["Repos-Delete", "reposDelete", "repos/delet", "git.repos_delete", "REPOS.DELETE"])
def test_what_is_nearly_a_tools_name_protects_it(name: str) -> None:
    tools, why = Configured({name: CAREFUL}).compared(TOOLS)
    assert {one.name for one in tools if one.policy.requires_approval and one.policy.guards} == {"git.repos_delete"}
    assert repr(name) in why
    assert "git.repos_delete" in why


def test_a_tool_that_is_named_rightly_has_its_own_policy_only() -> None:
    tools, why = Configured({"repos_delete": ToolPolicy(), "repos_delet": CAREFUL}).compared(TOOLS)
    assert tools == TOOLS
    assert "'repos_delet'" in why


def test_what_is_like_no_tool_is_said_and_takes_none_away() -> None:
    names = tuple(f"absent {number}" for number in range(30))
    tools, why = Configured({"drop": CAREFUL}, names).compared(TOOLS)
    assert tools == TOOLS
    assert "'drop'" in why
    assert "'absent 9' and 20 more" in why
    assert Configured({"drop": CAREFUL}, ("issues",)).compared(()) == (
        (),
        "`only` names no tool that there is: 'issues'",
    )
