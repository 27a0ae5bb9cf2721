"""Tools for `bench.tool_turns`: they take no time, or just so much. Imported by workshops.

Above it: `tool_turns`. Below it: `pipelines.tools.functions`.
"""

import time

from pipelines.tools.functions import tool


@tool(seconds=60, concurrent=64)
def nap(seconds: float) -> str:
    """Sleeps.

    Args:
        seconds: How long.
    """
    time.sleep(seconds)
    return "awake"
