"""Memory and descriptors of every process of a running Penstock, by its role.

PSS (proportional set size: what is shared counts in parts), from `/proc/<pid>/smaps_rollup`, proc(5).

Above it: `callers`, `slow`, `soak`. Below it: `scene`. Outside it: what is too much.
"""

import os
from pathlib import Path
from typing import NamedTuple

from deployments.starting.processes import Process
from tests.faults.scene import Scene

MEGABYTE = 2**20


class Size(NamedTuple):
    """One process: its role, PSS in bytes, open descriptors."""

    role: str
    memory: int
    descriptors: int


def sizes(scene: Scene) -> dict[int, Size]:
    """Every process that can be read, by its id."""
    applications = {pid: name for name in scene.running._ports for pid in scene.replicas(name)}
    found = {}
    for process in scene.running.processes():
        try:
            descriptors = len(os.listdir(f"/proc/{process.pid}/fd"))
        except OSError:
            continue
        if memory := pss(process.pid):
            found[process.pid] = Size(role_of(process, applications), memory, descriptors)
    return found


def role_of(process: Process, applications: dict[int, str]) -> str:
    """What a process is, in a word."""
    if process.pid in applications:
        return applications[process.pid]
    name = process.command[0]
    if name.startswith("ray::"):
        return name.removeprefix("ray::").split(":")[0].split(".")[0].rstrip()[:24]
    scripts = [Path(word).name for word in process.command[1:4] if word.endswith(".py") or "ray.serve" in word]
    return (scripts[0] if scripts and process.name.startswith("python") else process.name)[:24]


def pss(pid: int) -> int:
    """Bytes; 0 for a process that is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def total(scene: Scene) -> int:
    """Bytes of all processes together."""
    return sum(pss(process.pid) for process in scene.running.processes())


def kernel_buffers() -> int:
    """Bytes that all TCP sockets of the machine hold (proc(5), `/proc/net/sockstat`)."""
    line = next(line for line in Path("/proc/net/sockstat").read_text().splitlines() if line.startswith("TCP:"))
    words = line.split()
    return int(words[words.index("mem") + 1]) * os.sysconf("SC_PAGE_SIZE")


def megabytes(size: int) -> str:
    """For the table."""
    return f"{size / MEGABYTE:.1f} MB"
