"""What an operator writes of functions, and installed packages that offer some."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from deployments.settings.tool_settings import ToolSettings
from deployments.starting import instance
from pipelines.errors import ConfigurationError
from tests.actors.toolshop import toolshop

MODULE = '''
"""Of an installed package."""
from pipelines.tools.functions import tool

@tool
def weigh(kilograms: float) -> str:
    """Weighs."""
    return f"{kilograms} kg"
'''


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A distribution with one entry point, as an installer leaves it."""
    tmp_path.chmod(0o755)
    (tmp_path / "scales.py").write_text(MODULE)
    about = tmp_path / "acme_scales-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-scales\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[penstock.tools]\nweigh = scales:weigh\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "acme-scales"


@pytest.mark.parametrize("every", [True, False])
async def test_an_installed_package_offers_its_tools(installed: str, tmp_path: Path, every: bool) -> None:
    settings = ToolSettings(packages=("*",) if every else (installed,))
    async with toolshop(tmp_path / "state", *settings.sources()) as shop:
        tool = shop.toolbox.catalogue.tool("weigh")
        assert tool is not None
        assert tool.source == "package:acme-scales"
        assert await shop.said("weigh", kilograms=2) == "2.0 kg"


def test_a_module_that_has_changed_is_another_source(installed: str, tmp_path: Path) -> None:
    settings = ToolSettings(functions=("scales:weigh", "no.such.module"))
    before = settings.sources()
    assert settings.sources() == before
    (tmp_path / "scales.py").write_text(MODULE + "\n")
    assert settings.sources() != before


def test_a_package_that_is_not_there_is_an_error_at_the_start() -> None:
    with pytest.raises(ConfigurationError, match="the package nothing-such is not installed"):
        ToolSettings(packages=("nothing-such",)).sources()


def test_nothing_configured_is_no_source() -> None:
    assert ToolSettings().sources() == ()


@pytest.mark.parametrize("users", [(0, 10), (20, 10), (-1, 5)])
def test_tools_never_run_as_root(users: tuple[int, int]) -> None:
    with pytest.raises(ValidationError, match="users are two numbers"):
        ToolSettings(users=users)


def test_the_configuration_names_variables_in_many_places() -> None:
    config = {
        "applications": [
            {"args": {"key_variable": "A", "keys": [{"variable": "B"}], "ledger": {"url_variable": "C"}}},
            {"args": {"tools": {"environment": ["D"], "mcp": {"x": {"env": {"TOKEN": "E"}, "headers": {"H": "F"}}}}}},
            {"args": {"name": "not", "aliases": {"env": ["this"]}, "listen": {"port": 1}}},
        ]
    }
    assert set(instance._variables(config)) == set("ABCDEF")
