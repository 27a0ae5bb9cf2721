"""A Penstock that was started as `make serve` starts it, and what can be known of it from outside.

`Running` starts the launcher in a process group of its own, reads the banner as a person would, and stops it with
Ctrl-C. Processes are told by `PENSTOCK_STATE_DIR` in their environment, which all of them inherit.

Above it: `conftest`, the tests here. Below it: `deployments.starting.processes`, PyYAML. Outside it: what is asked of
it.
"""

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any, TypeVar

import yaml

from deployments.starting import processes

ROOT = Path(__file__).resolve().parents[2]
KEY = "psk-of-the-cluster-tests"
SECRET = "sk-test-secret-Zq81vYt0"
"""A provider's key: it must not stand in any file."""

PROMPT = "heliotrope-marmalade"
"""Stands in every prompt: it must not stand in any log."""

CONCURRENT, QUEUED = 2, 1
"""Limits of the application `tiny`."""

ABSENT = "PENSTOCK_TEST_ABSENT_KEY"
"""The variable that the application `keyless` wants and does not get."""

START_LIMIT = 240.0
STOP_LIMIT = 60.0
"""Seconds from Ctrl-C to the launcher's end."""

_T = TypeVar("_T")


def until(found: Callable[[], _T], seconds: float, what: str) -> _T:
    """The first value of `found()` that is true, asked every 50 ms. AssertionError after `seconds`."""
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)
    return value


def free_ports(count: int) -> int:
    """The first of `count` ports in a row that nobody holds, below Ray's, Serve's and the kernel's own ranges."""
    while True:
        first = random.randrange(12_000, 28_000)
        if all(free(port) for port in range(first, first + count)):
            return first


def free(port: int) -> bool:
    """Whether nobody listens on a port, on whatever address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
            probe.listen()
        except OSError:
            return False
    return True


def simulator(name: str, port: int, **settings: Any) -> dict[str, Any]:
    """One more application: a simulator."""
    return {
        "name": name,
        "route_prefix": f"/{name}",
        "import_path": "deployments.app:provider",
        "args": {"kind": "simulator", "name": name, "listen": {"port": port}, **settings},
    }


def configuration() -> dict[str, Any]:
    """The project's own configuration with a simulator that is soon full, and an unconfigured bargain."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "ray_config.yaml").read_text())
    bargain = {"name": "bargain", "context": 1_000_000, "input_price": 0, "output_price": 0, "quality": 1.0}
    keyless = simulator("keyless", 8107, key_variable=ABSENT, models=[bargain])
    keyless["args"]["kind"] = "anthropic"
    config["applications"][0]["args"]["tools"] = {"functions": ["tests.cluster.weather_tools"]}
    config["applications"] += [simulator("tiny", 8106, concurrent=CONCURRENT, queued=QUEUED), keyless]
    return config


def environment(state: Path, port: int, listen_port: int, **more: str) -> dict[str, str]:
    """This process's environment without its providers and its Ray, with the ports and the state directory."""
    unwanted = re.compile(r"RAY_|PENSTOCK_|\w+_(API_KEY|BASE_URL)$|PYTHONPATH$|PORT$")
    kept = {name: value for name, value in os.environ.items() if not unwanted.match(name)}
    own = {"PORT": str(port), "LISTEN_PORT": str(listen_port), "PENSTOCK_STATE_DIR": str(state)}
    return {**kept, **own, **more}


class Running:
    """A launched Penstock. url, key, dashboard and ray (Ray's dashboard) are what its banner says.

    began, up: when it was started and when its banner was read, by `time.monotonic()`; elsewhere: the share of the
    machine's time that meanwhile went to other programs.
    """

    def __init__(self, directory: Path, environment: dict[str, str], config: dict[str, Any]) -> None:
        self.state = Path(environment["PENSTOCK_STATE_DIR"])
        self.environment = environment
        self.config = directory / "config.yaml"
        self.config.write_text(yaml.safe_dump(config))
        self.output = directory / "output"
        self.began = self.up = time.monotonic()
        self.elsewhere = 0.0
        with self.output.open("wb") as output:
            self._process = launch(environment, self.config, output)
        self._at_start = _machine()
        self.url = self.key = self.dashboard = self.ray = ""
        self._ports: dict[str, int] = {}

    def wait(self) -> None:
        """Until the banner is there. AssertionError, with what was said, if it never comes."""
        said = until(lambda: self._said() if "Ctrl-C" in self._said() or self.ended else "", START_LIMIT, "a banner")
        found = re.search(r"URL +(http://\S+)/v1\n", said)
        assert found, said
        self.url = found[1]
        self.key = _after("API key", said)
        self.dashboard = _after("dashboard", said)
        self.ray = _after("Ray", said)
        self.up = time.monotonic()
        busy, total = (now - then for now, then in zip(_machine(), self._at_start, strict=True))
        own = sum(_ticks(pid) for pid in (self._process.pid, *(process.pid for process in self.processes())))
        self.elsewhere = max(0.0, busy - own) / total
        written = yaml.safe_load((self.state / "serve_config.yaml").read_text())
        for application in written["applications"]:
            self._ports[application["name"]] = application["args"].get("listen", {}).get("port", 0)

    @property
    def ended(self) -> bool:
        """Whether the launcher has ended."""
        return self._process.poll() is not None

    @property
    def port(self) -> int:
        """The ingress's port."""
        return int(self.url.rpartition(":")[2])

    @property
    def ports(self) -> list[int]:
        """Every port for callers."""
        return [self.port, *filter(None, self._ports.values())]

    def listener(self, application: str = "gateway") -> str:
        """The URL of an application's own listener."""
        return f"http://127.0.0.1:{self._ports[application]}"

    def replica(self, application: str) -> int:
        """The process of an application's replica; 0 while there is none."""
        held = processes.holders(self._ports[application])
        return held[0].pid if held else 0

    def router(self) -> int:
        """The router actor's process; 0 while there is none."""
        return self.actor("Router")

    def actor(self, name: str) -> int:
        """The process of the actor whose class is named so (its beginning will do); 0 while there is none."""
        return next((p.pid for p in self.processes() if p.command[0].startswith(f"ray::{name}")), 0)

    def workshops(self) -> list[int]:
        """Processes that make those of contained calls; they know nothing of the state directory."""
        below = processes.descendants(self._process.pid)
        return [process.pid for process in below if "actors.tools.workshop" in process.command]

    def processes(self) -> list[processes.Process]:
        """Every living process of this Penstock, the launcher and zombies left out."""
        found = [p for p in processes.every() if p.state != "Z" and p.pid != self._process.pid]
        # A long title may overwrite the environment of one of Ray's.
        titled = {p.pid for p in processes.descendants(self._process.pid) if " ".join(p.command).startswith("ray::")}
        return [process for process in found if process.pid in titled or _inherits(process.pid, self.state)]

    def gcs_address(self) -> str:
        """Ray's address, as a job names it."""
        words = [word for process in self.processes() for word in process.command]
        return next(word.partition("=")[2] for word in words if word.startswith("--gcs-address="))

    def memory(self) -> dict[int, int]:
        """Bytes of memory of each process (resident, without what it shares with files)."""
        return {process.pid: _anonymous(process.pid) for process in self.processes()}

    def logs(self) -> list[Path]:
        """Every file that it writes or has written, its state directory and Ray's session, but the credentials."""
        marker = self.state / "run"
        folders = [self.state, *([Path(marker.read_text().strip())] if marker.exists() else [])]
        files = (path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
        return [path for path in files if path.parent.name != "credentials"]

    def stop(self) -> tuple[int, float]:
        """Ctrl-C; the exit code and the seconds that it took. AssertionError after STOP_LIMIT."""
        began = time.monotonic()
        self._process.send_signal(signal.SIGINT)
        try:
            code = self._process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not ended {STOP_LIMIT:g} s after Ctrl-C: {self._said()[-2000:]}") from None
        return code, time.monotonic() - began

    def end(self) -> None:
        """Kill whatever is still there."""
        for pid in (self._process.pid, *(process.pid for process in self.processes())):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def _said(self) -> str:
        return self.output.read_text(errors="replace")


def launch(environment: dict[str, str], config: Path, output: IO[bytes] | int) -> subprocess.Popen[bytes]:
    """Start the launcher in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "deployments.launch", str(config)],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def holding(words: Iterable[str], files: Iterable[Path]) -> list[str]:
    """Which of `words` stands in which of `files`."""
    found = []
    for file in files:
        try:
            content = file.read_bytes()
        except OSError:
            continue
        found += [f"{word} in {file}" for word in words if word.encode() in content]
    return found


def _after(label: str, text: str) -> str:
    found = re.search(rf"^ *{label} +(\S+)(?: {{3}}\(.*\))?$", text, re.MULTILINE)
    return found[1] if found else ""


def _inherits(pid: int, state: Path) -> bool:
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return f"PENSTOCK_STATE_DIR={state}".encode() in words


def _anonymous(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)


def _machine() -> tuple[int, int]:
    """Clock ticks that all processors have worked, and worked or idled (proc(5), /proc/stat)."""
    user, nice, system, idle, waiting, *interrupts = map(
        int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
    )
    busy = user + nice + system + sum(interrupts)
    return busy, busy + idle + waiting


def _ticks(pid: int) -> int:
    """Clock ticks of a process and of its children that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(map(int, fields[11:15]))
