"""`make serve`: look first, start Ray and Serve, say how to use them, and leave nothing behind.

The launcher stays the ancestor of every process that it starts (a subreaper, prctl(2)), so that it can end all of
them. `serve run` is its child in a session of its own: a Ctrl-C at the terminal reaches the launcher alone, which
then asks for a graceful stop (10 s at most); a second one ends everything at once.

Above it: the Makefile. Below it: `preflight`, `instance`, `processes`, `waiting`, `admin_socket`. Outside it: what is
served.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from actors import administrator
from deployments.starting import admin_socket, preflight, processes, waiting
from deployments.starting import instance as instances
from pipelines.errors import ConfigurationError

START_LIMIT = 300.0
"""Seconds that a start may take."""

STRAGGLER_LIMIT = 20.0
"""Seconds that the other applications get once the gateway answers."""

DRAIN_LIMIT = 10.0
"""Seconds that open streams get after the first Ctrl-C."""

SHUTDOWN_LIMIT = 7.0
"""Seconds that Serve and Ray get at least to stop by themselves after that."""


class Signals:
    """How often we were told to stop (Ctrl-C, SIGTERM, or the terminal went away)."""

    def __init__(self) -> None:
        self.count = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._told)

    def _told(self, number: int, frame: object) -> None:
        self.count += 1


class Instance:
    """A running `serve run`: its configuration, the directories, its process."""

    def __init__(self, config: instances.Config, state: Path, run: Path) -> None:
        self.config = config
        self.run = run
        self.log = state / "logs" / "serve.log"
        self.kept_logs = state / "logs" / "ray"
        self.exit_code: int | None = None
        self._files = _write(config, state)
        self._process = self._start(instances.environment(os.environ, state, run, config))

    def _start(self, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "deployments.starting.run"]
        with open(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as log:
            return subprocess.Popen(
                [*command, str(instances.ROOT), *map(str, self._files)],
                cwd=instances.ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: processes.die_with_parent(signal.SIGTERM),
            )

    @property
    def ingress(self) -> Path:
        """The admin socket of Serve's HAProxy."""
        return instances.ingress_socket(self.run)

    @property
    def ray_logs(self) -> Path:
        """Where Ray writes its logs now."""
        return self.run / "ray" / "session_latest" / "logs"

    def alive(self) -> bool:
        """Whether `serve run` still goes; collects whatever has ended."""
        ended = processes.reap()
        if self._process.pid in ended:
            self.exit_code = self._process.returncode = ended[self._process.pid]
        return self.exit_code is None

    def ask(self, number: signal.Signals) -> None:
        """Send `number` to `serve run` alone; it stops Serve and Ray on SIGINT."""
        if self.alive():
            os.kill(self._process.pid, number)

    def clean(self) -> None:
        """Keep Ray's logs in the state directory and take the run directory away."""
        shutil.rmtree(self.kept_logs, ignore_errors=True)
        if self.ray_logs.is_dir():
            shutil.copytree(self.ray_logs, self.kept_logs, symlinks=True, ignore=_special)
        shutil.rmtree(self.run, ignore_errors=True)


def _write(config: instances.Config, state: Path) -> list[Path]:
    """Write the configuration into `state`, as one file or two: what is to start first, and all."""
    import yaml

    parts = {"serve_first.yaml": waiting.first(config), "serve_config.yaml": config}
    if not waiting.rest(config):
        del parts["serve_first.yaml"]
    for name, part in parts.items():
        administrator.write_private(state / name, yaml.safe_dump(part, sort_keys=False))
    return [state / name for name in parts]


def _special(folder: str, names: list[str]) -> list[str]:
    """What is no file or folder (sockets, pipes, links) and is not to be copied."""
    paths = [Path(folder, name) for name in names]
    return [path.name for path in paths if path.is_symlink() or not (path.is_file() or path.is_dir())]


def say(text: str) -> None:
    """One line for the person at the terminal."""
    print(text, flush=True)


def prepare(file: Path, settings: instances.Settings) -> tuple[IO[str], instances.Config]:
    """Everything before the start: the configuration, the state directory, its lock, the ports.

    ConfigurationError if one fails.
    """
    config = instances.effective(instances.load(file), settings.port, settings.listen_port)
    preflight.check_arguments(config)
    instances.make_state(settings.state)
    held = preflight.lock(settings.state)
    preflight.check_ports(instances.addresses(config))
    preflight.note(held, f"process {os.getpid()}, {_url(config)}")
    _forget_last_run(settings.state)
    return held, config


def _forget_last_run(state: Path) -> None:
    """Take away the run directory of a launcher that was killed; the lock says that it is dead."""
    marker = state / "run"
    if marker.exists():
        last = Path(marker.read_text().strip())
        if last.parent == Path("/tmp") and last.name.startswith("penstock-"):
            shutil.rmtree(last, ignore_errors=True)


def _url(config: instances.Config) -> str:
    return f"http://{waiting.reachable(config)}:{config['http_options']['port']}"


def wait_until_up(instance: Instance, key: str, stopped: Callable[[], bool]) -> bool:
    """Tell the stages until Serve answers. False if told to stop.

    Raises ConfigurationError, in one line with the place of the log, if it ends, fails or takes too long.
    """
    began, told = time.monotonic(), ""
    while not stopped():
        if not instance.alive():
            raise _failure(instance, f"`serve run` ended with exit code {instance.exit_code}")
        stage = waiting.stage(instance.log.read_text(errors="replace"), instance.config)
        if stage != told:
            say(f"  {stage}")
            told = stage
        _all_decided(instance)
        if waiting.is_up(instance.config, key):
            return True
        if time.monotonic() - began > START_LIMIT:
            raise _failure(instance, f"not up after {START_LIMIT:.0f} s")
        processes.pause(0.2)
    return False


def wait_for_the_rest(instance: Instance, stopped: Callable[[], bool]) -> bool:
    """Until every application has started or failed, or has had its time; tells which failed. False if told to stop."""
    if more := waiting.rest(instance.config):
        say(f"  starting {more}…")
    until = time.monotonic() + STRAGGLER_LIMIT
    while not _all_decided(instance) and time.monotonic() < until:
        if stopped():
            return False
        processes.pause(0.2)
    for name, reason in waiting.failures(instance.ray_logs).items():
        say(f"penstock: {name} does not start: {reason} (see {instance.log.parent})")
    return True


def _all_decided(instance: Instance) -> bool:
    """Whether every application has started or failed. ConfigurationError if an essential one has failed."""
    failed = waiting.failures(instance.ray_logs)
    for name in waiting.ESSENTIAL:
        if name in failed:
            raise ConfigurationError(f"{name} does not start: {failed[name]} (see {instance.log.parent})")
    names = {str(application.get("name")) for application in instance.config["applications"]}
    return names <= waiting.ready(instance.ray_logs) | set(failed)


def _failure(instance: Instance, what: str) -> ConfigurationError:
    said = waiting.last_error(instance.log, instance.ray_logs)
    return ConfigurationError(f"{what}{': ' if said else ''}{said} (see {instance.log.parent})")


def banner(config: instances.Config, log: Path, key: str, seconds: float) -> str:
    """How to use what runs now by `config`, and has `log` for the log of `serve run`."""
    url = _url(config)
    lanes = {address.owner.split()[1]: address for address in instances.addresses(config)[1:]}
    first = lanes.get("gateway")
    ray = waiting.dashboard(log.read_text(errors="replace"))
    where = "" if ray.endswith(":8265") else f" -a {ray}"
    body = '{"model":"auto","stream":true,"messages":[{"role":"user","content":"Hello"}]}'
    rows = [
        ("URL", f"{url}/v1"),
        ("faster", f"http://{first.host}:{first.port}/v1   (this machine, without the ingress)" if first else ""),
        ("API key", key),
        ("dashboard", f"{url}/dashboard"),
        ("Ray", f"{ray}   (wants Ray's token)" if ray else ""),
        ("status", f"RAY_AUTH_MODE=token .venv/bin/serve status{where}" if ray else ""),
        ("logs", str(log.parent)),
    ]
    lines = [f"\nPenstock is up ({seconds:.1f} s)\n", *(f"  {name:<10} {text}" for name, text in rows if text)]
    curl = [
        f"  curl -N {url}/v1/chat/completions \\",
        f'    -H "Authorization: Bearer {key}" -H "Content-Type: application/json" \\',
        f"    -d '{body}'",
    ]
    return "\n".join([*lines, "", *curl, ""])


def stop(instance: Instance, told: Callable[[], int]) -> None:
    """End everything: gracefully, or at once if told to stop once more.

    Serve kills its HAProxy before its replicas drain, so HAProxy's open streams end first.
    """
    before, drained = told(), time.monotonic() + DRAIN_LIMIT
    with contextlib.suppress(OSError):
        admin_socket.close_frontend(instance.ingress)
    _wait_while(lambda: _answering(instance) and told() <= before, drained)
    instance.ask(signal.SIGINT)
    _wait_while(lambda: instance.alive() and told() <= before, max(drained, time.monotonic() + SHUTDOWN_LIMIT))
    left = processes.end_all(grace=0.0 if told() > before else 1.0)
    instance.clean()
    for process in left:
        say(f"penstock: process {process.pid} ({process.name}) does not end (state {process.state})")


def _answering(instance: Instance) -> bool:
    """Whether the ingress still answers somebody: our HAProxy, or older ones, which stay until they are through."""
    ours = processes.descendants(os.getpid())
    proxies = [process for process in ours if process.name == "haproxy" and process.state != "Z"]
    return len(proxies) > 1 or admin_socket.requests_under_way(instance.ingress) > 0


def _wait_while(condition: Callable[[], bool], until: float) -> None:
    while condition() and time.monotonic() < until:
        processes.pause()


def serve(file: Path) -> int:
    """Start, wait for the end, stop; returns the exit code. ConfigurationError before anything is started."""
    preflight.check_python(sys.version_info[:2])
    preflight.check_dependencies()
    settings = instances.settings(os.environ)
    held, config = prepare(file, settings)
    with held:
        key = administrator.administrator_key(settings.state, settings.api_key)
        administrator.write_keys(settings.state, key)
        signals, began = Signals(), time.monotonic()
        processes.adopt_orphans()
        run = instances.make_run_directory()
        administrator.write_private(settings.state / "run", f"{run}\n")
        instance = Instance(config, settings.state, run)
        code = 0
        try:
            if wait_until_up(instance, key, lambda: signals.count > 0):
                say(banner(config, instance.log, key, time.monotonic() - began))
                if wait_for_the_rest(instance, lambda: signals.count > 0):
                    say("Ctrl-C stops it.\n")
            code = _stay(instance, lambda: signals.count > 0)
        except ConfigurationError as error:
            say(f"penstock: {error.message}")
            code = 1
        finally:
            if signals.count:
                say("\nstopping… (Ctrl-C again: at once)")
            stop(instance, lambda: signals.count)
            (settings.state / "run").unlink(missing_ok=True)
    return code


def _stay(instance: Instance, stopped: Callable[[], bool]) -> int:
    """Wait until told to stop (0) or until `serve run` ends by itself (1)."""
    while not stopped():
        if not instance.alive():
            raise _failure(instance, f"`serve run` ended with exit code {instance.exit_code}")
        processes.pause(0.2)
    return 0


def main() -> int:
    """The command line: an optional Serve configuration file (default: the project's `ray_config.yaml`)."""
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else instances.ROOT / "ray_config.yaml"
    try:
        return serve(file)
    except ConfigurationError as error:
        say(f"penstock: {error.message}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
