"""`serve run` in a Ray of its own: Ray is started first, with its dashboard or without, then Serve's own command runs.

    python -m deployments.starting.run --app-dir FOLDER CONFIGURATION

Without the dashboard (`PENSTOCK_RAY_DASHBOARD=0`) a dozen processes less run; `serve status` and `serve deploy`, which
speak with it, are not to be had then.

Above it: `launch`, as a process. Below it: Ray and Serve. Outside it: everything else about a start.
"""

import os
import sys

import ray
from ray.serve.scripts import cli

VARIABLE = "PENSTOCK_RAY_DASHBOARD"


def main() -> None:
    """Start Ray on this machine alone; serve what the arguments say until SIGINT."""
    wanted = False if os.environ.get(VARIABLE) == "0" else None
    ray.init(address="local", namespace="serve", include_dashboard=wanted)
    cli(["run", *sys.argv[1:]], prog_name="serve")


if __name__ == "__main__":
    main()
