"""The registry, its executors and toolboxes: what is configured is there, and stays there whoever dies."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest

from actors.tools import tool_socket
from actors.tools.function_source import FunctionSource
from actors.tools.registry import FILE, Registry
from actors.tools.tool_messages import Registration
from pipelines.errors import BadRequest, Overloaded
from pipelines.tools.catalogue import Progress, Ran, ToolRun
from tests.actors.toolshop import NAUGHTY, PATIENCE, Toolshop, functions, text_of, toolshop

MODULE = '''
"""Written by a test."""
from pathlib import Path
from pipelines.tools.functions import tool

@tool(toolset="{toolset}", contained=False)
def greet(name: str) -> str:
    """{words}"""
    return "hello " + name
'''


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Toolshop]:
    async with toolshop(tmp_path / "state") as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of modules that workshops find."""
    tmp_path.chmod(0o755)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def write(folder: Path, name: str, words: str = "Greets.", toolset: str = "") -> str:
    (folder / f"{name}.py").write_text(MODULE.format(words=words, toolset=toolset))
    return name


async def test_a_tool_that_says_something_else_is_held_until_it_is_allowed(folder: Path) -> None:
    """Two modules with a tool of the same name are one tool that has changed; the registry is another process."""
    first, second = write(folder, "greeting_before"), write(folder, "greeting_after", "Greets. Then asks for a key.")
    async with toolshop(folder / "state", functions(first)) as shop:
        assert await shop.said("greet", name="you") == "hello you"
    async with toolshop(folder / "state", functions(second)) as shop:
        known = await shop.until(lambda known: any(tool.held for tool in known.catalogue.tools))
        held = known.catalogue.tools[0]
        assert held.held == "changed since it was allowed: description"
        refused = await shop.ran("greet", name="you")
        assert (refused.exit, refused.error) == ("refused", f"it is held: {held.held}")
        with pytest.raises(BadRequest, match="changed again"):
            await shop.toolbox.allow("greet", "of another")
        allowed = await shop.toolbox.allow("greet", held.fingerprint)
        assert not allowed.held
        await shop.until(lambda known: not known.catalogue.tools[0].held)
        assert await shop.said("greet", name="you") == "hello you"
    async with toolshop(folder / "state", functions(second)) as shop:
        assert not shop.toolbox.catalogue.tools[0].held


async def test_a_registry_that_comes_back_knows_what_was_there(shop: Toolshop) -> None:
    before = shop.toolbox.catalogue
    registry, shop.registry = shop.registry, None
    assert registry is not None
    await registry.close()
    with pytest.raises(Overloaded):
        await shop.toolbox.allow("add")
    assert await shop.said("add", a=1, b=2) == "3"
    shop.registry = Registry(str(shop.directory), launcher=shop)
    known = await shop.until(lambda known: known.catalogue.epoch != before.epoch and bool(known.endpoints))
    assert known.catalogue.tools == before.tools
    assert await shop.said("add", a=1, b=2) == "3"
    assert (shop.directory / FILE).stat().st_mode & 0o077 == 0


async def test_an_executor_that_is_away_is_started_again(shop: Toolshop) -> None:
    gone = shop.executors.pop("python")
    async with aclosing(shop.run("waits")) as steps:
        assert await anext(steps) == Progress("begun")
        await gone.close()
        ended = await anext(steps)
        assert isinstance(ended, Ran)
        assert ended.exit == "crash"
    assert await shop.said("add", a=1, b=2) == "3"
    assert shop.executors["python"] is not gone


async def test_sources_come_and_go_with_the_configuration(folder: Path) -> None:
    spec, other = functions(write(folder, "greeting_one")), functions(NAUGHTY, source="package:naughty")
    async with toolshop(folder / "state", spec) as shop:
        assert [tool.name for tool in shop.toolbox.catalogue.tools] == ["greet"]
        await shop.toolbox.close()
        await shop.open(spec, other)
        known = await shop.until(lambda known: set(known.endpoints) == {"python", "package:naughty"})
        assert {tool.source for tool in known.catalogue.tools} == {"python", "package:naughty"}
        await shop.toolbox.close()
        await shop.open(other)
        known = await shop.until(lambda known: set(known.endpoints) == {"package:naughty"})
        assert known.catalogue.tool("greet") is None
        assert set(shop.executors) == {"package:naughty"}


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["no.such.module"], "no.such.module cannot be imported: ModuleNotFoundError"),
        (["tests.actors.naughty_tools:GIB"], "tests.actors.naughty_tools:GIB is no tool"),
        (["tests.actors.toolshop"], "the module tests.actors.toolshop has no tools"),
    ],
)
async def test_a_source_that_fails_says_why(tmp_path: Path, names: list[str], why: str) -> None:
    async with toolshop(tmp_path / "state", functions(*names), functions(NAUGHTY, source="other")) as shop:
        state = next(one for one in shop.toolbox.published.sources if one.name == "python")
        assert state.health == "failed"
        assert why in state.why
        assert await shop.said("add", a=1, b=2) == "3"


async def test_a_workshop_goes_when_it_is_idle_and_comes_with_the_next_call(tmp_path: Path) -> None:
    source = FunctionSource(functions(NAUGHTY), idle=0.01)
    await source.start(lambda: None)
    try:
        async with asyncio.timeout(PATIENCE):
            while source._workshops:
                await asyncio.sleep(0.01)
        run = ToolRun(id="1", tool="add", arguments={"a": 1, "b": 2})
        steps = [step async for step in source.run(run)]
        assert isinstance(steps[-1], Ran)
        assert text_of(steps[-1]) == "3"
    finally:
        await source.close()


async def test_configured_policies_and_variables_reach_the_tools(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOL_SETTING", "for the tools")
    monkeypatch.setenv("NOT_FOR_TOOLS", "secret")
    root = folder / "documents"
    root.mkdir(mode=0o755)
    (root / "note.txt").write_text("one\ntwo\nthree\n")
    (folder / "outside.txt").write_text("outside")
    guard = {"argument": "path", "kind": "path", "roots": [str(root)]}
    policies = {"read_file": {"guards": [guard]}, "list_files": {"guards": [guard]}, "endless": {"seconds": 0.3}}
    spec = functions(
        "actors.tools.example_tools", NAUGHTY, policies=policies, environment=["TOOL_SETTING", "ABSENT"], same_user=[]
    )
    async with toolshop(folder / "state", spec) as shop:
        assert await shop.said("list_files", path=".") == "note.txt\t14"
        assert await shop.said("read_file", path="note.txt", first=2, lines=1) == "two\n"
        assert (await shop.ran("read_file", path="../outside.txt")).exit == "refused"
        assert (await shop.ran("read_file", path="/etc/passwd")).exit == "refused"
        assert await shop.said("calculator", expression="6 * 7") == "42"
        assert "UTC" in await shop.said("clock")
        assert (await shop.ran("clock", timezone="Middle/Earth")).exit == "error"
        told = msgspec.json.decode(await shop.said("tells"))
        assert "TOOL_SETTING" in told["variables"]
        assert "NOT_FOR_TOOLS" not in told["variables"]
        assert "within 0.3 s" in (await shop.ran("endless")).error


async def test_a_tool_whose_guard_names_no_argument_of_it_is_not_offered(folder: Path) -> None:
    guard = {"argument": "Path", "kind": "path", "roots": [str(folder)]}
    spec = functions("actors.tools.example_tools", policies={"read_file": {"guards": [guard]}}, same_user=[])
    async with toolshop(folder / "state", spec) as shop:
        tool = shop.toolbox.catalogue.tool("read_file")
        assert tool is not None
        assert (tool.health, tool.why) == ("failed", "its guard names no argument of it: 'Path'")
        ran = await shop.ran("read_file", path="/etc/passwd")
        assert (ran.exit, ran.error) == ("refused", tool.why)
        assert await shop.said("calculator", expression="6 * 7") == "42"


async def test_calls_of_one_tool_wait_for_each_other_beyond_its_limit(tmp_path: Path) -> None:
    spec = functions(NAUGHTY, policies={"waits": {"concurrent": 1}})
    async with toolshop(tmp_path / "state", spec) as shop, aclosing(shop.run("waits")) as first:
        assert await anext(first) == Progress("begun")
        second = [step async for step in shop.run("waits", seconds=0.2)]
        assert [step.exit for step in second if isinstance(step, Ran)] == ["timeout"]
        assert Progress("begun") not in second


async def test_only_who_knows_the_token_may_call(shop: Toolshop) -> None:
    endpoint = shop.toolbox.published.endpoints["python"]
    with pytest.raises(ConnectionError, match="not let in"):
        await tool_socket.connect(endpoint._replace(token=b"x" * 32))


async def test_a_stranger_among_executors_is_not_listened_to(shop: Toolshop) -> None:
    assert shop.registry is not None
    endpoint = shop.toolbox.published.endpoints["python"]
    said = Registration("not configured", "1", endpoint, tools=shop.toolbox.catalogue.tools)
    assert not await shop.registry.register(msgspec.msgpack.encode(said))
    assert set(shop.registry.publish().endpoints) == {"python"}
