"""What is measured: the upstream itself, Penstock by its four ways in, and bare Ray Serve in the same cluster.

Above it: `bench.__main__`, the regression guard in the tests. Below it: the launcher, `bench.machine`,
`bench.upstream`.
Outside it: what is asked of them.
"""

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import yaml

from bench import machine
from deployments.starting.processes import descendants

ROOT = Path(__file__).resolve().parents[1]
KEY = "psk-bench"
START_SECONDS = 300.0
REPORTED_SECONDS = 2.0
"""By when a page of metrics tells what has happened: reports go every quarter of a second, pages are kept for one."""

CHAT = "/v1/chat/completions"

BARE = r"ray::ServeReplica:bare-"
OURS = r"ray::(?:(?:Router|Ledger|Replays)Actor|ServeReplica:(?!bare-))"
"""Titles of the processes that only the one or the other needs."""


class Target(NamedTuple):
    """One way to an answer. prefix: before the model's name; headers: what it wants besides the key.

    Its processes are `root` and what it has started, but for the others' whose titles match `but`: of what stands in
    the same cluster only Ray and Serve are everybody's. metrics: where it tells its own numbers. load: the module that
    asks it; that of the handles has Ray's address for a url.
    """

    name: str
    url: str
    prefix: str = ""
    key: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    root: int = 0
    but: str = ""
    metrics: str = ""
    load: str = "bench.load"

    def processes(self) -> list[int]:
        """The ids of its processes now; none where nothing is to be counted."""
        return machine.family(self.root, self.but) if self.root else []

    def waited(self) -> tuple[float, float]:
        """Seconds that answers have waited for the ledger so far, and how many have; zeros where that is not told."""
        if not self.metrics:
            return 0.0, 0.0
        time.sleep(REPORTED_SECONDS)
        page = httpx.get(self.metrics, headers={"authorization": f"Bearer {self.key}"}, trust_env=False, timeout=30.0)
        seconds, count = (
            sum(map(float, re.findall(rf"^penstock_ledger_wait_seconds_{word}\S* (\S+)", page.text, re.MULTILINE)))
            for word in ("sum", "count")
        )
        return seconds, count


def free_ports(count: int) -> list[int]:
    """Ports that nobody holds now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]


@contextlib.contextmanager
def upstream() -> Iterator[Target]:
    """The fake upstream in a process of its own."""
    command = [sys.executable, "-m", "bench.upstream"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Target("no gateway", process.stdout.readline().strip() + CHAT)
        finally:
            process.kill()


def configuration(base: str, ports: list[int], *, bare: bool, replicas: int = 1, providers: int = 1) -> dict[str, Any]:
    """A Serve configuration: gateway, one provider, and beside them bare Serve. ports: ingress, gateway, provider.

    replicas: of the gateway, and of the provider; providers: in all, though one alone is asked.
    """
    listen = [{"host": "127.0.0.1", "port": port} for port in ports[1:]]
    arguments = {"kind": "local", "name": "bench", "base_url": f"{base}/v1", "any_model": True}
    limits = {"concurrent": 5000, "queued": 500, "replicas": replicas}
    applications = [
        _application("gateway", "/", "deployments.app:gateway", {"listen": listen[0], **limits}),
        _application("bench", "/bench", "deployments.app:provider", {**arguments, "listen": listen[1], **limits}),
    ]
    for number in range(1, providers):
        name = f"other-{number}"
        applications.append(_application(name, f"/{name}", "deployments.app:provider", {**arguments, "name": name}))
    if bare:
        applications += [_application(f"bare-{name}", f"/bare-{name}", f"bench.bare:{name}") for name in ("one", "two")]
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": "127.0.0.1", "port": ports[0]},
        "applications": applications,
    }


def _application(name: str, route: str, path: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
    application: dict[str, Any] = {"name": name, "route_prefix": route, "import_path": path}
    return {**application, "args": arguments} if arguments else application


@contextlib.contextmanager
def penstock(
    directory: Path, base: str, *, bare: bool = True, replicas: int = 1, providers: int = 1
) -> Iterator[list[Target]]:
    """Penstock as `make serve` starts it, in front of the upstream at `base`. The rest as for `configuration`."""
    *ports, bare_one, bare_two = free_ports(5)
    config = directory / "config.yaml"
    config.write_text(yaml.safe_dump(configuration(base, ports, bare=bare, replicas=replicas, providers=providers)))
    state = directory / "state"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PENSTOCK_"))},
        "PENSTOCK_STATE_DIR": str(state),
        "PENSTOCK_API_KEY": KEY,
        "BENCH_UPSTREAM": base,
        "BENCH_BARE_PORTS": f"{bare_one},{bare_two}",
    }
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "deployments.launch", str(config)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    local = "http://127.0.0.1"
    own = Target("", "", key=KEY, root=process.pid, but=BARE, metrics=f"{local}:{ports[0]}/metrics")
    targets = [
        own._replace(name="direct lane, own listener", url=f"{local}:{ports[2]}{CHAT}"),
        own._replace(name="routed lane, own listener", url=f"{local}:{ports[1]}{CHAT}", prefix="bench/"),
        own._replace(name="direct lane, ingress", url=f"{local}:{ports[0]}/bench{CHAT}"),
        own._replace(name="routed lane, ingress", url=f"{local}:{ports[0]}{CHAT}", prefix="bench/"),
    ]
    if bare:
        other = Target("", "", root=process.pid, but=OURS)
        targets += [
            other._replace(name="bare Serve, one listener", url=f"{local}:{bare_one}{CHAT}"),
            other._replace(name="bare Serve, two listeners", url=f"{local}:{bare_two}{CHAT}"),
        ]
    try:
        for target in targets:
            answers(target, process)
        yield targets
    finally:
        process.terminate()
        process.wait(60.0)


def by_handle(routed: Target) -> Target:
    """The routed lane as another Ray job reaches it."""
    words = [word for process in descendants(routed.root) for word in process.command]
    address = next(word.partition("=")[2] for word in words if word.startswith("--gcs-address="))
    return routed._replace(name="routed lane, handle", url=address, load="bench.handle")


def answers(target: Target, process: "subprocess.Popen[bytes]") -> None:
    """Wait until a target answers. RuntimeError if it never does, or its process ends."""
    body = {"model": f"{target.prefix}u-16", "messages": [{"role": "user", "content": "ready?"}]}
    headers = dict(target.headers)
    if target.key:
        headers["authorization"] = f"Bearer {target.key}"
    until = time.monotonic() + START_SECONDS
    said = ""
    while time.monotonic() < until and process.poll() is None:
        try:
            answer = httpx.post(target.url, json=body, headers=headers, timeout=5.0, trust_env=False)
            if answer.status_code == 200:
                return
            said = f"{answer.status_code} {answer.text[:200]}"
        except httpx.HTTPError as error:
            said = str(error)
        time.sleep(0.2)
    raise RuntimeError(f"{target.name} does not answer: {said}")
