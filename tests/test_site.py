"""The pages of `docs` build without a warning, lead somewhere, load nothing from elsewhere, and agree with the code."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from actors.administrator import ensure_keys
from actors.keyring import Keyring
from actors.pulse import SILENCE
from bench import sizing
from deployments.config import GatewaySettings, ProviderSettings
from deployments.reference import PAGE, page
from deployments.starting.log_files import MOST, MOST_FILES
from deployments.telemetry import request_log, trouble_log

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = {path.name: path.read_text() for path in sorted(DOCS.glob("*.md"))}
RULES = yaml.safe_load((DOCS / "observability" / "rules.yml").read_text())
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule}

FENCE = re.compile(r"^(?P<indent> *)```(?P<kind>\w*)\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)

Fences = list[tuple[str, str]]


def fences(kind: str) -> Fences:
    """The page and the code of each fence of a kind."""
    return [
        (name, found["code"]) for name, text in PAGES.items() for found in FENCE.finditer(text) if found["kind"] == kind
    ]


def fence(name: str, mark: str) -> str:
    """The one fence of a page after a mark."""
    (code,) = re.findall(rf"<!-- test: {mark} -->\n```\w+\n(.*?)^```$", PAGES[name], re.MULTILINE | re.DOTALL)
    return str(code)


def built(docs: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """What the site's builder says of a folder of pages."""
    config = site.with_suffix(".yml")
    text = (ROOT / "mkdocs.yml").read_text().replace("docs_dir: docs", f"docs_dir: {docs}")
    config.write_text(text.replace("site_dir: site", f"site_dir: {site}"))
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(config)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("pages") / "site"
    done = built(DOCS, target)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return target


def test_every_page_is_built(site: Path) -> None:
    assert {path.stem for path in site.glob("*.html")} - {"404", "search"} == {Path(name).stem for name in PAGES}
    assert (site / "kubernetes" / "penstock.yaml").exists()


@pytest.mark.parametrize(
    "link", ["[x](nowhere.md)", "[x](tls.md#nowhere)", "[x](vm/nowhere.yaml)", "![x](nowhere.svg)"]
)
def test_a_link_that_leads_nowhere_is_noticed(tmp_path: Path, link: str) -> None:
    shutil.copytree(DOCS, tmp_path / "docs")
    with (tmp_path / "docs" / "laptop.md").open("a") as file:
        file.write(f"\n{link}\n")
    assert built(tmp_path / "docs", tmp_path / "site").returncode != 0


def test_no_key_beside_the_pages_is_published(tmp_path: Path) -> None:
    shutil.copytree(DOCS, tmp_path / "docs")
    (tmp_path / "docs" / "observability" / "penstock.key").write_text("psk-x")
    assert built(tmp_path / "docs", tmp_path / "site").returncode == 0
    assert not list((tmp_path / "site").rglob("*.key"))


def test_a_page_loads_nothing_from_elsewhere(site: Path) -> None:
    loaded = re.compile(r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']([^"']+)|<link\b[^>]*\bhref=["']([^"']+)""")
    for path in site.rglob("*.html"):
        for found in loaded.findall(path.read_text()):
            assert not urlsplit(found[0] or found[1]).netloc, (path.name, found)
    for path in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", path.read_text()), path.name


def test_links_to_elsewhere_have_the_form_of_one() -> None:
    for name, text in PAGES.items():
        for url in re.findall(r"\]\((\w+:[^)\s]*)\)", FENCE.sub("", text)):
            parts = urlsplit(url)
            assert parts.scheme == "https", (name, url)
            assert re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", parts.netloc), (name, url)


def test_every_alert_has_its_section_and_says_so() -> None:
    sections = re.findall(r"^## (\w+)$", PAGES["runbook.md"], re.MULTILINE)
    assert sections == list(ALERTS), "in the order of the rules"
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"


def test_what_alerts_name_is_there(site: Path) -> None:
    html = (site / "runbook.html").read_text()
    assert all(f'id="{name.lower()}"' in html for name in ALERTS)


def test_the_runbook_has_every_outcome_that_fails() -> None:
    (failing,) = {
        "|".join(re.findall(r'outcome=~"([^"]*)"', rule["expr"]))
        for group in RULES["groups"]
        for rule in group["rules"]
        if rule.get("record", "").startswith("penstock:failed:")
    }
    table = PAGES["runbook.md"].partition("| outcome |")[2].partition("\n\n")[0]
    listed = {
        word for cell in re.findall(r"^    \| (`.+?) \|", table, re.MULTILINE) for word in re.findall(r"`(\w+)`", cell)
    }
    assert listed == set(failing.split("|"))
    assert f"is killed after {SILENCE:g} s" in PAGES["runbook.md"]


def test_the_sizes_of_logs_are_those_of_the_code() -> None:
    mib = 2**20
    for said in (
        f"{request_log.MAX_FILE // mib} MiB at most, and three older files (`.1` to `.{request_log.KEPT_FILES}`)",
        f"{trouble_log.MAX_FILE // mib} MiB at most, and one older file",
        f"beyond {MOST // mib} MiB or {MOST_FILES} files",
        f"beyond {request_log.MAX_WAITING:,} that wait",
    ):
        assert said in PAGES["logs.md"], said


def test_costs_are_summed_so(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    lines = {
        "gateway-1": '{"lane":"routed","cost":0.25}\n{"lane":"routed"}\n{"tool":"clock"}\n',
        "openai-2": '{"lane":"hop","cost":0.25}\n{"lane":"direct","cost":0.5}\n',
    }
    for name, text in lines.items():
        (tmp_path / "logs" / f"{name}.jsonl").write_text(text)
    assert _run(fence("logs.md", "sum"), tmp_path) == "0.75\n"


def test_the_administrators_key_is_changed_so(tmp_path: Path) -> None:
    ensure_keys(tmp_path)
    (old,) = Keyring(tmp_path).keys()
    _run(fence("security.md", "administrator").replace(".venv/bin/python", sys.executable), tmp_path)
    (new,) = Keyring(tmp_path).keys()
    key = (tmp_path / "administrator.key").read_text().strip()
    assert new.hash == hashlib.sha256(key.encode()).hexdigest() != old.hash
    assert (new.id, new.admin) == ("administrator", True)


def _run(code: str, state: Path) -> str:
    environment = {**os.environ, "PENSTOCK_STATE_DIR": str(state)}
    command = ["bash", "-euo", "pipefail", "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def test_a_page_of_settings_without_the_environment_is_an_error() -> None:
    with pytest.raises(ValueError, match="environment"):
        page("no such section")


@pytest.mark.parametrize("settings", [GatewaySettings, ProviderSettings])
def test_every_setting_is_on_it(settings: Any) -> None:
    text = PAGE.read_text()
    assert [name for name in settings.model_fields if f"| `{name}` |" not in text] == []


def test_the_dashboards_views_are_those_of_the_page() -> None:
    views = ROOT / "deployments" / "dashboard" / "static"
    titles = {
        title
        for path in (views / "views").glob("*.js")
        for title in re.findall(r'^export const title = "(.+)";$', path.read_text(), re.MULTILINE)
    }
    table = PAGES["dashboard.md"].partition("| view |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| (\w+) \|", table, re.MULTILINE)) == titles


@pytest.mark.parametrize("code", fences("bash"), ids=lambda found: found[0])
def test_commands_are_well_formed(code: tuple[str, str]) -> None:
    done = subprocess.run(["bash", "-n"], input=code[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_litellm_configuration_is_imported_so(tmp_path: Path) -> None:
    model = {"model_name": "gpt", "litellm_params": {"model": "openai/gpt-5", "api_key": "os.environ/OPENAI_API_KEY"}}
    (tmp_path / "litellm.yaml").write_text(yaml.safe_dump({"model_list": [model]}))
    line, start = fence("litellm.md", "import").splitlines()
    assert start == "CONFIG=penstock.yaml make serve"
    command = line.replace("penstock", f"{sys.executable} -m deployments.cli", 1)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(["bash", "-euc", command], cwd=tmp_path, env=environment, check=True)
    found = yaml.safe_load((tmp_path / "penstock.yaml").read_text())
    assert [one["name"] for one in found["applications"]] == ["gateway", "openai"]


MEASURED = {
    "about": {"processor": "X", "cores": "2", "python": "3.11", "ray": "2.60.0", "revision": "abc"},
    "figures": [
        {"scenario": "s200: 200 streams", "target": "no gateway", "cpu": 1.0},
        {"scenario": "s200: 200 streams", "target": "routed lane, own listener", "cpu": 50.0},
        {"scenario": "unary, 16 callers", "target": "routed lane, own listener", "cpu": 250.0},
        {"scenario": "unary, 16 callers", "target": "direct lane, own listener", "cpu": 125.0},
    ],
}


def test_the_table_of_sizes_is_made_of_what_was_measured() -> None:
    made = sizing.table(MEASURED)
    assert "| routed lane, own listener | 50 | 400 | 250 | 4,000 |" in made
    assert "| direct lane, own listener | – | – | 125 | 8,000 |" in made
    assert "no gateway" not in made
    written = sizing.inserted(PAGES["sizing.md"], made)
    assert sizing.inserted(written, "x").replace("x\n\n<!-- bench: end", "") != written
    assert written.count(sizing.END) == 1
    assert made in written
    with pytest.raises(ValueError, match="marker"):
        sizing.inserted("no markers", made)
