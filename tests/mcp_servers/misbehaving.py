"""An MCP server over stdio that does, when asked, what a server should not. Standard library only.

    python misbehaving.py FOLDER [stubborn] [cursor]

FOLDER: where it writes what a test wants to know: `cancelled` (ids, one a line), `children` (process ids), `starts`
(one line for each start), and reads `version` (the description of `echo`), `listed` (what its list has besides, JSON)
and `results` (results of tools that are called so, JSON). stubborn: it ends at nothing but SIGKILL; cursor: its list is
no list.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(sys.argv[1])
PAGE = 5
_lock = threading.Lock()


def send(message: dict[str, Any]) -> None:
    with _lock:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": words}], **more}


def die(_: dict[str, Any]) -> None:
    os._exit(3)


def hang(_: dict[str, Any]) -> None:
    return None


def notify_for_ever(_: dict[str, Any]) -> None:
    while True:
        sys.stdout.write('{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}\n')


def speak_without_end(_: dict[str, Any]) -> None:
    while True:
        sys.stdout.write("x" * 65536)


def complain(_: dict[str, Any]) -> dict[str, Any]:
    for _number in range(64):
        sys.stderr.write("x" * 65536)
    return text("complained")


def rubbish(_: dict[str, Any]) -> dict[str, Any]:
    sys.stdout.write("this is no JSON\n" * 3 + '{"jsonrpc": "1.0"}\n[]\n\xff\n')
    return text("after the rubbish")


def much_rubbish(_: dict[str, Any]) -> dict[str, Any]:
    sys.stdout.write("this is no JSON\n" * 500)
    return text("never heard")


def wrong(_: dict[str, Any]) -> dict[str, Any]:
    return {"content": "not a list"}


def change(arguments: dict[str, Any]) -> dict[str, Any]:
    (FOLDER / "version").write_text(arguments["to"])
    send({"method": "notifications/tools/list_changed"})
    return text("changed")


def children(_: dict[str, Any]) -> dict[str, Any]:
    """A child in this process group, one in a session of its own, and one that nobody here is the parent of."""
    sleep = [sys.executable, "-c", "import time; time.sleep(1000)"]
    near = subprocess.Popen(sleep)
    far = subprocess.Popen(sleep, start_new_session=True)
    shell = f"setsid {sys.executable} -c 'import time; time.sleep(1000)' >/dev/null 2>&1 & echo $!"
    lost = subprocess.run(["sh", "-c", shell], capture_output=True, check=True, text=True).stdout.strip()
    (FOLDER / "children").write_text(f"{os.getpid()} {near.pid} {far.pid} {lost}")
    return text("there they are")


def step_by_step(_: dict[str, Any]) -> dict[str, Any]:
    for step in ({"progress": 1, "message": "one"}, {"progress": 2, "total": 3}, {"progress": 3}):
        send({"method": "notifications/progress", "params": {"progressToken": _token[0], **step}})
    return text("done")


_token: list[Any] = [None]
TOOLS: dict[str, Callable[[dict[str, Any]], dict[str, Any] | None]] = {
    "echo": lambda arguments: text(arguments["message"]),
    "fail": lambda _: text("it went wrong", isError=True),
    "environment": lambda _: text(json.dumps(dict(os.environ))),
    "die": die,
    "hang": hang,
    "notify_for_ever": notify_for_ever,
    "speak_without_end": speak_without_end,
    "complain": complain,
    "rubbish": rubbish,
    "much_rubbish": much_rubbish,
    "wrong": wrong,
    "change": change,
    "children": children,
    "step_by_step": step_by_step,
}


def listed(cursor: str | None) -> dict[str, Any]:
    if "cursor" in sys.argv:
        return {"tools": [], "nextCursor": 5}
    begin = int(cursor or 0)
    version = FOLDER / "version"
    first = version.read_text() if version.exists() else "Says it again."
    tools = [
        {
            "name": name,
            "description": first if name == "echo" else f"It may {name}.",
            "inputSchema": {"type": "object"},
            "annotations": {"readOnlyHint": True, "destructiveHint": False},
        }
        for name in list(TOOLS)[begin : begin + PAGE]
    ]
    if begin + PAGE < len(TOOLS):
        return {"tools": tools, "nextCursor": str(begin + PAGE)}
    return {"tools": [*tools, *told("listed", [])]}


def told(name: str, otherwise: Any) -> Any:
    file = FOLDER / name
    return json.loads(file.read_text()) if file.exists() else otherwise


def answer(message: dict[str, Any]) -> dict[str, Any] | None:
    method, params = message["method"], message.get("params") or {}
    if method == "initialize":
        info = {"name": "misbehaving", "version": "1"}
        version = params["protocolVersion"]
        return {"protocolVersion": version, "capabilities": {"tools": {"listChanged": True}}, "serverInfo": info}
    if method == "tools/list":
        return listed(params.get("cursor"))
    if method == "tools/call":
        _token[0] = params.get("_meta", {}).get("progressToken")
        results = told("results", {})
        if params["name"] in results:
            result: dict[str, Any] = results[params["name"]]
            return result
        return TOOLS[params["name"]](params.get("arguments") or {})
    if method == "notifications/cancelled":
        with (FOLDER / "cancelled").open("a") as file:
            file.write(f"{params['requestId']}\n")
    elif "id" in message:
        send({"id": message["id"], "error": {"code": -32601, "message": "Method not found"}})
    return None


def main() -> None:
    with (FOLDER / "starts").open("a") as file:
        file.write(f"{os.getpid()}\n")
    if "stubborn" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for line in sys.stdin:
        message = json.loads(line)
        result = answer(message)
        if result is not None:
            send({"id": message["id"], "result": result})
    if "stubborn" in sys.argv:
        while True:
            signal.pause()


main()
