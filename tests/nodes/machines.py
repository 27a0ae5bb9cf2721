"""Machines of the tests' own: network namespaces on a bridge, each with an address, processes and a link to cut.

Source: ip-netns(8), ip-link(8). Names hold this process's id, so that two runs do not meet.

Above it: `cluster`. Below it: `ip` (iproute2), `deployments.starting.processes`. Outside it: what runs on them.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from deployments.starting import processes

SUBNETS = range(64, 128)
"""Third byte of 10.77.x.0/24: one a run."""


def ip(*words: str) -> str:
    """What `ip` says. RuntimeError, with its complaint, where it fails."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


class Machine:
    """One machine: `name`, `address`; its link to the bridge can be cut."""

    def __init__(self, name: str, address: str, bridge: str, number: int) -> None:
        self.name = name
        self.address = address
        self._outside = f"{bridge}n{number}"
        inside = f"{bridge}i{number}"
        ip("netns", "add", name)
        ip("link", "add", self._outside, "type", "veth", "peer", "name", inside)
        ip("link", "set", inside, "netns", name)
        ip("link", "set", self._outside, "master", bridge, "up")
        ip("-n", name, "addr", "add", f"{address}/24", "dev", inside)
        ip("-n", name, "link", "set", inside, "up")
        ip("-n", name, "link", "set", "lo", "up")

    def start(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
        """Start a program on this machine; what it says goes to the end of `log`."""
        with log.open("ab") as output:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.name, *command],
                env=dict(environment),
                cwd="/",  # Ray puts the directory of `ray start` before every path of its workers
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def processes(self, command: str = "") -> list[processes.Process]:
        """Its living processes whose command line holds `command`."""
        pids = map(int, ip("netns", "pids", self.name).split())
        found = (processes.read(pid) for pid in pids)
        return [one for one in found if one and one.state != "Z" and command in " ".join(one.command)]

    def replicas(self, application: str) -> list[int]:
        """The processes of an application's replicas on it."""
        return [process.pid for process in self.processes(f"ServeReplica:{application}:")]

    def yields(self, command: str) -> None:
        """The processes whose command line holds `command` leave the cores, which all machines share, to the others."""
        for process in self.processes(command):
            with contextlib.suppress(OSError):
                for thread in Path(f"/proc/{process.pid}/task").iterdir():
                    os.setpriority(os.PRIO_PROCESS, int(thread.name), 19)

    def kill(self, command: str = "", number: signal.Signals = signal.SIGKILL) -> int:
        """A signal to every process on it whose command line holds `command`; how many there were."""
        found = self.processes(command)
        for process in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)
        return len(found)

    def link(self, up: bool) -> None:
        """Connect it, or cut it off: nothing comes in or goes out, and nobody is told."""
        ip("link", "set", self._outside, "up" if up else "down")

    def end(self) -> None:
        """Kill what is on it until nothing is, and take it away."""
        until = time.monotonic() + 20.0
        while self.kill() and time.monotonic() < until:
            time.sleep(0.1)
        ip("netns", "del", self.name)


class Network:
    """The bridge, on which this process's own machine has the address `address`."""

    def __init__(self) -> None:
        self._bridge = f"pn{os.getpid() % 100_000}"
        taken = ip("-4", "-o", "addr")
        third = next(number for number in SUBNETS if f"10.77.{number}." not in taken)
        self._prefix = f"10.77.{third}"
        self.address = f"{self._prefix}.254"
        self.machines: list[Machine] = []
        ip("link", "add", self._bridge, "type", "bridge")
        ip("addr", "add", f"{self.address}/24", "dev", self._bridge)
        ip("link", "set", self._bridge, "up")

    def machine(self) -> Machine:
        """One more machine."""
        number = len(self.machines) + 1
        made = Machine(f"{self._bridge}-{number}", f"{self._prefix}.{number}", self._bridge, number)
        self.machines.append(made)
        return made

    def end(self) -> None:
        """Take everything away."""
        for machine in self.machines:
            with contextlib.suppress(RuntimeError):
                machine.end()
        ip("link", "del", self._bridge)


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """A network for as long as it is needed."""
    made = Network()
    try:
        yield made
    finally:
        made.end()
