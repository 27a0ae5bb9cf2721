"""Codex CLI, which speaks Responses only and always streams; the arguments before the task are its command.

It has tools of its own, and offers them always: what it saw is the run of one of them. Its prompt does not fit the
context of the real model here, so that target is left out.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.clients_matrix.python.reporting import TASK, report

COMMAND = sys.argv[1:-1]
KEY_VARIABLE = "PENSTOCK_CODEX_KEY"
LIMIT = 60.0


class Codex:
    """One target."""

    def __init__(self, target: SimpleNamespace) -> None:
        self.target = target

    def run(self, model: str = "", key: str = "") -> list[dict[str, Any]]:
        """The events of one run with the question."""
        provider = {"name": "penstock", "base_url": f"{self.target.url}/v1", "env_key": KEY_VARIABLE}
        settings = {**provider, "wire_api": "responses", "request_max_retries": 0, "stream_max_retries": 0}
        inline = ", ".join(f"{name}={json.dumps(value)}" for name, value in settings.items())
        options = ["-c", 'model_provider="penstock"', "-c", f"model_providers.penstock={{{inline}}}"]
        asked = ["--json", "--skip-git-repo-check", "--sandbox", "read-only", "--model", model or self.target.model]
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "home").mkdir()
            own = {"CODEX_HOME": f"{folder}/home", KEY_VARIABLE: key or self.target.key}
            done = subprocess.run(
                [*COMMAND, "exec", *asked, *options, TASK.question],
                cwd=folder,
                env={**os.environ, **own},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=LIMIT,
            )
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    def done(self) -> list[dict[str, Any]]:
        """The events of a run that must have succeeded."""
        events = self.run()
        failed = [event for event in events if event["type"] in ("error", "turn.failed")]
        assert not failed, failed[0]
        return events

    def chat(self) -> None:
        """Without a tool it asks nothing."""

    def stream(self) -> None:
        """It shows no pieces."""

    def tool_call(self) -> None:
        """It always streams."""

    def tool_stream(self) -> dict[str, Any] | None:
        if self.target.named:
            return None
        items = [event["item"] for event in self.done() if event["type"] == "item.completed"]
        (run,) = [item for item in items if item["type"] == "command_execution"]
        (said,) = [item["text"] for item in items if item["type"] == "agent_message"]
        return {"own": run["command"], "text": said}

    def usage(self) -> dict[str, Any] | None:
        if self.target.named:
            return None
        (usage,) = [event["usage"] for event in self.done() if event["type"] == "turn.completed"]
        return {"stream": [usage["input_tokens"], usage["output_tokens"]]}

    def error(self) -> dict[str, Any]:
        saw = {
            "model": failure(self.run(model=self.target.absent)),
            "key": failure(self.run(key=TASK.wrong_key)),
        }
        if self.target.broken:
            saw["stream"] = failure(self.run(model=self.target.broken))
        return saw


def failure(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Why a run failed; AssertionError where it did not."""
    *_, last = events
    assert last["type"] == "turn.failed", last
    return {"kind": "turn.failed", "status": None, "message": last["error"]["message"]}


if __name__ == "__main__":
    report(Codex)
