"""The version of the project: of its package, its command line, its pages, and what it calls itself at others.

Above it: everything. Below it: nothing.
"""

VERSION = "0.1.0"
"""By https://semver.org/; `pyproject.toml` reads it here."""
