"""Stop Serve, whose replicas then leave as they should; Ray's processes end with this one.

    python -m deployments.starting.ending ADDRESS

Above it: `holding`, by exec. Below it: Ray and Serve. Outside it: when.
"""

import sys

import ray
from ray import serve


def main() -> None:
    """Connect to the Ray that the argument names, and shut Serve down on it."""
    ray.init(address=sys.argv[1], namespace="serve", log_to_driver=False)
    serve.shutdown()


if __name__ == "__main__":
    main()
