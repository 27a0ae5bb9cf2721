"""The image's recipe, the manifests and the machines' files are valid, hold no secret, and agree with the code."""

import configparser
import copy
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import ray
import yaml
from pydantic import BaseModel
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.serve.schema import ServeDeploySchema

from deployments.app import DRAINING_PERIOD
from deployments.config import GatewaySettings, ProviderSettings
from deployments.front import HEALTH_PAGES
from deployments.launch import DRAIN_LIMIT, SHUTDOWN_LIMIT
from deployments.starting.instance import SWITCHES, load
from tests.kuberay import RAY_SERVICE

ROOT = Path(__file__).resolve().parents[1]
CONTAINERFILE = (ROOT / "Containerfile").read_text()
MANIFEST = ROOT / "docs" / "kubernetes" / "penstock.yaml"
KUBERNETES = "1.37"

ON_ONE_MACHINE = "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S"
"""The one switch of `make serve` that is not for behind a load balancer."""

SWITCHED = {name: value for name, value in SWITCHES.items() if name != ON_ONE_MACHINE}

SECRET = re.compile(r"KEY|PASSWORD|TOKEN|SECRET|LEDGER_URL")


def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(MANIFEST.read_text()))


def service() -> dict[str, Any]:
    (found,) = (one for one in documents() if one["kind"] == "RayService")
    return found


def templates(of: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = of["spec"]["rayClusterConfig"]
    return [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster["workerGroupSpecs"])]


def check(document: dict[str, Any]) -> None:
    """Raises where a document is not what the API server takes (strictly: an unknown field is an error)."""
    if document["kind"] != "RayService":
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
        return
    jsonschema.validate(document, RAY_SERVICE)
    for template in templates(document):
        kubernetes_validate.validate(
            {"apiVersion": "v1", "kind": "PodTemplate", "template": template}, KUBERNETES, strict=True
        )


# The image.


def linted(text: str) -> str:
    command = [str(Path(sys.executable).with_name("hadolint")), "--no-color", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False).stdout


def test_the_images_recipe_is_clean() -> None:
    assert linted(CONTAINERFILE) == ""


@pytest.mark.parametrize(
    ("good", "bad", "rule"),
    [
        ("python:3.11-slim-bookworm AS base", "python AS base", "DL3006"),
        ("USER 10001", "USER root", "DL3002"),
        ("WORKDIR /opt/penstock", "WORKDIR penstock", "DL3000"),
    ],
)
def test_the_linter_sees_what_it_should(good: str, bad: str, rule: str) -> None:
    assert good in CONTAINERFILE
    assert rule in linted(CONTAINERFILE.replace(good, bad))


def test_what_runs_in_the_image_is_what_make_serve_runs() -> None:
    settings = dict(re.findall(r"^(?:ENV|   ) ([A-Za-z_]+)=(\S+)", CONTAINERFILE, re.MULTILINE))
    assert settings.items() >= SWITCHED.items()
    assert settings["PENSTOCK_STATE_DIR"] == "/var/lib/penstock"
    assert not [name for name in settings if SECRET.search(name)]
    ports = {application["args"]["listen"]["port"] for application in _config("ray_config.yaml")["applications"]}
    (exposed,) = re.findall(r"^EXPOSE (.+)$", CONTAINERFILE, re.MULTILINE)
    assert set(map(int, exposed.split())) == ports | {8000}
    assert CONTAINERFILE.rstrip().endswith("USER 10001"), "the image that is built unless another is asked for"
    assert "--require-hashes" in CONTAINERFILE


def test_everything_that_the_image_copies_is_sent_to_its_builder() -> None:
    copied = {
        name for line in re.findall(r"^COPY (?!--)(.+) \S+$", CONTAINERFILE, re.MULTILINE) for name in line.split()
    }
    ignored = (ROOT / ".containerignore").read_text().splitlines()
    assert copied == {line[1:] for line in ignored if line.startswith("!")}
    assert all((ROOT / name).exists() for name in copied)
    assert {"*", "**/*.key"} <= set(ignored)


def _config(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


# Kubernetes.


@pytest.mark.parametrize("document", documents(), ids=lambda document: document["kind"])
def test_every_document_is_valid(document: dict[str, Any]) -> None:
    check(document)


@pytest.mark.parametrize(
    "place",
    [
        ("spec",),
        ("spec", "rayClusterConfig"),
        ("spec", "rayClusterConfig", "authOptions"),
        ("spec", "rayClusterConfig", "headGroupSpec"),
        ("spec", "rayClusterConfig", "workerGroupSpecs", 0, "template", "spec"),
        ("spec", "rayClusterConfig", "workerGroupSpecs", 0, "template", "spec", "containers", 0, "livenessProbe"),
    ],
)
def test_a_field_that_does_not_exist_is_noticed(place: tuple[Any, ...]) -> None:
    wrong = found = copy.deepcopy(service())
    for step in place:
        found = found[step]
    found["replicaz"] = 1
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError), match="replicaz"):
        check(wrong)


def test_the_applications_are_ours_and_valid() -> None:
    config = ServeDeploySchema.model_validate(yaml.safe_load(service()["spec"]["serveConfigV2"]))
    for application in config.applications:
        kind = {"deployments.app:gateway": GatewaySettings, "deployments.app:provider": ProviderSettings}
        settings = kind[application.import_path](**application.args)
        assert application.route_prefix == ("/" if application.name == "gateway" else f"/{application.name}")
        (deployment,) = application.deployments
        assert deployment.name == ("Gateway" if application.name == "gateway" else "Provider")
        assert settings.replicas > 1
    assert service()["spec"]["rayClusterConfig"]["rayVersion"] == ray.__version__


def test_no_secret_stands_in_the_manifest() -> None:
    for template in templates(service()):
        for container in template["spec"]["containers"]:
            literal = [one["name"] for one in container["env"] if "value" in one]
            assert not [name for name in literal if SECRET.search(name)]
            assert all("secretKeyRef" in one["valueFrom"] for one in container["env"] if "value" not in one)


def test_pods_have_no_rights_that_they_do_not_need() -> None:
    for template in templates(service()):
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert f"--uid {pod['securityContext']['runAsUser']} " in CONTAINERFILE
        for container in pod["containers"]:
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_a_pod_that_goes_has_time_for_its_streams() -> None:
    (_, worker) = templates(service())
    longest = DRAINING_PERIOD + GatewaySettings().drain + 15.0
    environment = {one["name"]: one.get("value", "") for one in worker["spec"]["containers"][0]["env"]}
    drained = float(environment["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
    assert longest < drained < worker["spec"]["terminationGracePeriodSeconds"]
    assert service()["spec"]["rayClusterDeletionDelaySeconds"] > longest


def test_ready_and_alive_are_asked_apart() -> None:
    head, worker = (template["spec"]["containers"][0] for template in templates(service()))
    ready = worker["readinessProbe"]["httpGet"]
    assert (ready["path"], ready["port"]) == ("/readyz", 8000)
    alive = worker["livenessProbe"]["exec"]["command"]
    assert alive[:3] == ["python", "-IS", "/opt/penstock/deployments/starting/probe.py"]
    assert alive[-1] == "?http://127.0.0.1:8100/healthz"
    assert {"/readyz", "/healthz"} == HEALTH_PAGES
    assert "/readyz" not in str(head["readinessProbe"]), "the operator deploys nothing before the head is ready"
    assert worker["livenessProbe"]["periodSeconds"] * worker["livenessProbe"]["failureThreshold"] >= 60


# Logs and metrics on Kubernetes.

LOGS = yaml.safe_load((ROOT / "docs" / "kubernetes" / "logs.yaml").read_text())


def written(mark: str) -> Any:
    """What a fence of the page about Kubernetes says."""
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    (code,) = re.findall(rf"<!-- test: {mark} -->\n```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return yaml.safe_load(code)


def test_the_sidecar_fits_into_the_manifest() -> None:
    check(LOGS)
    sidecar = written("sidecar")
    with_sidecar = copy.deepcopy(service())
    for template in templates(with_sidecar):
        assert all(volume in sidecar["volumes"] for volume in template["spec"]["volumes"]), "it takes none away"
        template["spec"].update(sidecar)
        (main,), (logs,) = template["spec"]["containers"], template["spec"]["initContainers"]
        assert (logs["image"], logs["securityContext"]) == (main["image"], main["securityContext"])
        assert logs["volumeMounts"][0].items() >= main["volumeMounts"][0].items(), "the same state"
        assert logs["restartPolicy"] == "Always"
    check(with_sidecar)
    logs["restartPolici"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError, match="restartPolici"):
        check(with_sidecar)


def test_the_sidecar_passes_on_every_line_once(tmp_path: Path) -> None:
    program, logs = tmp_path / "tail.py", tmp_path / "logs"
    program.write_text(LOGS["data"]["tail.py"])
    logs.mkdir()
    one, other = logs / "gateway-1.jsonl", logs / "openai-2.log"
    one.write_text('{"n":0}\n')
    command = [sys.executable, "-IS", str(program), str(logs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, one.open("a") as handle:
        assert process.stdout is not None
        while not _catches(process.pid, signal.SIGTERM):  # what is there when it begins was passed on already
            time.sleep(0.01)
        handle.write('{"n":1}\n{"n":')
        handle.flush()
        assert process.stdout.readline() == '{"n":1}\n'
        handle.write("2}\n")
        handle.flush()
        one.rename(logs / "gateway-1.jsonl.1")
        one.write_text('{"n":3}\n')
        assert sorted(process.stdout.readline() for _ in range(2)) == ['{"n":2}\n', '{"n":3}\n']
        other.write_text("a warning\n")
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "a warning\n"
    assert process.returncode == 0


def _catches(process: int, number: int) -> bool:
    """Whether a process has said what it does on that signal (proc(5), SigCgt)."""
    (mask,) = re.findall(r"^SigCgt:\s+(\w+)$", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    return bool(int(mask, 16) >> (number - 1) & 1)


def test_prometheus_asks_the_service_once() -> None:
    config = yaml.safe_load((ROOT / "docs" / "observability" / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    (static,) = written("scrape")["static_configs"]
    assert static.keys() == job["static_configs"][0].keys()
    assert static["targets"] == [f"{service()['metadata']['name']}-serve-svc.penstock:8000"]


# Machines.


def test_the_machines_file_is_valid() -> None:
    config = yaml.safe_load((ROOT / "docs" / "vm" / "cluster.yaml").read_text())
    validate_config(prepare_config(copy.deepcopy(config)))
    with pytest.raises(jsonschema.ValidationError, match="setup_comands"):
        validate_config(prepare_config({**config, "setup_comands": []}))
    starts = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    assert all(line.startswith(". ~/penstock/docs/vm/environment.sh && ") for line in starts)


def test_every_machine_is_told_the_same(tmp_path: Path) -> None:
    (tmp_path / ".penstock").mkdir()
    (tmp_path / ".penstock" / "secrets.sh").write_text("export OPENAI_API_KEY=sk-x\n")
    command = f". {ROOT}/docs/vm/environment.sh && env"
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    said = subprocess.run(["/bin/sh", "-euc", command], env=environment, capture_output=True, text=True, check=True)
    told = dict(line.split("=", 1) for line in said.stdout.splitlines())
    assert told.items() >= SWITCHED.items()
    assert ON_ONE_MACHINE not in told
    assert told["OPENAI_API_KEY"] == "sk-x"


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's names have capitals
    parser.read_string((ROOT / "docs" / "vm" / name).read_text())
    return parser


def test_systemd_gives_the_launcher_time_to_stop() -> None:
    service = unit("penstock.service")["Service"]
    program, *words = shlex.split(service["ExecStart"])
    assert program == f"{service['WorkingDirectory']}/.venv/bin/python"
    said = subprocess.run(["make", "-n", "-o", ".venv/.runtime", "serve"], cwd=ROOT, capture_output=True, text=True)
    assert shlex.join([".venv/bin/python", *words]) in said.stdout
    assert service["ExecStartPre"] == "/usr/bin/make .venv/.runtime"
    assert float(service["TimeoutStopSec"]) > DRAIN_LIMIT + SHUTDOWN_LIMIT
    podman = (ROOT / "docs" / "laptop.md").read_text()
    assert f"--stop-timeout {service['TimeoutStopSec']}" in podman
    assert f"open streams get {DRAIN_LIMIT:g} s" in podman


def test_systemd_starts_a_node_as_ray_up_does() -> None:
    service = unit("penstock-node.service")["Service"]
    shell, option, line = shlex.split(service["ExecStart"])
    assert (shell, option) == ("/bin/sh", "-c")
    (_, start) = yaml.safe_load((ROOT / "docs" / "vm" / "cluster.yaml").read_text())["worker_start_ray_commands"]
    assert line.replace("exec ray start --block", "ray start").replace("10.0.0.10", "$RAY_HEAD_IP") == start.replace(
        f"ulimit -n {service['LimitNOFILE']} && ", ""
    )
    environment = (ROOT / "docs" / "vm" / "environment.sh").read_text()
    (drained,) = re.findall(r"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=(\d+)", environment)
    assert int(drained) < int(service["TimeoutStopSec"])


def test_the_small_configuration_is_one() -> None:
    config = load(ROOT / "docs" / "small.yaml")
    settings: dict[str, type[BaseModel]] = {
        "deployments.app:gateway": GatewaySettings,
        "deployments.app:provider": ProviderSettings,
    }
    for application in config["applications"]:
        settings[application["import_path"]].model_validate(application["args"])


# The probe.


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 503)
        self.end_headers()

    def log_request(self, code: object = "-", size: object = "-") -> None:
        pass


def probe(*urls: str) -> tuple[int, str]:
    command = [sys.executable, "-IS", str(ROOT / "deployments" / "starting" / "probe.py"), *urls]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_the_probe_asks_every_page() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert probe(f"{url}/healthz", f"?{url}/healthz") == (0, "")
        assert probe(f"{url}/healthz", f"{url}/readyz") == (1, f"{url}/readyz: 503\n")
        assert probe(f"?{url}/readyz") == (1, f"?{url}/readyz: 503\n")
        server.shutdown()
    assert probe(f"{url}/healthz") == (1, f"{url}/healthz: nobody listens\n")
    assert probe(f"?{url}/healthz") == (0, "")
    assert probe() == (1, "no URL\n")
