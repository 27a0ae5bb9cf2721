"""What a program's processes use: CPU and memory of one process and all that descends from it.

Source: proc(5): `stat` (fields 14 and 15, clock ticks), `smaps_rollup` (Pss: what is shared is divided among those
who share it).

Above it: the benchmarks. Below it: `deployments.starting.processes`. Outside it: what the processes do.
"""

import os
import platform
import re
import subprocess
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from deployments.starting.processes import descendants, every

_TICKS = os.sysconf("SC_CLK_TCK")


class Use(NamedTuple):
    """CPU in seconds and PSS in bytes of one process."""

    pid: int
    name: str
    cpu: float
    memory: int


def family(root: int, but: str = "") -> list[int]:
    """The process `root` and all that descends from it now. but: a pattern of titles of those that are not meant."""
    return [root, *(one.pid for one in descendants(root) if not but or not re.match(but, one.command[0]))]


def cpu(pids: Iterable[int]) -> float:
    """Seconds of CPU that these processes have used so far; one that has ended counts 0."""
    return sum(map(_cpu, pids))


def uses(pids: Iterable[int]) -> list[Use]:
    """What each of these processes has used, the largest first."""
    names = {process.pid: _title(process.command) for process in every()}
    found = [Use(pid, names.get(pid, "?"), _cpu(pid), _pss(pid)) for pid in pids]
    return sorted(found, key=lambda use: -use.memory)


def pss(pids: Iterable[int]) -> int:
    """PSS in bytes of these processes together; one that has ended counts 0."""
    return sum(map(_pss, pids))


def _title(command: Sequence[str]) -> str:
    """A process by its title, or the module or script that an interpreter runs."""
    first, *rest = command
    if not first.rpartition("/")[2].startswith("python") or " " in first:
        return first.partition(" (")[0].rpartition("/")[2][-40:]
    named = next((word for word in rest if not word.startswith("-")), first)
    return named.rpartition("/")[2][-40:]


def _cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def description() -> dict[str, str]:
    """The machine, the versions and the revision that a result belongs to."""
    revision = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    cores = len(os.sched_getaffinity(0))
    versions = {name: metadata.version(name) for name in ("ray", "uvicorn", "uvloop", "aiohttp", "httptools")}
    return {
        "processor": _processor(),
        "cores": str(cores),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **versions,
        "revision": revision or "unknown",
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
