"""Programs of the machine that tests start: Debian packages, which `.ci/run` installs."""

import os
import shutil
from typing import NoReturn

import pytest


def program(name: str, package: str = "") -> str:
    """Where it is. Where it is not installed the test is skipped; by `.ci/run` it fails."""
    return shutil.which(name) or absent(name, package or name)


def absent(name: str, package: str) -> NoReturn:
    """Skip the test, or fail it where nothing may be skipped: a program is missing that `package` has."""
    missing = f"{name} is not installed: apt-get install {package}"
    if os.environ.get("PENSTOCK_SKIP_NOTHING"):
        pytest.fail(missing)
    pytest.skip(missing)
