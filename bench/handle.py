"""The closed load of `bench.load`, asked over a Ray handle by a job of its own: a `Plan` in, a `Result` out.

Run as `python -m bench.handle`; the plan's url is Ray's address (`127.0.0.1:6379`). The job is no part of what is
measured, as no load generator is; what Ray makes of its calls in the cluster is.

Above it: the benchmarks. Below it: Ray Serve's handles, `bench.load` (plans, results), `bench.upstream`.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import ray
from ray import serve

from bench.load import Plan, Result, Tally
from bench.machine import cpu
from bench.upstream import read_model, text_of


class _Run(Tally):
    """What the callers of one run share."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self.spec = read_model(plan.model)
        self.text = text_of(plan.model)
        self.left = plan.requests
        self._gateway = serve.get_app_handle("gateway")
        self._body = {"model": plan.model, "messages": [{"role": "user", "content": "x" * plan.prompt}]}

    async def call(self) -> None:
        """One caller, until nothing is left to ask."""
        while self.left > 0:
            self.left -= 1
            began = time.perf_counter()
            try:
                failure = await (self._stream(began) if self.spec.streams else self._whole())
            except Exception as error:
                failure = type(error).__name__
            if failure:
                self.failed(failure)
                return
            self.latency.append(time.perf_counter() - began)

    async def _whole(self) -> str:
        answer: dict[str, Any] = await self._gateway.chat.remote(self._body, key=self.plan.key)
        if "error" in answer:
            return f"error {answer['error'].get('code')}"
        said = answer["choices"][0]["message"]["content"]
        return "" if said == self.text else "an answer that is not whole"

    async def _stream(self, began: float) -> str:
        chunks: AsyncIterator[dict[str, Any]]
        chunks = self._gateway.options(stream=True).chat_stream.remote(self._body, key=self.plan.key)
        pieces: list[str] = []
        last = began
        async for chunk in chunks:
            if "error" in chunk:
                return f"error {chunk['error'].get('code')}"
            text = "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
            if text:
                now = time.perf_counter()
                (self.gaps if pieces else self.first).append(now - last)
                last = now
                pieces.append(text)
        return "" if "".join(pieces) == self.text else "a stream that is not whole"


async def load(plan: Plan) -> Result:
    """Carry out a closed plan."""
    run = _Run(plan)
    used, began = cpu(plan.processes), time.perf_counter()
    async with asyncio.TaskGroup() as callers:
        for _ in range(plan.callers):
            callers.create_task(run.call())
            await asyncio.sleep(plan.ramp / plan.callers)
    used, seconds = cpu(plan.processes) - used, time.perf_counter() - began
    return run.result(len(run.latency) * run.spec.chunks, seconds, used)


def main() -> None:
    """The command line: a plan in, a result out."""
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    ray.init(address=plan.url, log_to_driver=False, logging_level="error")
    result = asyncio.run(load(plan))
    sys.stdout.write(f"\n{msgspec.json.encode(result).decode()}\n")


if __name__ == "__main__":
    main()
