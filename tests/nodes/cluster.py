"""Penstock on several machines, started as `docs/vm.md` has it: `ray start` on each, then `serve deploy`.

The head runs the named actors and Serve's controller, and no replica; the workers have the gateway and two simulators,
`alpha` and `beta`, spread. The ledger is on PostgreSQL.

Above it: the scenarios. Below it: `machines`, `deployments.starting.instance`. Outside it: what is asked, and what goes
wrong.
"""

import contextlib
import copy
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from actors import administrator
from deployments.starting import instance as instances
from tests.actors.postgres import postgres
from tests.nodes.machines import Machine, Network, network
from tests.upstream import UpstreamProcess

KEY = "psk-of-the-nodes-tests"
ROOT = instances.ROOT
INGRESS, GATEWAY, ALPHA, BETA = 8000, 8100, 8101, 8102
CONTROL, REDIS, UPSTREAM = 6379, 6380, 9000
"""Ports; of Ray's GCS, and of Redis and the misbehaving upstream on the callers' machine."""

CALLERS = "CALLERS"
"""Stands in a configuration for the address of the callers' machine."""

START = 240.0
"""Seconds in which everything must be there, on a machine that others use too."""

Config = dict[str, Any]


def configuration(*, simulated: bool = True, patient: bool = True, **replicas: int) -> Config:
    """The gateway and two providers on every address of their machines. replicas: how many of each, 1 if not said.

    simulated: simulators, else both ask the misbehaving upstream, which gives the same answer to all. patient: with
    health checks that have more than the usual time.
    """
    provider: Config = {"kind": "simulator"}
    if not simulated:
        provider = {"kind": "local", "base_url": f"http://{CALLERS}:{UPSTREAM}/v1", "any_model": True}
    # All machines share this one's cores: Serve must not take a starved replica for one that hangs.
    common = {"drain": 120, "cpus": 0.1, "health_timeout": 10.0 if patient else 2.0}

    def application(name: str, port: int, /, **arguments: Any) -> Config:
        listen = {"host": "0.0.0.0", "port": port}
        return {
            "name": name,
            "route_prefix": "/" if name == "gateway" else f"/{name}",
            "import_path": "deployments.app:gateway" if name == "gateway" else "deployments.app:provider",
            "args": {"listen": listen, "replicas": replicas.get(name, 1), **common, **arguments},
        }

    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": INGRESS},
        "applications": [
            application("gateway", GATEWAY),
            application("alpha", ALPHA, name="alpha", **provider),
            application("beta", BETA, name="beta", **provider),
        ],
    }


def arguments(config: Config, name: str) -> Config:
    """The arguments of an application."""
    found: Config = next(one["args"] for one in config["applications"] if one["name"] == name)
    return found


class Cluster:
    """A head and workers with Penstock on them. config: what was deployed last."""

    def __init__(self, net: Network, directory: Path, workers: int, config: Config, ledger: str, **more: str) -> None:
        self.net = net
        self.directory = directory
        self.config = copy.deepcopy(config)
        self.head = net.machine()
        self.workers = [net.machine() for _ in range(workers)]
        self.redis = False
        self.upstream: UpstreamProcess
        self._more = {"PENSTOCK_LEDGER_URL": ledger, **more}
        self._processes: list[subprocess.Popen[bytes]] = []
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self._runs: list[Path] = []

    def up(self) -> None:
        """Everything, until requests are answered on every worker."""
        self.boot(self.head)
        self.until(lambda: self.rest("/api/serve/applications/") is not None or self._again(), "the head's dashboard")
        for worker in self.workers:
            self.boot(worker)
        self.until(lambda: self.nodes() == len(self.workers) + 1 or self._again(), "all nodes")
        self.deploy(self.config)
        self.settled()

    def boot(self, machine: Machine) -> None:
        """`ray start` on a machine, as its service manager would."""
        state, own = self.directory / "state", self.directory / machine.name
        for folder in (state, own):
            instances.make_state(folder)
        if machine is self.head:
            administrator.write_keys(own, KEY)
        run = Path(tempfile.mkdtemp(prefix="penstock-", dir="/tmp"))
        self._runs.append(run)
        place = ["--head", f"--port={CONTROL}", f"--dashboard-host={machine.address}", "--num-cpus=0"]
        if machine is not self.head:
            place = [f"--address={self.head.address}:{CONTROL}", "--num-cpus=4"]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--disable-usage-stats"]
        if machine is not self.head or not self.redis:
            command.append("--block")  # else it would end the head as soon as its GCS is gone
        command += [f"--node-ip-address={machine.address}", f"--temp-dir={run}", "--object-store-memory=80000000"]
        # The same path on all machines, and on each its own directory there: `ip netns exec` gives own mounts.
        command = ["sh", "-c", f'mount --bind {own} {state} && exec "$@"', "sh", *command]
        log = self.directory / f"{machine.name}.log"
        self.start(machine, [*command, *place], self._environment(machine, state, run), log)

    def _again(self) -> bool:
        """Boot the machines again on which `ray start` has failed: it waits 30 s and no longer. False."""
        for machine in self.net.machines:
            began = self._started.get(machine.name)
            if began is not None and began.poll():
                machine.kill()
                self.boot(machine)
        return False

    def start(self, machine: Machine, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        """Start a program on a machine, for as long as the cluster lives."""
        process = machine.start(command, environment, log)
        self._processes.append(process)
        self._started[machine.name] = process

    def _environment(self, machine: Machine, state: Path, run: Path) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PENSTOCK_"))}
        made = instances.environment({**kept, **self._more}, state, run, self.config)
        made.pop("RAY_enable_worker_prestart", None)
        if self.redis and machine is self.head:
            made["RAY_REDIS_ADDRESS"] = f"{self.net.address}:{REDIS}"
        return {**made, **self._token()}

    def _token(self) -> dict[str, str]:
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "of-the-nodes-tests"}

    def deploy(self, config: Config) -> None:
        """`serve deploy` from the callers' machine. AssertionError, with what it says, where it fails."""
        self.config = copy.deepcopy(config)
        file = self.directory / "deployed.yaml"
        file.write_text(yaml.safe_dump(config).replace(CALLERS, self.net.address))
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        address = f"http://{self.head.address}:8265"
        done = subprocess.run(
            [sys.executable, "-m", "ray.serve.scripts", "deploy", "-a", address, str(file)],
            env={**kept, **self._token()},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def rest(self, path: str) -> Any:
        """What the head's REST API answers; None where it does not."""
        return _get(self.head.address, 8265, path, self._token()["RAY_AUTH_TOKEN"])

    def nodes(self) -> int:
        """How many nodes Ray says are alive."""
        found = self.rest("/api/v0/nodes") or {}
        rows = found.get("data", {}).get("result", {}).get("result", [])
        return sum(row.get("state") == "ALIVE" for row in rows)

    def statuses(self) -> dict[str, str]:
        """The applications and how Serve says that they are."""
        found = (self.rest("/api/serve/applications/") or {}).get("applications", {})
        return {name: str(one["status"]) for name, one in found.items()}

    def providers(self) -> dict[str, int]:
        """The replicas that a gateway knows of, by provider; empty where none answers."""
        found = self.page("/v1/providers") or {"data": ()}
        return {entry["name"]: entry["replicas"] for entry in found["data"]}

    def page(self, path: str, key: str = KEY) -> Any:
        """A page of the first gateway that answers; None where none does."""
        found = (_get(worker.address, GATEWAY, path, key) for worker in self.workers)
        return next((page for page in found if page is not None), None)

    def replicas(self, application: str) -> set[int]:
        """The processes of an application, wherever they are."""
        return {pid for machine in self.net.machines for pid in machine.replicas(application)}

    def gateways(self) -> list[str]:
        """Addresses of the machines on which a gateway's replica listens."""
        return [one.address for one in self.workers if _get(one.address, GATEWAY, "/healthz", KEY) is not None]

    def settled(self, seconds: float = START) -> None:
        """Until every application runs, and the gateway knows of every provider's replicas."""
        names = {one["name"] for one in self.config["applications"]}

        def ready() -> bool:
            if {name for name, status in self.statuses().items() if status == "RUNNING"} != names:
                return False
            known = self.providers()
            return all(known.get(name) for name in names - {"gateway"}) and all(map(self._open, self.workers))

        def seen() -> str:
            ingresses = {one.address: _said(one.address, INGRESS, "/readyz", KEY) for one in self.workers}
            return f"applications: {self.statuses()}, providers: {self.providers()}, /readyz: {ingresses}"

        self.until(ready, seen, seconds)

    def _open(self, machine: Machine) -> bool:
        """Whether a machine has an ingress that answers, or no replica, for then Serve starts none there."""
        return not machine.processes("ServeReplica") or _get(machine.address, INGRESS, "/readyz", KEY) is not None

    def until(self, condition: Callable[[], object], what: str | Callable[[], str], seconds: float = START) -> float:
        """Seconds until the condition is true. AssertionError if it takes longer."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > seconds:
                raise AssertionError(f"not within {seconds:g} s: {what if isinstance(what, str) else what()}")
            time.sleep(0.2)
        return time.monotonic() - began

    def tell(self) -> None:
        """The last lines of the nodes' logs, for somebody who looks for what went wrong; Serve's are kept beside."""
        kept = Path(tempfile.mkdtemp(prefix="nodes-kept-"))
        for log in self.directory.glob("*.log"):
            text = log.read_text(errors="replace")
            (kept / log.name).write_text(text)
            print(f"--- {kept / log.name}\n{text[-1500:]}", flush=True)
        for number, run in enumerate(self._runs):
            for logs in run.glob("session_2*/logs/serve"):
                shutil.copytree(logs, kept / f"serve-{number}", dirs_exist_ok=True)

    def end(self) -> None:
        """Kill the nodes; the network takes their processes away."""
        for machine in self.net.machines:
            machine.kill()
        for process in self._processes:
            process.wait()
        for run in self._runs:
            shutil.rmtree(run, ignore_errors=True)


def _get(host: str, port: int, path: str, token: str) -> Any:
    try:
        status, body = _asked(host, port, path, token)
        if status != 200:
            return None
        return json.loads(body) if body[:1] in (b"{", b"[") else body
    except (OSError, http.client.HTTPException, ValueError):
        return None


def _said(host: str, port: int, path: str, token: str) -> str:
    """The same in words, for people."""
    try:
        status, body = _asked(host, port, path, token)
        return f"{status} {body[:200].decode(errors='replace')}"
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"


def _asked(host: str, port: int, path: str, token: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(host, port, timeout=3)
    try:
        connection.request("GET", path, headers={"authorization": f"Bearer {token}"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@contextlib.contextmanager
def cluster(workers: int, config: Config, *, redis: bool = False, **more: str) -> Iterator[Cluster]:
    """A running Penstock. redis: behind the GCS, on the callers' machine; more: variables of its processes."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nodes-")))
        ledger = stack.enter_context(postgres()).new_database("penstock")
        made = Cluster(stack.enter_context(network()), directory, workers, config, ledger, **more)
        made.redis = redis
        made.upstream = stack.enter_context(UpstreamProcess(UPSTREAM, made.net.address))
        if redis:
            stack.enter_context(_redis(made.net.address, directory))
        began = time.monotonic()
        try:
            made.up()
            print(f"\n{workers} workers and a head are up after {time.monotonic() - began:.0f} s", flush=True)
            yield made
        except BaseException:
            made.tell()
            raise
        finally:
            made.end()


@contextlib.contextmanager
def _redis(address: str, directory: Path) -> Iterator[None]:
    """A Redis of our own, from the distribution's package."""
    command = ["redis-server", "--bind", address, "--port", str(REDIS), "--protected-mode", "no", "--save", ""]
    with (directory / "redis.log").open("wb") as log, subprocess.Popen(command, stdout=log, cwd=directory) as process:
        try:
            yield
        finally:
            process.kill()
