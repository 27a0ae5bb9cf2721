"""What listens where: each listener of a running cluster is in the table of `docs/security.md`, and no row is idle."""

import contextlib
import ipaddress
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from deployments.starting.instance import INTERNAL_PORTS
from tests.cluster.running import ROOT, Running, until

pytestmark = pytest.mark.cluster

LISTEN = "0A"
"""The state in /proc/net/tcp (proc(5), include/net/tcp_states.h)."""

RANGE = range(30_000, 31_001)
"""Ports that Serve gives its replicas (RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT and MAX)."""


class Listener(NamedTuple):
    process: str
    host: str
    port: int

    @property
    def address(self) -> str:
        found = ipaddress.ip_address(self.host)
        if found.is_unspecified:
            return "all"
        return "loopback" if found.is_loopback else ""


class Row(NamedTuple):
    process: str
    address: str
    port: str


def rows() -> list[Row]:
    """The table, with the words of its first three columns."""
    text = (ROOT / "docs" / "security.md").read_text()
    table = re.search(r"^\| process .*?(?=^\n)", text, re.MULTILINE | re.DOTALL)
    assert table
    cells = [line.strip("| \n").split(" | ") for line in table[0].splitlines()[2:]]
    return [Row(process, address, port) for process, address, port, *_ in cells]


def listening(cluster: Running) -> set[Listener]:
    """Every listening TCP socket of the cluster's processes."""
    owners: dict[str, str] = {}
    for process in cluster.processes():
        command = " ".join(process.command)
        for inode in _sockets(process.pid):
            owners[inode] = command
    return {Listener(owners[inode], host, port) for inode, host, port in _table() if inode in owners}


def _sockets(process: int) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for entry in os.listdir(f"/proc/{process}/fd"):
            with contextlib.suppress(OSError):
                link = os.readlink(f"/proc/{process}/fd/{entry}")
                if link.startswith("socket:["):
                    yield link[8:-1]


def _table() -> Iterator[tuple[str, str, int]]:
    """Inode, address and port of what listens on this machine."""
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN:
                host, port = fields[1].split(":")
                # Words of 32 bits, each in the machine's own order.
                raw = b"".join(bytes.fromhex(host[at : at + 8])[::-1] for at in range(0, len(host), 8))
                yield fields[9], str(ipaddress.ip_address(raw)), int(port, 16)


def unmet(cluster: Running) -> list[Row]:
    """The rows that no listener fits, but for ports of Ray's own choice: they come when its agents do, if at all."""
    found = listening(cluster)
    own = [row for row in rows() if not row.port.isdigit()]
    return [row for row in own if not any(fits(row, listener, cluster) for listener in found)]


def fits(row: Row, listener: Listener, cluster: Running) -> bool:
    return _process(row, listener) and _address(row, listener, cluster) and _port(row, listener, cluster)


def _process(row: Row, listener: Listener) -> bool:
    name = row.process.split("`")[1]
    if name.startswith("ray::"):
        return listener.process.startswith(name)
    return re.search(rf"(?:^|/){re.escape(name)}(?: |$)", listener.process) is not None


def _address(row: Row, listener: Listener, cluster: Running) -> bool:
    config = yaml.safe_load((cluster.state / "serve_config.yaml").read_text())
    if row.address == "`http_options.host`":
        return bool(listener.host == config["http_options"]["host"])
    if row.address == "`listen.host`":
        return listener.host == "127.0.0.1"
    if row.address == "node":
        return listener.host == cluster.gcs_address().rpartition(":")[0]
    return listener.address == row.address


def _port(row: Row, listener: Listener, cluster: Running) -> bool:
    variables = {name: int(cluster.environment[name]) for name in INTERNAL_PORTS}
    rules: dict[str, Callable[[], bool]] = {
        "`8000`": lambda: listener.port == cluster.port,
        "`listen.port`": lambda: listener.port in cluster.ports[1:],
        "30000 to 31000": lambda: listener.port in RANGE,
        "any": lambda: True,
        **{f"`{name}`": lambda name=name: listener.port == variables[name] for name in variables},  # type: ignore[misc]
    }
    known = [rule for words, rule in rules.items() if words in row.port]
    if known:
        return any(rule() for rule in known)
    return listener.port == int(row.port) or taken(row, cluster)


def taken(row: Row, cluster: Running) -> bool:
    """Whether a port of Ray's own choice is another cluster's on this machine: then ours takes another, or none."""
    if not row.port.isdigit():
        return False
    own = {inode for process in cluster.processes() for inode in _sockets(process.pid)}
    return any(port == int(row.port) and inode not in own for inode, _, port in _table())


def test_every_listener_is_in_the_table_and_no_row_is_idle(cluster: Running) -> None:
    # Ray's agents come some seconds after all else: once each row is met, what is there is all that there will be.
    with contextlib.suppress(AssertionError):
        until(lambda: not unmet(cluster), 300.0, "each row is met")
    assert unmet(cluster) == []
    strangers = [one for one in listening(cluster) if not any(fits(row, one, cluster) for row in rows())]
    assert strangers == [], strangers


def test_a_listener_that_is_in_no_row_is_noticed(cluster: Running) -> None:
    strange = [
        Listener("ray::LedgerActor", "203.0.113.1", 80)._replace(process="nginx: master"),
        Listener("/x/haproxy -db", "0.0.0.0", cluster.port),
        Listener("/x/dashboard.py --host", "0.0.0.0", 8265),
        Listener("ray::RouterActor", "127.0.0.1", 5000),
    ]
    assert [one for one in strange if any(fits(row, one, cluster) for row in rows())] == []
