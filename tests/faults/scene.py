"""A launched Penstock with two providers, whose upstreams misbehave in a process of their own.

`primary` speaks OpenAI's wire, `second` Anthropic's: each is the other's fallback. `simulator` is there as a provider
that needs nobody, `swift` has the fast upstream of the benchmarks, where one is asked for.

Above it: the parts. Below it: `tests.cluster.running`, `tests.upstream`. Outside it: what is asked.
"""

import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from deployments.starting import processes
from deployments.starting.instance import INTERNAL_PORTS
from tests.cluster.running import KEY, ROOT, Running, environment, free_ports
from tests.upstream import UpstreamProcess

TIMEOUTS = {"connect": 5.0, "first_event": 3.0, "idle": 3.0, "total": 8.0}
"""Seconds; as short as cases that need silence want them."""

LONG = {**TIMEOUTS, "first_event": 60.0, "idle": 60.0, "total": 600.0}
"""For cases in which only the caller or a process is at fault."""

CONTEXTS = {"context-small": 8_192, "context-tiny": 4_096, "context-large": 1_000_000}
"""Models whose context is known, in tokens."""


class Provider(NamedTuple):
    """One of the providers that are put to the test."""

    name: str
    wire_path: str
    """Where its upstream is asked."""


PRIMARY = Provider("primary", "/v1/chat/completions")
SECOND = Provider("second", "/v1/messages")
PROVIDERS = (PRIMARY, SECOND)


class Scene:
    """What runs: `running`, and the upstream of `primary` and `second`."""

    def __init__(self, running: Running, upstream: UpstreamProcess) -> None:
        self.running = running
        self.upstream = upstream

    def replicas(self, application: str) -> list[int]:
        """The processes of an application's replicas, by their shared port."""
        return self.holders(self.running._ports[application])

    def holders(self, port: int) -> list[int]:
        """The processes that listen on a port."""
        return [process.pid for process in processes.holders(port)]

    def named(self, prefix: str) -> list[int]:
        """The processes whose command begins with `prefix`, or whose name it is."""
        found = self.running.processes()
        return [p.pid for p in found if p.command[0].startswith(prefix) or p.name == prefix]


def configuration(
    upstream: str,
    *,
    replicas: int = 1,
    timeouts: dict[str, float] = TIMEOUTS,
    swift: str = "",
    models: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """A Serve configuration file. upstream, swift: base URLs; replicas: of the gateway and of each provider; models:
    what is known of further ones.
    """
    known = [*({"name": name, "context": context} for name, context in CONTEXTS.items()), *models]
    common = {"replicas": replicas, "timeouts": timeouts, "models": known, "any_model": True, "drain": 120}
    urls = {"primary": ("openai", f"{upstream}/v1"), "second": ("anthropic", upstream)}
    if swift:
        urls["swift"] = ("openai", f"{swift}/v1")
    arguments: list[tuple[str, dict[str, Any]]] = [
        (name, {"kind": kind, "name": name, "base_url": url, **common}) for name, (kind, url) in urls.items()
    ]
    arguments.append(("simulator", {"kind": "simulator", "replicas": replicas}))
    applications: list[dict[str, Any]] = [
        {
            "name": "gateway",
            "route_prefix": "/",
            "import_path": "deployments.app:gateway",
            "args": {"replicas": replicas, "drain": 120, "listen": {"port": 8100}},
        }
    ]
    for number, (name, given) in enumerate(arguments):
        applications.append(
            {
                "name": name,
                "route_prefix": f"/{name}",
                "import_path": "deployments.app:provider",
                "args": {**given, "listen": {"port": 8101 + number}},
            }
        )
    return {"http_options": {"host": "127.0.0.1", "port": 8000}, "applications": applications}


@contextlib.contextmanager
def swift_upstream() -> Iterator[str]:
    """The URL of an upstream that does nothing wrong and costs next to nothing (`bench.upstream`)."""
    command = [sys.executable, "-m", "bench.upstream"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


class Options(NamedTuple):
    """The command line: only cases whose name holds `only`; fewer of everything; where logs are kept, "" nowhere;
    requests of the soak, kills of the audit, 0: as many as usual.
    """

    only: str = ""
    quick: bool = False
    keep: str = ""
    requests: int = 0
    runs: int = 0


@contextlib.contextmanager
def scene(given: Options, *, variables: Mapping[str, str] = MappingProxyType({}), **settings: Any) -> Iterator[Scene]:
    """A Scene from the first banner to the last process's end. variables: further ones of its environment; settings:
    as `configuration` takes them.
    """
    with UpstreamProcess() as upstream, tempfile.TemporaryDirectory(prefix="faults-") as directory:
        first = free_ports(20)
        # Serve's own ports are chosen long before they are bound: another start beside this one would choose the same.
        internal = {name: str(first + 12 + number) for number, name in enumerate(INTERNAL_PORTS)}
        secrets = {"OPENAI_API_KEY": "sk-test-faults", "ANTHROPIC_API_KEY": "sk-test-faults"}
        state = Path(directory, "state")
        more = {**secrets, **internal, **variables}
        running = Running(
            Path(directory),
            environment(state, first, first + 1, PENSTOCK_API_KEY=KEY, **more),
            configuration(upstream.url, **settings),
        )
        try:
            running.wait()
            print(f"\nPenstock is up after {running.up - running.began:.1f} s: {running.url}")
            yield Scene(running, upstream)
        finally:
            # A launcher that does not stop is one of the things that may go wrong here.
            with contextlib.suppress(AssertionError):
                print(f"stopped in {running.stop()[1]:.1f} s", flush=True)
            if given.keep:
                shutil.copytree(state / "logs", given.keep, dirs_exist_ok=True)
            running.end()
