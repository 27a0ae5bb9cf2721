"""A real Prometheus scrapes a running gateway, and every query of dashboard and rules finds what it asks for."""

import json
import math
import re
import subprocess
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from deployments.telemetry.metrics import GAUGES
from pipelines.errors import ConfigurationError, Overloaded, PenstockError, Reason, ToolFailed
from pipelines.metering.instruments import INSTRUMENTS
from tests.deployments.house import House, client_of, url_of
from tests.deployments.prometheus import DOCS, Prometheus, prometheus
from tests.deployments.scrape import Samples, total, until
from tests.deployments.test_ledger import HELLO
from tests.programs import program
from tests.upstream import Fault, Upstream

CHAT = "/v1/chat/completions"
DASHBOARD = json.loads((DOCS / "grafana" / "dashboards" / "penstock.json").read_text())
RULES = [rule for group in yaml.safe_load((DOCS / "rules.yml").read_text())["groups"] for rule in group["rules"]]

VARIABLES = {"$__rate_interval": "1m", "$provider": ".*"}


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def asked_by_dashboard() -> list[str]:
    queries = [target["expr"] for panel in panels() for target in panel["targets"]]
    for name, value in VARIABLES.items():
        queries = [query.replace(name, value) for query in queries]
    return queries


def asked_by_rules() -> list[str]:
    """What is recorded; of what alerts the figures that are compared, for the whole is empty while all is well."""
    queries = [rule["expr"] for rule in RULES if "record" in rule]
    for rule in RULES:
        if "alert" in rule:
            parts = re.split(r"\s(?:and|or)\s", rule["expr"])
            queries += [re.split(r"\s(?:>|==)\s", part)[0] for part in parts]
    return queries


async def load(running: House, upstream: Upstream) -> None:
    """Something of everything that is counted: kinds of answers, failures, tools, a lost replica, feedback."""
    upstream.plan("m", Fault.answer(5), times=None)
    upstream.plan("wrong", Fault.server_error(), times=None)
    recorder = running.gateway.recorder
    assert recorder is not None
    recorder.tool("search", 0.2)
    recorder.lost_replica("flaky")
    async with client_of(running.gateway) as client:
        for _ in range(3):
            for model in ("simulator/fast", "flaky/m"):
                for stream in (True, False):
                    await client.post(CHAT, json={"model": model, "messages": HELLO, "stream": stream})
        await client.post(CHAT, json={"model": "flaky/wrong", "models": ["flaky/m"], "messages": HELLO})
        await client.post(CHAT, json={"model": "flaky/wrong", "messages": HELLO})
        await client.post(CHAT, content=b"{")
        answer = await client.post(CHAT, json={"model": "auto", "messages": HELLO})
        request = answer.headers["x-request-id"]
        told = await client.post("/v1/feedback", json={"request_id": request, "thumb": "up"})
        assert told.status_code == 200, told.text


async def test_every_query_finds_its_data(running: House, upstream: Upstream, tmp_path: Path) -> None:
    async with prometheus(tmp_path, url_of(running.gateway).removeprefix("http://")) as asked:
        for count in (1, 2):
            # What a counter begins with is no increase: a second load is.
            await load(running, upstream)
            async with client_of(running.gateway) as client:
                await until(client, partial(counted, 15 * count))
            await asked.until(f"sum(penstock_requests_total) == {15 * count}")
        await asked.until("penstock:failed:ratio_rate6h > 0")
        await asked.until("penstock_win_ratio")
        empty = [query for query in [*asked_by_dashboard(), *asked_by_rules()] if not await found(asked, query)]
        assert not empty, empty
        rules = await asked.rules()
        assert len(rules) == len(RULES)
        assert {rule["health"] for rule in rules} == {"ok"}, [rule.get("lastError") for rule in rules]
        states = {rule["name"]: rule["state"] for rule in rules if rule["type"] == "alerting"}
        assert {name for name, state in states.items() if state == "firing"} == set()


def counted(requests: int, found: Samples) -> bool:
    return total(found, "penstock_requests_total") == requests


async def found(asked: Prometheus, query: str) -> bool:
    """Whether there is a number: a quantile of nothing is none."""
    return any(not math.isnan(float(one["value"][1])) for one in await asked.query(query))


@pytest.mark.parametrize("arguments", [("check", "rules", "rules.yml"), ("test", "rules", "rules_test.yml")])
def test_the_rules_are_sound(arguments: tuple[str, ...]) -> None:
    command = [program("promtool", "prometheus"), *arguments]
    done = subprocess.run(command, cwd=DOCS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_fails_is_what_a_provider_or_we_did_wrong() -> None:
    """The rules list every such outcome of the tree of errors, and none of a caller's own."""
    callers = {"invalid_request", "not_found", "context_too_long", "content_policy"}
    keys = {"authentication", "permission"}
    own = {error("").label for error in (PenstockError, ConfigurationError, Overloaded, ToolFailed)}
    expected = own | {"lost", "guardrail_unavailable", "tool_unavailable"} | set(get_args(Reason)) - callers - keys
    ratios = [rule["expr"] for rule in RULES if rule.get("record", "").startswith("penstock:failed:")]
    assert len(ratios) == 4
    for ratio in ratios:
        listed = [set(found.split("|")) for found in re.findall(r'outcome=~"([^"]*)"', ratio)]
        assert listed == [expected, keys]


def test_every_alert_is_tested() -> None:
    tested = yaml.safe_load((DOCS / "rules_test.yml").read_text())["tests"]
    firing = {test["alertname"] for one in tested for test in one["alert_rule_test"] if test["exp_alerts"]}
    assert firing == {rule["alert"] for rule in RULES if "alert" in rule}


def test_what_is_asked_for_exists() -> None:
    """Every metric is on the dashboard, and no other."""
    names = {one.name for one in (*INSTRUMENTS, *GAUGES)}
    asked = " ".join([*asked_by_dashboard(), *(rule["expr"] for rule in RULES)])
    words = {re.sub(r"_(bucket|count|sum)$", "", word) for word in re.findall(r"\b(?:penstock|gen_ai)_[a-z_]+", asked)}
    labels = {label for one in INSTRUMENTS for label in one.labels}
    assert words - labels <= names
    shown = names - words
    assert shown <= {
        "penstock_error_ratio",
        "penstock_time_to_first_output_seconds",
        "penstock_tokens_per_second",
        "gen_ai_client_operation_duration_seconds",
    }


def test_the_dashboard_is_one() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in DASHBOARD["panels"])
    for file in (DOCS / "grafana" / "provisioning").rglob("*.yml"):
        assert yaml.safe_load(file.read_text())["apiVersion"] == 1
