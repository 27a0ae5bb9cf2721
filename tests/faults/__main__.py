"""The command line: `python -m tests.faults [faults|caller|ray|soak|audit|all] [--only NAME] [--quick]`.

Above it: the Makefile. Below it: the parts. Outside it: what they do.
"""

import argparse
import sys

from tests.faults import audit, callers, deaths, providers, soak
from tests.faults.scene import Options

PARTS = {"faults": providers.main, "caller": callers.main, "ray": deaths.main, "soak": soak.main, "audit": audit.main}
USUAL = ("faults", "caller", "ray")
"""What is run where no part is named."""


def main() -> int:
    """Run the parts that were named; 1 if a case failed or a rule was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("parts", nargs="*", help=f"{', '.join(PARTS)}, all (default: {', '.join(USUAL)})")
    parser.add_argument("--only", default="", help="only cases whose name holds this")
    parser.add_argument("--quick", action="store_true", help="a tenth of the repetitions, shorter waits")
    parser.add_argument("--keep", default="", help="directory for the logs of what ran")
    parser.add_argument("--requests", type=int, default=soak.REQUESTS, help="of the soak (%(default)s)")
    parser.add_argument("--runs", type=int, default=audit.RUNS, help="kills of the audit (%(default)s)")
    given = parser.parse_args()
    named = list(PARTS) if "all" in given.parts else given.parts or USUAL
    if unknown := [name for name in named if name not in PARTS]:
        parser.error(f"there is no part {unknown[0]}")
    options = Options(given.only, given.quick, given.keep, given.requests, 0 if given.quick else given.runs)
    passed = [PARTS[name](options) for name in named]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
