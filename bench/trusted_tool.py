"""A tool that is not contained, for `bench.tools`."""

from pipelines.tools.functions import tool


@tool(contained=False)
async def trusted() -> str:
    """Says yes."""
    return "yes"
