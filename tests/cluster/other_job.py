"""What somebody else's Ray job does with the gateway: run as a script of its own, far from this code.

    python other_job.py <Ray address> <prompt> <key>

It asks once from the driver and once from inside a task, and prints all answers as JSON after `ANSWERS`.
"""

import importlib.util
import json
import sys
from typing import Any

import ray
from ray import serve


def ask(prompt: str, key: str) -> dict[str, Any]:
    """Every kind of call; and which of our packages can be imported here (none)."""
    handle = serve.get_app_handle("gateway")

    def body(model: str) -> dict[str, Any]:
        return {"model": model, "messages": [{"role": "user", "content": prompt}]}

    def stream(asked: Any, **named: str) -> list[Any]:
        return list(handle.options(stream=True).chat_stream.remote(asked, **named))

    def whole(asked: Any, **named: str) -> Any:
        return handle.chat.remote(asked, **named).result()

    return {
        "found": [name for name in ("deployments", "actors", "pipelines") if importlib.util.find_spec(name)],
        "stream": stream(body("simulator/fast")),
        "whole": whole(body("simulator/fast")),
        "known key": whole(body("auto"), key=key),
        "wrong key": whole(body("auto"), key="psk-wrong"),
        "wrong key, stream": stream(body("auto"), key="psk-wrong"),
        "unknown model": stream(body("nothing")),
        "unknown model, whole": whole(body("nothing")),
        "bad body": whole({"model": 7}),
        "no dict": stream("hello"),
        "refused": stream(body("simulator/fast?fault=401")),
        "cut": stream(body("simulator/fast?fault=cut&after=2")),
    }


def main(address: str, prompt: str, key: str) -> None:
    """Connect, ask twice, print."""
    ray.init(address=address, log_to_driver=False, logging_level="error")
    # A task's process inherits the path of the node that it runs on, where this code is.
    task = ray.remote(num_cpus=0, runtime_env={"env_vars": {"PYTHONPATH": ""}})(ask)
    answers = {"driver": ask(prompt, key), "task": ray.get(task.remote(prompt, key))}
    sys.stdout.write(f"\nANSWERS{json.dumps(answers)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
