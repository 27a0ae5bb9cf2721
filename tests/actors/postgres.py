"""A real PostgreSQL server of the tests' own, from Debian's packages, on a Unix socket in a temporary directory."""

import getpass
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def programs() -> Path | None:
    """Where `initdb` and `pg_ctl` are; None where PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: float(path.parts[-3]))
    if found:
        return found[-1].parent
    beside = shutil.which("pg_ctl")
    return Path(beside).resolve().parent if beside else None


class Postgres:
    """A server in `directory`, run by `user`: PostgreSQL refuses to be run by root."""

    def __init__(self, directory: Path, programs: Path, user: str | None) -> None:
        self._directory = directory
        self._data = directory / "data"
        self._programs = programs
        self._user = user

    def url(self, database: str = "postgres") -> str:
        user = self._user or getpass.getuser()
        return f"postgresql://{user}@/{database}?host={self._directory}"

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self._directory / ".s.PGSQL.5432"

    def create(self) -> None:
        self._call("initdb", "-D", self._data, "-A", "trust", "-E", "UTF8", "--no-sync", "--locale", "C")

    def start(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories='{self._directory}' -c max_connections=20"
        log = self._directory / "log"
        self._call("pg_ctl", "start", "-w", "-t", "30", "-D", self._data, "-l", log, "-o", options)

    def stop(self) -> None:
        self._call("pg_ctl", "stop", "-w", "-t", "30", "-m", "fast", "-D", self._data)

    def kill(self) -> None:
        """SIGKILL to the server; its children end by themselves when they notice, and no other starts before."""
        process = int((self._data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        os.kill(process, signal.SIGKILL)
        until = time.monotonic() + 60.0
        while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < until:
            time.sleep(0.02)
        self._call("pg_ctl", "stop", "-w", "-t", "30", "-m", "immediate", "-D", self._data, check=False)

    def new_database(self, name: str) -> str:
        self._call("psql", "-h", self._directory, "-d", "postgres", "-c", f'CREATE DATABASE "{name}"')
        return self.url(name)

    def _call(self, program: str, *arguments: object, check: bool = True) -> None:
        subprocess.run(
            [str(self._programs / program), *map(str, arguments)],
            check=check,
            user=self._user,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A running server."""
    found = programs()
    assert found is not None
    directory = Path(tempfile.mkdtemp(prefix="penstock-postgres-", dir="/tmp"))
    user = None
    try:
        if os.geteuid() == 0:
            user = "postgres"
            shutil.chown(directory, user)
        directory.chmod(0o755)
        server = Postgres(directory, found, user)
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
