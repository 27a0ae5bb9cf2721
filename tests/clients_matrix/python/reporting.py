"""How a runner reads its task and reports: see `tests.clients_matrix.features` for the form.

Runs in the clients' own environments: the standard library alone.

Above it: the runners. Below it: nothing.
"""

import asyncio
import inspect
import json
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

FEATURES = ("chat", "stream", "tool_call", "tool_stream", "usage", "error")

TASK: Any = json.loads(sys.argv[-1], object_hook=lambda pairs: SimpleNamespace(**pairs))
"""The task, its objects as namespaces."""

TOOL_SCHEMA: dict[str, Any] = json.loads(sys.argv[-1])["tool"]["schema"]
"""The schema of the task's tool, as it is."""


def report(make: Callable[[SimpleNamespace], Any]) -> None:
    """Do every feature with every target. `make(target)` has a method, plain or async, for each feature."""
    for target in TASK.targets:
        for feature in FEATURES:
            line = {"target": target.name, "feature": feature, **_done(make, target, feature)}
            print(json.dumps(line, default=str), flush=True)


def _done(make: Callable[[SimpleNamespace], Any], target: SimpleNamespace, feature: str) -> dict[str, Any]:
    try:
        saw = getattr(make(target), feature)()
        if inspect.isawaitable(saw):
            saw = asyncio.run(_result(saw))
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"saw": saw}


async def _result(awaitable: Any) -> Any:
    return await awaitable


def raised(action: Callable[[], Any], kinds: type[Exception]) -> dict[str, Any]:
    """What `action` raised, which must be one of the client's own errors; RuntimeError where it raised nothing."""
    try:
        answer = action()
    except kinds as error:
        return {
            "kind": type(error).__name__,
            "status": getattr(error, "status_code", None),
            "message": str(error),
        }
    raise RuntimeError(f"no error: {str(answer)[:200]}")
