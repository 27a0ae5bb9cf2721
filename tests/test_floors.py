"""The house stands: imports only ever go down, and each floor keeps out what is not its own."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("pipelines", "actors", "deployments")
"""From the ground up."""

FOREIGN = {
    "pipelines": {"ray", "httpx", "aiohttp", "uvicorn", "socket", "time", "datetime", "pathlib", "os", "io", "asyncio"},
    "actors": {"httpx", "aiohttp", "uvicorn", "socket", "starlette"},
    "deployments": set(),
}
"""What a floor must not import."""

ONLY_IN = {"aiostream": "pipelines/stages.py", "serve.deployment": "deployments/app.py"}


def modules() -> list[Path]:
    return sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_only_go_down(path: Path) -> None:
    floor = path.relative_to(ROOT).parts[0]
    above = FLOORS[FLOORS.index(floor) + 1 :]
    for name in imported(path):
        top = name.split(".")[0]
        assert top not in above, f"{path} looks up to {name}"
        assert top not in {"tests", "bench"}
        assert top not in FOREIGN[floor], f"{name} has no place in {floor}"
        assert top != "aiostream" or str(path.relative_to(ROOT)) == ONLY_IN["aiostream"]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_tells_its_room_and_stays_small(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "no docstring"
    assert len(text.splitlines()) <= 400
    if path.name != "app.py":
        assert "serve.deployment(" not in text, f"only {ONLY_IN['serve.deployment']} wraps for Serve"


def rooms_below(path: Path) -> list[str]:
    """What the docstring of a module says in backquotes between "Below it:" and the next room, or the end."""
    told = " ".join((ast.get_docstring(ast.parse(path.read_text())) or "").split())
    found = re.search(r"Below it: (.*?)(?:\. (?:Above|Outside)|\.?$)", told)
    return re.findall(r"`([\w.]+)`", found.group(1)) if found else []


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_stands_below_a_module_is_imported(path: Path) -> None:
    """A package imports what its modules do. A module that is started by its name is written so: `"a.module"`."""
    texts = [one.read_text() for one in (path.parent.rglob("*.py") if path.name == "__init__.py" else [path])]
    nodes = [node for text in texts for node in ast.walk(ast.parse(text))]
    known = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            known |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            known.add(node.value)
    for name in rooms_below(path):
        assert any(f".{name}." in f".{one}." for one in known), f"{name} stands below, but is not imported"


def test_no_function_is_longer_than_fifty_lines() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.name} ({(node.end_lineno or 0) - node.lineno + 1} lines)"
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno + 1 > 50
    ]
    assert not long, long


def test_the_packages_are_listed() -> None:
    listed = (ROOT / "pyproject.toml").read_text()
    packages = {".".join(path.parent.relative_to(ROOT).parts) for path in modules() if path.name == "__init__.py"}
    assert all(f'"{package}"' in listed for package in packages), sorted(packages)
