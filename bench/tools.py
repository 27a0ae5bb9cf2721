"""What running a tool costs, without the tool's own time: `python -m bench.tools` (some 20 s, and a Ray of its own).

A toolbox in this process, the registry and the executor as actors of a local Ray, the calculator of
`actors.tools.example_tools` in a process of its own for each call.
"""

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import ray

from actors.tools.tool_source import SourceSpec
from actors.tools.toolbox import ToolboxClient
from deployments.settings.tool_settings import ToolSettings
from pipelines.tools.catalogue import Ran, ToolRun

ROOT = str(Path(__file__).resolve().parents[1])
WARM, CALLS = 20, 300
WIDTH = 64
"""Calls at the same time."""

SETTINGS = ToolSettings(functions=("actors.tools.example_tools", "bench.trusted_tool"))


async def main() -> None:
    """Start, measure, print a table."""
    with tempfile.TemporaryDirectory() as folder:
        # As `make serve` has it: Ray would give way to everything else.
        os.environ.update({"PYTHONPATH": ROOT, "PENSTOCK_STATE_DIR": folder, "RAY_worker_niceness": "0"})
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        toolbox = ToolboxClient(_wide(SETTINGS.sources()), folder)
        toolbox.start()
        if not await toolbox.until(lambda known: known.catalogue.tool("calculator") is not None, 60.0):
            sys.exit(f"the tools do not start: {toolbox.published}")
        print("| calls | at once | p50 ms | p99 ms | calls/s |\n|---|---|---|---|---|")
        for name, arguments in (("calculator", {"expression": "6 * 7"}), ("trusted", {})):
            await _measured(toolbox, name, arguments, WARM, 1)
            for width in (1, WIDTH):
                taken, seconds = await _measured(toolbox, name, arguments, CALLS, width)
                taken.sort()
                p50, p99 = (1000 * taken[int(len(taken) * share)] for share in (0.5, 0.99))
                print(f"| {name} | {width} | {p50:.1f} | {p99:.1f} | {CALLS / seconds:.0f} |")
        await toolbox.close()
        ray.shutdown()


async def _measured(
    toolbox: ToolboxClient, name: str, arguments: dict[str, str], calls: int, width: int
) -> tuple[list[float], float]:
    """Seconds of each call, and of all of them, `width` at a time."""
    taken: list[float] = []
    left = iter(range(calls))

    async def work() -> None:
        for number in left:
            began = time.perf_counter()
            run = ToolRun(id=f"{name}-{width}-{calls}-{number}", tool=name, arguments=arguments)
            last = [step async for step in toolbox.run(run)][-1]
            if not isinstance(last, Ran) or last.exit != "ok":
                sys.exit(f"a call failed: {last}")
            taken.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(width)))
    return taken, time.perf_counter() - began


def _wide(specs: tuple[SourceSpec, ...]) -> list[SourceSpec]:
    """The same with room for all calls at once."""
    policies = {name: {"concurrent": WIDTH} for name in ("calculator", "trusted")}
    return [msgspec.structs.replace(spec, settings={**spec.settings, "policies": policies}) for spec in specs]


if __name__ == "__main__":
    asyncio.run(main())
