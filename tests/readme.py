"""The examples of the README, as a reader would run them.

A fence that can be run has a comment before it, `<!-- test: name -->`. `example` gives its text word for word, `run`
runs it in a process of its own.

Above it: `test_readme`, `cluster.test_readme`. Below it: the README. Outside it: what is expected of the examples.
"""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text()

SECONDS = 240.0
"""Longest that an example may take."""

_FENCE = re.compile(
    r"(?:<!-- test: (?P<name>[a-z ]+) -->\n)?^```(?P<kind>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)

FENCES = [(match["name"], match["kind"], match["code"]) for match in _FENCE.finditer(TEXT)]
"""Every fence: name (None without a marker), language, text."""

EXAMPLES = {name: (kind, code) for name, kind, code in FENCES if name}


def example(name: str, replaced: Mapping[str, str] | None = None) -> tuple[str, str]:
    """Language and text of an example, with addresses replaced. AssertionError where one is not in it."""
    kind, code = EXAMPLES[name]
    for old, new in (replaced or {}).items():
        assert old in code, f"{old} is not in the example {name!r}"
        code = code.replace(old, new)
    return kind, code


def run(name: str, environment: Mapping[str, str], replaced: Mapping[str, str] | None = None, cwd: Path = ROOT) -> str:
    """What an example prints. AssertionError where it fails."""
    kind, code = example(name, replaced)
    command = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}[kind]
    done = subprocess.run(
        [*command, code], cwd=cwd, env=dict(environment), capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, f"{name}: {done.stderr[-2000:]}"
    return done.stdout
