"""The command line: `python -m tests.nodes [name …]`; without a name all of them.

Above it: the Makefile. Below it: the scenarios. Outside it: what they do.
"""

import os
import shutil
import sys

from tests.actors.postgres import programs
from tests.faults.table import Sheet
from tests.nodes import heads, losing, rolling, scaling, sharing

SCENARIOS = {
    "scaling": scaling.main,
    "rolling": rolling.main,
    "losing": losing.main,
    "sharing": sharing.main,
    "heads": heads.main,
}
PROGRAMS = {"ip": "iproute2", "redis-server": "redis-server"}
COLUMNS = (("scenario", 44), ("what was seen", 84), ("figure", -10))


def main() -> int:
    """Run what was named; 1 if something was not as it should be."""
    names = sys.argv[1:] or list(SCENARIOS)
    if unknown := [name for name in names if name not in SCENARIOS]:
        print(f"there is no scenario {unknown[0]}: {', '.join(SCENARIOS)}")
        return 2
    if os.geteuid() != 0:
        print("machines of our own want root")
        return 2
    if missing := _missing():
        print(f"programs are missing: apt-get install {' '.join(missing)}")
        return 2
    passed = True
    for name in names:
        sheet = Sheet(name, COLUMNS)
        SCENARIOS[name](sheet)
        passed = sheet.end() and passed
    return 0 if passed else 1


def _missing() -> list[str]:
    """The Debian packages whose programs the scenarios start and this machine has not."""
    missing = [package for name, package in PROGRAMS.items() if shutil.which(name) is None]
    return missing if programs() else [*missing, "postgresql"]


if __name__ == "__main__":
    sys.exit(main())
