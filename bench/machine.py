"""What a program's processes use: CPU and memory of all that a variable in their environment marks.

Source: proc(5): `stat` (fields 14 and 15, clock ticks), `smaps_rollup` (Pss: what is shared is divided among those
who share it).

Above it: the benchmarks. Below it: `deployments.starting.processes`. Outside it: what the processes do.
"""

import os
import platform
import subprocess
from collections.abc import Iterable
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


def marked(mark: str) -> list[int]:
    """The processes in whose environment `mark` (`NAME=value`) stands."""
    found = []
    for process in every():
        try:
            words = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if mark.encode() in words:
            found.append(process.pid)
    return found


def family(root: int) -> list[int]:
    """The process `root` and what descends from it: of programs that overwrite their environment with a title."""
    return [root, *(process.pid for process in descendants(root))]


def cpu(pids: Iterable[int]) -> float:
    """Seconds of CPU that these processes have used so far; one that has ended counts 0."""
    return sum(map(_cpu, pids))


def uses(mark: str) -> list[Use]:
    """Every marked process with what it has used, the largest first."""
    names = {process.pid: process.command[0].partition(" ")[0][-40:] for process in every()}
    found = [Use(pid, names.get(pid, "?"), _cpu(pid), _pss(pid)) for pid in marked(mark)]
    return sorted(found, key=lambda use: -use.memory)


def memory(mark: str) -> int:
    """PSS in bytes of all marked processes together."""
    return pss(marked(mark))


def pss(pids: list[int]) -> int:
    """PSS in bytes of these processes together; one that has ended counts 0."""
    return sum(map(_pss, pids))


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
