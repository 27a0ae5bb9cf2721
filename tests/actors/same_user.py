"""Run as a program that can have no other user: says what becomes of contained tools there, as JSON."""

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

from tests.actors.toolshop import NAUGHTY, functions, text_of, toolshop


async def main() -> dict[str, Any]:
    spec = functions(NAUGHTY, same_user=["add", "stubborn"])
    with tempfile.TemporaryDirectory() as folder:
        async with toolshop(Path(folder) / "state", spec) as shop:
            tools = {tool.name: tool for tool in shop.toolbox.catalogue.tools}
            return {
                "endless": [tools["endless"].health, (await shop.ran("endless")).exit],
                "why": tools["endless"].why,
                "add": [tools["add"].health, text_of(await shop.ran("add", a=1, b=2))],
                "trusted": [tools["trusted"].health, text_of(await shop.ran("trusted", word="word")).split()[0]],
                "stubborn": [tools["stubborn"].health, (await shop.ran("stubborn")).exit],
                "left": await _left(),
            }


async def _left() -> int:
    """Sleeping grandchildren of the workshop, once there are none, or after a while."""
    for _ in range(1000):
        await asyncio.sleep(0.01)
        count = 0
        for status in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                parent = (status.parent / "stat").read_text().rpartition(")")[2].split()[1]
                words = (Path("/proc") / parent / "cmdline").read_bytes()
                count += b"actors.tools.workshop" in status.read_bytes() and b"actors.tools.workshop" in words
            except OSError:
                continue
        if not count:
            return 0
    return count


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main())))  # noqa: T201 - what it is for
