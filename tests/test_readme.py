"""What the README says and no cluster is needed to see; `tests/cluster/test_readme.py` has the other examples."""

import asyncio
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from actors.keyring import Keyring
from deployments.choosing import MAX_FALLBACKS
from deployments.config import GatewaySettings, ProviderSettings, RetrySettings, TimeoutSettings
from deployments.http import reading
from deployments.providers import KINDS
from deployments.providers.attempt import MAX_ANSWER
from deployments.providers.simulator import SPEEDS, STATUSES, Wish
from deployments.reference import anchor, inserted, written
from deployments.settings.live_settings import altered
from deployments.starting.instance import SWITCHES
from pipelines.resilience import RULES
from pipelines.routing.strategies import STRATEGIES
from pipelines.routing.worth import WEIGHTS
from pipelines.version import VERSION
from tests.deployments.house import KEY, client_of, house, url_of
from tests.programs import program
from tests.readme import EXAMPLES, FENCES, ROOT, TEXT, example, run
from tests.test_floors import modules
from tests.upstream import Fault, UpstreamProcess, text_of

HERE = {
    "alias",
    "make a key",
    "change a key",
    "start",
    "python",
    "key",
    "by hand",
    "aliases",
    "trials",
    "scaling",
    "user config",
    "tool servers",
    "prometheus",
}
"""Examples that are tested here."""

HOUSE = {
    "example tools",
    "own tools",
    "tools configured",
    "list tools",
    "ask for tools",
    "decide",
    "route",
    "usage",
    "money",
    "cache",
    "guardrails",
    "guardrail",
    "command line",
    "live",
}
"""Examples that `tests/deployments/test_readme.py` runs."""

CLUSTER = ROOT / "tests" / "cluster" / "test_readme.py"


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading."""
    section = TEXT.partition(f" {heading}\n")[2]
    table = re.search(r"^\|.*?(?=^\n|\Z)", section, re.MULTILINE | re.DOTALL)
    assert table, heading
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table[0].splitlines()[2:]]


def words(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


def test_every_fence_but_the_picture_is_run_by_a_test() -> None:
    assert [code for name, kind, code in FENCES if not name and kind != "mermaid"] == []
    assert sum(name is not None for name, _, _ in FENCES) == len(EXAMPLES), "a name stands twice"
    there = set(re.findall(r'(?:run|example|said|answered)\(\w*,? ?"([a-z ]+)"', CLUSTER.read_text()))
    assert set(EXAMPLES) == HERE | HOUSE | there


def test_what_is_made_of_the_code_is_current() -> None:
    """In the README and in `docs`."""
    for file, text in written().items():
        assert file.read_text() == text, f"{file.name}: run `make docs`"


def test_a_page_without_markers_is_an_error() -> None:
    with pytest.raises(ValueError, match="marker"):
        inserted("no markers", metrics="| a table |")


def test_links_within_the_readme_lead_to_a_heading() -> None:
    prose = re.sub(r"^```.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL)
    headings = [anchor(title) for title in re.findall(r"^#+ (.+)$", prose, re.MULTILINE)]
    assert len(headings) == len(set(headings)), "two headings have one anchor"
    assert set(re.findall(r"\]\(#([^)]+)\)", prose)) <= set(headings)


def test_the_alias_is_the_command_line(tmp_path: Path) -> None:
    _, code = example("alias", {"$PWD/.venv/bin/python": sys.executable})
    script = f"shopt -s expand_aliases\n{code}\ncd {tmp_path}\npenstock --version\n"
    done = subprocess.run(["bash", "-euc", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"penstock {VERSION}\n"


def test_make_serve_starts_the_launcher() -> None:
    kind, code = example("start")
    assert kind == "bash"
    clone, enter, make = code.splitlines()
    assert clone.split()[-1] == enter.split()[-1]
    assert make == "make serve"
    # As though all were installed: what `make` would do then.
    command = [*make.split(), "-n", "-o", ".venv/.runtime"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "-m deployments.launch ray_config.yaml" in said


def test_the_adapters_work_without_ray(tmp_path: Path) -> None:
    with UpstreamProcess() as upstream:
        asked = {"OPENROUTER_BASE_URL": f"{upstream.url}/v1", "OPENROUTER_API_KEY": "sk-of-the-readme"}
        assert run("python", {**os.environ, **asked, "PYTHONPATH": str(ROOT)}, cwd=tmp_path) == text_of(Fault())
        (request,) = upstream.log().requests
    assert request.header("authorization") == "Bearer sk-of-the-readme"
    assert request.body["temperature"] == 0.2
    code = "import deployments.providers, sys; sys.exit('ray' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_key_can_be_added(tmp_path: Path) -> None:
    for count in (1, 2):
        key = run("key", {**os.environ, "PENSTOCK_STATE_DIR": str(tmp_path)}).strip()
        keys = Keyring(tmp_path).keys()
        assert len(keys) == count
        assert keys[-1].hash == hashlib.sha256(key.encode()).hexdigest()
    assert len(json.loads((tmp_path / "keys.json").read_text())) == 2


async def test_keys_are_made_and_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path, monkeypatch) as built:
        environment = {**os.environ, "PENSTOCK_API_KEY": KEY}

        async def said(name: str, times: int) -> list[dict[str, Any]]:
            """The JSON texts that an example prints, one after the other."""
            places = {"http://127.0.0.1:8000": url_of(built.gateway)}
            printed = await asyncio.to_thread(run, name, environment, places)
            found, end, decoder = [], 0, json.JSONDecoder()
            for _ in range(times):
                answer, end = decoder.raw_decode(printed, end)
                found.append(answer)
            assert end == len(printed)
            return found

        (made,) = await said("make a key", 1)
        assert (made["budget"]["month"], made["secret"][:4]) == ("50", "psk-")
        environment["KEY_ID"] = made["id"]
        shown, changed, rotated, revoked, listed = await said("change a key", 5)
        assert (shown["spent"]["total"], changed["streams"], changed["requests_per_minute"]) == ("0", 5, None)
        assert changed["budget"] == {"day": "4.5", "month": "50", "total": None}
        assert rotated["secret"] != made["secret"]
        assert (revoked["status"], [key["id"] for key in listed["data"]]) == ("revoked", [made["id"]])


def test_the_switches_are_those_of_make_serve() -> None:
    _, code = example("by hand")
    *exports, path, start = code.splitlines()
    assert dict(line.removeprefix("export ").split("=", 1) for line in exports) == SWITCHES
    assert (path, start) == ("export PYTHONPATH=$PWD", ".venv/bin/serve run ray_config.yaml")


def test_aliases_are_written_so() -> None:
    _, code = example("aliases")
    settings = GatewaySettings(**yaml.safe_load(code))
    assert len(settings.aliases) == 3
    told = {name for row in rows("Models, routing, fallbacks") for name in words(row[0])}
    assert told == set(STRATEGIES)


def test_trials_are_written_so() -> None:
    _, code = example("trials")
    settings = GatewaySettings(**yaml.safe_load(code)).trials
    assert (settings.shadow, settings.duel, settings.judge) == (0.05, 0.02, "openai/gpt-5")


def test_scaling_is_written_so() -> None:
    _, code = example("scaling")
    scaling = GatewaySettings(**yaml.safe_load(code)).autoscaling
    assert scaling is not None
    assert (scaling.min_replicas, scaling.max_replicas) == (2, 20)


def test_the_user_config_is_written_so() -> None:
    _, code = example("user config")
    written = yaml.safe_load(code)
    (gateway,), (provider,) = (written[name]["deployments"] for name in ("gateway", "openai"))
    assert altered(GatewaySettings(), gateway["user_config"]).hedge
    assert altered(ProviderSettings(kind="openai"), provider["user_config"]).timeouts.idle == 60
    table = dict(rows("Replicas by load, changes without a restart"))
    assert {name: words(live) for name, live in table.items()} == {
        "gateway": set(GatewaySettings.LIVE),
        "provider": set(ProviderSettings.LIVE),
    }


def test_the_policies_weights_are_those_of_the_table() -> None:
    written = {words(name).pop(): tuple(map(float, weights)) for name, *weights in rows("Learning")}
    assert written == {name: tuple(weights) for name, weights in WEIGHTS.items()}


def test_tool_servers_are_written_so() -> None:
    _, code = example("tool servers")
    sources = {spec.name: spec for spec in GatewaySettings(**yaml.safe_load(code)).tools.sources()}
    assert set(sources) == {"mcp:time", "mcp:files", "mcp:tracker", "openapi:shop", "fetch"}
    assert sources["mcp:tracker"].settings["policies"]["create_issue"]["requires_approval"]


async def test_prometheus_is_started_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the last line, which runs on: `test_prometheus` has it."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    start = 'prometheus --config.file=prometheus.yml --storage.tsdb.path="$HOME/.penstock/prometheus"'
    for name in ("prometheus", "promtool"):
        program(name)
    state = tmp_path / "state"
    state.mkdir()
    replaced = {start: "ls -l penstock.key", ".venv/bin/python": sys.executable}
    async with house(state, monkeypatch) as built:
        environment = {**os.environ, "PENSTOCK_API_KEY": KEY, "PENSTOCK_URL": url_of(built.gateway)}
        environment["PYTHONPATH"] = str(ROOT)
        assert "SUCCESS" in await asyncio.to_thread(run, "prometheus", environment, replaced, tmp_path)
        file = tmp_path / "docs" / "observability" / "penstock.key"
        assert file.stat().st_mode & 0o777 == 0o600
        headers = {"authorization": f"Bearer {file.read_text().strip()}"}
        async with client_of(built.gateway) as client:
            for path, status in (("/metrics", 200), ("/v1/keys", 403)):
                assert (await client.get(path, headers=headers)).status_code == status
            body = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}
            assert (await client.post("/v1/chat/completions", json=body, headers=headers)).status_code >= 400
            assert (await client.post("/v1/chat/completions", json=body)).status_code == 200


OF_OUR_OWN = {"account", "caller", "challenge", "outcome", "priority", "proof", "reason"}
"""Headers that only our own processes say to each other."""


def test_every_header_of_ours_is_listed() -> None:
    there = {name for path in modules() for name in re.findall(r'"x-penstock-([a-z]+)"', path.read_text())}
    section = TEXT.partition("\n## Models, routing, fallbacks\n")[2].partition("\n### ")[0]
    tables = "".join(re.findall(r"^\| (`.+?) \|", section, re.MULTILINE))
    assert set(re.findall(r"`x-penstock-([a-z]+)`", tables)) == there - OF_OUR_OWN


def test_every_command_of_make_is_listed() -> None:
    there = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    listed = {word.split()[1] for row in rows("Development") for word in words(row[0]) if word.startswith("make ")}
    assert listed == there - {"help", "serve"}
    (steps,) = re.findall(r"^for step in (.+); do$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    *most, last = (f"`make {step}`" for step in steps.split())
    assert f"`.ci/run` runs {', '.join(most)} and {last}" in TEXT


def test_every_variable_is_listed() -> None:
    listed = {word for row in rows("Environment") for word in words(row[0])}
    read = {"PORT", "LISTEN_PORT", "PENSTOCK_API_KEY", "PENSTOCK_STATE_DIR", "PENSTOCK_LEDGER_URL", "CONFIG", "PYTHON"}
    read |= {"PENSTOCK_URL", "PENSTOCK_RAY_DASHBOARD"}
    kinds = [kind for kind in KINDS.values() if not kind.SIMULATED]
    assert listed == read | {name for kind in kinds for name in (kind.KEY_VARIABLE, kind.URL_VARIABLE)}


def test_the_simulators_faults_are_listed() -> None:
    section = rows("The simulator")
    listed = {word.removeprefix("fault=") for row in section for word in words(row[0])}
    options = set(Wish.__struct_fields__) - {"model", "fault", "after", "retry_after"}
    late = {"reset", "silent", "cut", "stall", "malformed", "error", "no_done", "no_usage"}
    assert listed == options | set(STATUSES) | late
    assert all(f"`{model}`" in TEXT for model in SPEEDS)


def test_the_rules_of_retry_and_fallback_are_listed() -> None:
    told = {reason: row for row in rows("When things fail") for reason in words(row[0])}
    assert set(told) == set(RULES)
    for reason, rule in RULES.items():
        _, retry, fall_back = told[reason]
        assert (retry == "yes", not fall_back.startswith("no")) == (rule.retry, rule.fall_back), reason


def test_the_figures_are_those_of_the_code() -> None:
    provider, retry, timeouts = ProviderSettings(kind="local"), RetrySettings(), TimeoutSettings()
    for said in (
        f"{reading.MAX_BODY // 2**20} MiB, within {reading.BODY_SECONDS:g} s",
        f"{reading.MAX_DEPTH} levels",
        f"{reading.MAX_HEADERS}, {reading.MAX_HEADER_BYTES // 1024} KiB in all",
        f"`models` | {MAX_FALLBACKS} names",
        f"whole answer | {MAX_ANSWER // 2**20} MiB",
        f"{provider.concurrent:,}, and {provider.queued} waiting",
        f"{provider.concurrent:,} calls, {provider.queued} wait for {provider.patience:g} s",
        f"Tries: {retry.attempts}, full-jitter backoff from {retry.base:g} s to {retry.cap:g} s",
        f"honoured up to {retry.patience:g} s",
        f"connection {timeouts.connect:g} s, first event {timeouts.first_event:g} s (streams)",
        f"{timeouts.idle:g} s between events (pings do not count), {timeouts.total:g} s in all",
        f"up to {GatewaySettings().wait_for_replica:g} s (`wait_for_replica`)",
    ):
        assert said in TEXT


def test_what_is_said_of_the_licence_is_so() -> None:
    imported = [path for path in modules() if re.search(r"^(?:import|from) aiostream", path.read_text(), re.MULTILINE)]
    assert ("No module imports `aiostream`" in TEXT) == (not imported), "say in the README what is the case"


def test_every_dependency_is_listed() -> None:
    listed = {word for row in rows("Dependencies and licence") for word in words(row[0])}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = [project["project"]["dependencies"], *project["dependency-groups"].values()]
    assert listed == {re.split("[<>=]", name)[0] for group in groups for name in group} | {"uv"}


def test_links_lead_somewhere() -> None:
    assert all((ROOT / path).exists() for path in re.findall(r"\]\(([^):#]+)\)", TEXT))
