"""The misbehaving upstream as a child process, driven over its control endpoint.

Above it: tests that are not asynchronous, `make faults`. Below it: `server`, subprocess.
Outside it: what the faults do.
"""

import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Self

import msgspec

from tests.upstream.fault import Fault
from tests.upstream.server import Log, Plan

ROOT = Path(__file__).resolve().parents[2]


class UpstreamProcess:
    """A context manager: started on entry, ended on exit. port: 0 for any."""

    def __init__(self, port: int = 0, host: str = "127.0.0.1") -> None:
        self.port = port
        self._host = host
        self.url = ""
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.upstream", "--host", self._host, "--port", str(self.port)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            self.__exit__()
            raise RuntimeError(f"the upstream did not start on port {self.port}")
        self.port = int(self.url.rpartition(":")[2])
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.communicate()

    def plan(self, key: str, *faults: Fault, times: int | None = 1) -> None:
        """As `Upstream.plan`."""
        self._call("/_plan", msgspec.json.encode(Plan(key, list(faults), times)))

    def reset(self) -> None:
        """As `Upstream.reset`."""
        self._call("/_reset", b"{}")

    def log(self) -> Log:
        """As `Upstream.log`."""
        return msgspec.json.decode(self._call("/_log", None), type=Log)

    def _call(self, path: str, body: bytes | None) -> bytes:
        with urllib.request.urlopen(self.url + path, data=body, timeout=10) as response:
            content: bytes = response.read()
        return content
