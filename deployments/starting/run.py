"""`serve run` in a Ray of its own, whose processes end with this one.

    python -m deployments.starting.run FOLDER CONFIGURATION...

Each configuration is served once the applications of the one before have started or failed: a caller has an answer
from the first ones while the others still start.

Ray is started as for one machine that nobody joins and no terminal watches: without its autoscaler and without what
sends workers' logs to drivers; its dashboard only once the applications are there, for nobody's answer waits for it.
Not at all where `PENSTOCK_RAY_DASHBOARD=0`: `serve status` and `serve deploy`, which speak with it, are not to be had
then. A driver has nothing left to do after that, and would hold 95 MB: this process becomes `holding`, which is the
same process to Ray.

Above it: `launch`, as a process. Below it: Ray, Serve, `actors.directory`, `holding`. Outside it: everything else
about a start.
"""

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import yaml
from pydantic import ValidationError
from ray import serve
from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled
from ray._private.node import Node
from ray._private.parameter import RayParams
from ray.serve.schema import ApplicationStatus
from ray.serve.scripts import cli

from actors import directory
from deployments.config import LedgerSettings
from deployments.starting import holding

VARIABLE = "PENSTOCK_RAY_DASHBOARD"

DASHBOARD_PORTS = range(8265, 8315)
"""Where Ray's dashboard looks for a free port (ray/_private/services.py, 2.60)."""

LOOK_SECONDS = 0.2
"""Between two looks at how far the applications are."""

PATIENCE = 30.0
"""Seconds that what comes next waits for the applications at most."""

_DECIDED = {ApplicationStatus.RUNNING, ApplicationStatus.DEPLOY_FAILED, ApplicationStatus.UNHEALTHY}


class LocalNode(Node):  # type: ignore[misc]  # Ray is not typed
    """Ray on this machine alone; its processes end when this thread does (prctl(2), PR_SET_PDEATHSIG).

    Neither `ray.init` nor `ray start` can be told all of it: the one has no word for the autoscaler and the logs, the
    other takes fixed ports. Both make Ray's own `Node` (ray/_private/worker.py and scripts/scripts.py, 2.60).
    """

    def __init__(self, dashboard_port: int) -> None:
        ensure_token_if_auth_enabled(create_token_if_missing=True)
        params = RayParams(dashboard_port=dashboard_port, include_log_monitor=False, no_monitor=True)
        super().__init__(params, head=True, shutdown_at_exit=True, spawn_reaper=True)

    def start_api_server(self, *, include_dashboard: bool | None, raise_on_failure: bool) -> None:
        """Not yet."""

    def start_dashboard(self) -> None:
        """Start what `Node` would have started before anything else. Logs why if it does not start."""
        super().start_api_server(include_dashboard=None, raise_on_failure=False)

    def essential(self) -> list[int]:
        """The processes without which nothing goes on; the raylet says goodbye to the other."""
        return [started.process.pid for kind in ("raylet", "gcs_server") for started in self.all_processes[kind]]


def free_dashboard_port() -> int:
    """The first free port of those that are meant for the dashboard. OSError if there is none."""
    for port in DASHBOARD_PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no port is free from {DASHBOARD_PORTS[0]} to {DASHBOARD_PORTS[-1]}")


def start_actors(config: dict[str, Any]) -> None:
    """Start the actors that every replica looks for first, while Serve's own processes still start."""
    state = os.environ["PENSTOCK_STATE_DIR"]
    directory.begin(state, directory.ROUTER)
    directory.begin(state, directory.REPLAYS)
    given = [application.get("args") or {} for application in config["applications"]]
    with contextlib.suppress(ValidationError):  # the applications say what is wrong
        settings = LedgerSettings(**next((args["ledger"] for args in given if "ledger" in args), {}))
        directory.begin(state, directory.LEDGER, settings.place())


def serve_file(folder: str, file: str) -> None:
    """What `serve run --app-dir FOLDER FILE` does, with Serve's own command."""
    cli(["run", "--non-blocking", "--app-dir", folder, file], prog_name="serve", standalone_mode=False)


def decided() -> bool:
    """Whether every application has started or failed."""
    return all(application.status in _DECIDED for application in serve.status().applications.values())


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Look now and then, for `seconds` at most."""
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)


def main() -> None:
    """Start Ray, serve what the arguments say, and hold it until SIGINT."""
    folder, *files = sys.argv[1:]
    dashboard = os.environ.get(VARIABLE) != "0"
    port = free_dashboard_port()
    if dashboard:
        print(f"Ray's dashboard: http://127.0.0.1:{port}", flush=True)  # noqa: T201 - the log of `serve run`
    node = LocalNode(port)
    ray.init(address=node.address, namespace="serve", log_to_driver=False)
    try:
        start_actors(yaml.safe_load(Path(files[-1]).read_text()))
        for file in files:
            serve_file(folder, file)
            wait_until(decided, PATIENCE)
        if dashboard:
            node.start_dashboard()
        wait_until(decided, float("inf"))
    except KeyboardInterrupt:
        serve.shutdown()
        sys.exit()
    ray.shutdown()
    holding.become(node.address, node.essential())


if __name__ == "__main__":
    main()
