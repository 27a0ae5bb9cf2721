"""The servers that the clients meet: a Penstock as `make serve` starts it, and llama.cpp's Python server behind it.

The simulator speaks all three dialects, so that nothing needs translating on the way to it. Two more providers are
therefore the same simulator seen through one dialect only: `chatty` asks it in OpenAI's chat dialect, `claudish` in
Anthropic's. The real server speaks the chat dialect.

Above it: `__main__`. Below it: `tests.cluster.running`. Outside it: clients.
"""

import contextlib
import os
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.clients_matrix.features import Target
from tests.cluster.running import KEY, ROOT, Running, configuration, environment, free_ports

MAKE_MODEL = ROOT.parent / "shared" / "make_tiny_gguf.py"
BROKEN = "?fault=error&after=3"
THINKING = "thinking?tokens=16&first=10&gap=1"
RARE = 1.5
"""Weight of the model's end of text: seldom at once, for an empty answer shows nothing."""

START_WITHIN = 60.0
KEY_VARIABLE = "PENSTOCK_CLIENTS_KEY"


@contextlib.contextmanager
def model_server(folder: Path) -> Iterator[str]:
    """A llama.cpp server with a tiny model of random weights, "" where PENSTOCK_REAL_PYTHON names no Python for it.

    Its base URL, with `/v1`. RuntimeError if it does not start.
    """
    python = os.environ.get("PENSTOCK_REAL_PYTHON")
    if not python:
        yield ""
        return
    model = str(folder / "tiny.gguf")
    subprocess.run([python, str(MAKE_MODEL), model, f"--eos={RARE}"], check=True, capture_output=True)
    port = free_ports(1)
    command = [python, "-m", "llama_cpp.server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--model", model, "--model_alias", "tiny", "--n_ctx", "1024", "--n_threads", "1"]
    with (folder / "llama.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        _wait_for(process, f"http://127.0.0.1:{port}/v1")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


def _wait_for(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + START_WITHIN
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/models", timeout=1):
            return
        time.sleep(0.1)
    raise RuntimeError("the model server did not start")


@contextlib.contextmanager
def gateway(folder: Path, llama: str) -> Iterator[Running]:
    """A running Penstock; `llama` is the address of its local provider. AssertionError if it does not start."""
    ports = free_ports(30)
    variables = {"PENSTOCK_API_KEY": KEY, KEY_VARIABLE: KEY} | ({"LOCAL_BASE_URL": llama} if llama else {})
    config = configuration()
    simulator = ports + 1 + _listener(config, "simulator") - _listener(config, "gateway")
    for place, (name, kind) in enumerate({"chatty": "local", "claudish": "anthropic"}.items()):
        config["applications"].append(_one_dialect(name, kind, 8110 + place, simulator))
    running = Running(folder, environment(folder / "state", ports, ports + 1, **variables), config)
    try:
        running.wait()
        yield running
    finally:
        running.stop() if not running.ended else None
        running.end()


def _listener(config: dict[str, Any], name: str) -> int:
    port: int = next(a for a in config["applications"] if a["name"] == name)["args"]["listen"]["port"]
    return port


def _one_dialect(name: str, kind: str, port: int, simulator: int) -> dict[str, Any]:
    """An application of `kind` whose provider is the simulator of the same Penstock."""
    address = {"base_url": f"http://127.0.0.1:{simulator}/v1", "key_variable": KEY_VARIABLE}
    args = {"kind": kind, "name": name, "listen": {"port": port}, "any_model": True, **address}
    return {"name": name, "route_prefix": f"/{name}", "import_path": "deployments.app:provider", "args": args}


def targets(running: Running, llama: str) -> tuple[Target, ...]:
    """What there is to be asked: through Serve's ingress, through the gateway's own listener, on the direct lane."""
    listener = running.listener()
    found = [
        Target("simulator", running.url, KEY, "simulator/fast", f"simulator/fast{BROKEN}"),
        Target("direct", f"{running.url}/simulator", KEY, "fast", f"fast{BROKEN}", absent="nothing"),
        Target("chatty", listener, KEY, f"chatty/{THINKING}", f"chatty/fast{BROKEN}"),
        Target("claudish", listener, KEY, f"claudish/{THINKING}", f"claudish/fast{BROKEN}"),
    ]
    if llama:
        found.append(Target("llama", listener, KEY, "local/tiny", named=True, steady=False))
    return tuple(found)


@contextlib.contextmanager
def everything() -> Iterator[tuple[Target, ...]]:
    """All servers up, then down again."""
    with tempfile.TemporaryDirectory(prefix="penstock-clients-") as name:
        folder = Path(name)
        with model_server(folder) as llama, gateway(folder, llama) as running:
            yield targets(running, llama)
