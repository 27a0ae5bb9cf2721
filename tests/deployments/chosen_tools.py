"""Tools whose arguments are choices, so that a model of random weights, held to their schemas, calls them well.

Imported by workshops, never by the tests.
"""

import time
from typing import Annotated, Literal

from pydantic import Field

from actors.tools import example_tools
from pipelines.tools.catalogue import ArgumentGuard
from pipelines.tools.functions import tool


@tool(seconds=10)
def calculator(expression: Literal["6 * 7"]) -> int | float:
    """Works out an arithmetic expression exactly."""
    return example_tools.calculator(expression)


@tool(seconds=10)
def clock(timezone: Literal["UTC"]) -> str:
    """Tells the date and the time of day now."""
    return example_tools.clock(timezone)


@tool(seconds=10, guards=(ArgumentGuard("path", "path"),))
def read_file(path: Annotated[str, Field(json_schema_extra={"enum": ["greeting.txt"]})]) -> str:
    """Reads a text file. The guard makes another path of it, which is none of the choices."""
    return example_tools.read_file(path)


@tool(seconds=10)
def failing(why: Literal["always"]) -> str:
    """Fails."""
    raise ValueError(f"it fails {why}")


@tool(seconds=0.5)
def slow(how: Literal["very"]) -> str:
    """Takes longer than it may."""
    time.sleep(600)
    return how
