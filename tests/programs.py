"""Programs of the machine that tests start: Debian packages, which `.ci/run` installs."""

import os
import shutil

import pytest


def program(name: str, package: str = "") -> str:
    """Where it is. Where it is not installed the test is skipped; by `.ci/run` it fails."""
    found = shutil.which(name)
    if found is None:
        missing = f"{name} is not installed: apt-get install {package or name}"
        if os.environ.get("PENSTOCK_SKIP_NOTHING"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found
