"""The two tools that the upstream of the tests calls (`bench.answers.TOOL_CALLS`)."""

import os
from collections.abc import Generator

from pipelines.tools.functions import tool


@tool
def get_weather(city: str) -> Generator[str, None, str]:
    """Tells who it is, and what the weather is like.

    Args:
        city: Where.
    """
    yield f"{city}: user {os.getuid()}, variables {' '.join(sorted(os.environ))}"
    return "rain"


@tool(contained=False)
async def get_time(zone: str) -> str:
    """Tells the time."""
    return f"noon in {zone}; keys: {[name for name in os.environ if name.endswith('_API_KEY')]}"
