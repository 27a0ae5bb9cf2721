"""HAProxy's admin socket, as far as a stop needs it: no new callers, and how many are still answered.

HAProxy itself stays: one that is told to stop (SIGUSR1) closes this socket, and Serve, which asks there for its health
every half second, takes it for dead and ends it with its streams.

Source: HAProxy management guide 2.8, sections 9.1 (the statistics' CSV) and 9.3 (the commands).

Above it: `launch`. Below it: the standard library. Outside it: when, and how long.
"""

import csv
import socket
from pathlib import Path

FRONTEND = "http_frontend"
"""The part of HAProxy that callers meet (ray/serve/_private/haproxy_templates.py, 2.60)."""

PATIENCE = 2.0
"""Seconds that HAProxy may take to answer."""


def close_frontend(path: Path) -> None:
    """Have the HAProxy behind the socket `path` refuse new connections; what it answers goes on. OSError if it is away.

    `shutdown frontend` would keep the port open, where a successor may ask for it (`expose-fd listeners`, as Serve
    has it): callers would wait there for nobody.
    """
    _ask(path, f"disable frontend {FRONTEND}")


def requests_under_way(path: Path) -> int:
    """Requests that the HAProxy behind the socket `path` has passed on and not answered to the end, or is about to.

    0 if it is away. Callers' idle connections do not count.
    """
    try:
        lines = _ask(path, "show stat").lstrip("# ").splitlines()
    except OSError:
        return 0
    backends = (row for row in csv.DictReader(lines) if row["svname"] == "BACKEND")
    return sum(int(row["scur"]) + int(row["qcur"]) for row in backends)


def _ask(path: Path, command: str) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(str(path))
        connection.sendall(f"{command}\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return answer.decode(errors="replace")
