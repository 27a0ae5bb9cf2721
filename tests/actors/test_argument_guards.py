"""Arguments that are guarded: over the real file system, and over a resolver of our own."""

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from actors.tools.argument_guards import OUTSIDE, guarded, inside, misnamed
from pipelines.errors import ToolFailed
from pipelines.tools.catalogue import ArgumentGuard, Tool, ToolPolicy


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a file, links to the outside and inside, a loop, and a neighbour whose name begins alike."""
    root = tmp_path / "root"
    (root / "deep").mkdir(parents=True)
    (root / "file").write_text("inside")
    (root / "~").mkdir()
    (tmp_path / "root-neighbour").mkdir()
    (tmp_path / "secret").write_text("outside")
    (root / "out").symlink_to(tmp_path)
    (root / "out-file").symlink_to(tmp_path / "secret")
    (root / "dangling").symlink_to(tmp_path / "not-yet")
    (root / "in").symlink_to(root / "deep")
    (root / "loop").symlink_to(root / "loop")
    return root


@pytest.mark.parametrize("text", [".", "file", "deep/new/one", "in/x", "deep/../file", "%2e%2e/file", "..file", "a~"])
def test_what_is_inside_is_resolved(root: Path, text: str) -> None:
    assert inside(text, [str(root)]) == str((root / text).resolve())
    assert inside(str(root / text), [str(root)]) == str((root / text).resolve())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "..",
        "../secret",
        "deep/../../secret",
        "out",
        "out/secret",
        "out-file",
        "dangling",
        "in/../../secret",
        "loop/x",
        "/",
        "/etc/passwd",
        "//etc/passwd",
        "/proc/self/root/etc/passwd",
        "../root-neighbour",
        "~",
        "~/file",
        "~root/file",
        "file\0",
        "file:///etc/passwd",
        "FILE:file",
    ],
)
def test_what_is_outside_is_refused(root: Path, text: str) -> None:
    with pytest.raises(ToolFailed) as caught:
        inside(text, [str(root)])
    assert caught.value.code == OUTSIDE


def test_each_root_counts_and_none_means_nothing(root: Path, tmp_path: Path) -> None:
    assert inside(str(tmp_path / "secret"), [str(root), str(tmp_path)])
    with pytest.raises(ToolFailed):
        inside("file", [])


async def resolve(host: str, port: int) -> Sequence[str]:
    if host == "nowhere.example":
        raise OSError("no such name")
    return ["93.184.215.14"] if host == "good.example" else ["93.184.215.14", "127.0.0.1"]


async def test_arguments_are_replaced_where_they_are_guarded(root: Path) -> None:
    guards = (
        ArgumentGuard(argument="where.path", kind="path", roots=(str(root),)),
        ArgumentGuard(argument="urls", kind="url"),
        ArgumentGuard(argument="absent", kind="path", roots=(str(root),)),
    )
    given = {"where": {"path": "in/x", "kept": 1}, "urls": ["http://GOOD.example:8080/"], "more": [1]}
    assert await guarded(given, guards, resolve) == {
        "where": {"path": str(root / "deep" / "x"), "kept": 1},
        "urls": ["http://good.example:8080/"],
        "more": [1],
    }


@pytest.mark.parametrize(
    "given",
    [
        {"file.path": "/etc/shadow"},
        {"file.path": ["in/x", "/etc/shadow"]},
        {"file": {"path": "/etc/shadow"}},
        # The guard cannot know which of them the tool reads.
        {"file.path": "in/x", "file": {"path": "/etc/shadow"}},
        {"file": "/etc/shadow"},
    ],
)
async def test_a_name_with_a_dot_is_guarded_however_it_is_read(root: Path, given: dict[str, object]) -> None:
    guards = [ArgumentGuard(argument="file.path", kind="path", roots=(str(root),))]
    with pytest.raises(ToolFailed):
        await guarded(given, guards, resolve)
    assert await guarded({"file.path": "in/x"}, guards, resolve) == {"file.path": str(root / "deep" / "x")}


NESTED = {"properties": {"where": {"$ref": "#/$defs/Where"}}, "$defs": {"Where": {"properties": {"a.b": {}}}}}


@pytest.mark.parametrize(
    ("schema", "argument", "there"),
    [
        ({"properties": {"path": {"type": "string"}}}, "path", True),
        ({"properties": {"path": {"type": "string"}}}, "Path", False),
        ({"properties": {"path": {"type": "string"}}}, "path.inner", False),
        ({"path": {"type": "string"}}, "path", True),
        ({"anyOf": [{"properties": {"path": {}}}, {"properties": {"id": {}}}]}, "path", True),
        (NESTED, "where.a.b", True),
        (NESTED, "where.a", False),
        ({"properties": {"files": {"type": "array", "items": {"properties": {"path": {}}}}}}, "files.path", False),
        ({"$ref": "#"}, "path", False),
        ({}, "path", False),
    ],
)
def test_a_guard_names_an_argument(schema: dict[str, object], argument: str, there: bool) -> None:
    policy = ToolPolicy(guards=(ArgumentGuard(argument=argument, kind="path", roots=("/srv",)),))
    tool = Tool(name="t", description="", schema=schema, source="mcp:one", policy=policy)
    assert misnamed(tool) == ("" if there else argument)


@pytest.mark.parametrize("union", ["allOf", "anyOf"])
def test_a_guard_s_argument_is_looked_for_once_in_each_place(union: str) -> None:
    """In a chain of definitions, each of them three times the next: 3 ** levels ways lead to the last."""

    def seconds(levels: int) -> float:
        definitions: dict[str, object] = {f"a{n}": {union: [{"$ref": f"#/$defs/a{n + 1}"}] * 3} for n in range(levels)}
        definitions[f"a{levels}"] = {"properties": {"z": {}}}
        schema = {"type": "object", union: [{"$ref": "#/$defs/a0"}, {"$ref": "#"}], "$defs": definitions}
        taken = []
        for argument, there in (("path", False), ("z.path", False), ("z", True)):
            policy = ToolPolicy(guards=(ArgumentGuard(argument=argument, kind="path", roots=("/srv",)),))
            tool = Tool(name="t", description="", schema=schema, source="mcp:one", policy=policy)
            began = time.process_time()
            assert misnamed(tool) == ("" if there else argument)
            taken.append(time.process_time() - began)
        return max(taken)

    assert seconds(10) < 100 * max(seconds(2), 0.0005)
    seconds(40)


@pytest.mark.parametrize(
    "given",
    [
        {"url": "http://bad.example/"},
        {"url": "http://nowhere.example/"},
        {"url": ["http://good.example/", "http://127.0.0.1/"]},
        {"url": 7},
        {"url": {"x": 1}},
    ],
)
async def test_a_url_that_leads_inside_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ToolFailed):
        await guarded(given, [ArgumentGuard(argument="url", kind="url")], resolve)


async def test_a_url_is_held_to_the_hosts_that_are_named() -> None:
    guard = ArgumentGuard(argument="url", kind="url", hosts=("other.example",))
    with pytest.raises(ToolFailed):
        await guarded({"url": "http://good.example/"}, [guard], resolve)
