"""Watching Serve come up: what its log says, whether it answers, and in one line why it does not.

Above it: `launch`. Below it: `instance`, the standard library. Outside it: starting and stopping.
"""

import http.client
import json
import re
from pathlib import Path

from deployments.starting.instance import Config

STAGES = (
    ("Connected to Ray cluster", "starting Serve…"),
    ("Submitted deploy config", "starting {first}…"),
)
"""A text in the log of `serve run`, and what happens after it."""

_DASHBOARD = re.compile(r"Ray's dashboard: (\S+)")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_EXCEPTION = re.compile(r"(?:\w+\.)*\w*(?:Error|Exception|Refused)(?:: .+)?")
_STARTED = re.compile(r"app='([^']*)'\) started successfully")
_CRASHED = re.compile(r"Exception in Replica\([^)]*app='([^']*)'")
_UNBUILT = re.compile(r"Deploying app '([^']*)' failed")
_BLOCK = re.compile(r"(?m)^(?=(?:INFO|WARNING|ERROR) )")
_TAIL = 400_000

ATTEMPTS = 3
"""How often Serve starts a lone replica before it gives up."""

ESSENTIAL = ("gateway", "simulator")
"""Applications without which Penstock is not up."""


def plain(text: str) -> str:
    """`text` without terminal colours."""
    return _COLOURS.sub("", text)


def first(config: Config) -> Config:
    """`config` with those of its applications that are to start before the others: all, if none is essential."""
    essential = [application for application in config["applications"] if application.get("name") in ESSENTIAL]
    return {**config, "applications": essential or config["applications"]}


def _words(config: Config) -> str:
    """`config`'s applications in a few words: the gateway and how many others."""
    names = [str(application.get("name")) for application in config["applications"]]
    others = len(names) - ("gateway" in names)
    parts = ["the gateway"] * ("gateway" in names) + [f"{others} provider{'s' * (others > 1)}"] * bool(others)
    return " and ".join(parts)


def rest(config: Config) -> str:
    """What starts after the first applications, in a few words; "" if nothing does."""
    more = len(config["applications"]) - len(first(config)["applications"])
    return f"{more} more provider{'s' * (more > 1)}" if more else ""


def stage(log: str, config: Config) -> str:
    """What is going on, as far as the log of `serve run` tells."""
    reached = "starting Ray…"
    for text, following in STAGES:
        if text in log:
            reached = following.format(first=_words(first(config)))
    return reached


def dashboard(log: str) -> str:
    """The address of Ray's dashboard, or "" if the log does not tell."""
    found = _DASHBOARD.search(log)
    return found[1] if found else ""


def answers(port: int, path: str, key: str, host: str = "127.0.0.1") -> bytes | None:
    """The body of GET `path` if its status is 200 within 2 seconds, else None."""
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", path, headers={"authorization": f"Bearer {key}"})
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return body if response.status == 200 else None


def is_up(config: Config, key: str) -> bool:
    """Whether the ingress answers `/healthz`, and lists a model of the simulator if `config` has one."""
    host, port = reachable(config), config["http_options"]["port"]
    if answers(port, "/healthz", key, host) is None:
        return False
    if not any(application.get("name") == "simulator" for application in config["applications"]):
        return True
    try:
        models = json.loads(answers(port, "/v1/models", key, host) or b"{}")
        return any(str(model["id"]).startswith("simulator/") for model in models.get("data", ()))
    except (ValueError, TypeError, KeyError, AttributeError):
        return False


def reachable(config: Config) -> str:
    """A host under which this machine reaches the ingress."""
    host = str(config["http_options"]["host"])
    return "127.0.0.1" if host in ("0.0.0.0", "::", "") else host


def ready(ray_logs: Path) -> set[str]:
    """The applications of which the controller's log says that a replica has started."""
    return set(_STARTED.findall(_controller_log(ray_logs)))


def failures(ray_logs: Path) -> dict[str, str]:
    """The applications that Serve has given up, each with the reason in one line.

    Serve gives up an application that cannot be built at once, one whose replica fails after three attempts
    (ray/serve/_private/deployment_state.py, 2.60).
    """
    text = _controller_log(ray_logs)
    attempts: dict[str, int] = {}
    found: dict[str, str] = {}
    for block in _BLOCK.split(text):
        match = _UNBUILT.search(block) or _CRASHED.search(block)
        if match is None:
            continue
        name = match[1]
        attempts[name] = attempts.get(name, 0) + 1
        if match.re is _UNBUILT or attempts[name] >= ATTEMPTS:
            found[name] = _last_exception(block) or "no reason given"
    return found


def last_error(log: Path, ray_logs: Path) -> str:
    """The last exception that the controller's log or the log of `serve run` tells, as one line, or ""."""
    return _last_exception(_controller_log(ray_logs)) or _last_exception(_tail(log))


def _controller_log(ray_logs: Path) -> str:
    return "".join(map(_tail, sorted(ray_logs.glob("serve/controller_[0-9]*.log"))))


def _tail(file: Path) -> str:
    try:
        with file.open("rb") as handle:
            handle.seek(max(0, handle.seek(0, 2) - _TAIL))
            return plain(handle.read().decode(errors="replace"))
    except OSError:
        return ""


def _last_exception(text: str) -> str:
    """The last line that begins like an exception of Python's, at most 300 characters of it.

    Of what pydantic finds, the first place and what is wrong there, too, without the value.
    """
    lines = text.splitlines()
    last = next((at for at in reversed(range(len(lines))) if _EXCEPTION.fullmatch(lines[at].strip())), None)
    if last is None:
        return ""
    said = lines[last].strip()
    if "validation error" in said:
        said = ": ".join([said, *(line.strip().partition(" [type=")[0] for line in _fault(lines[last + 1 :]))])
    return said[:300]


def _fault(lines: list[str]) -> list[str]:
    """The lines of the first fault: its place, which the whole has none of, and, further in, what is wrong."""
    end = next((at for at, line in enumerate(lines) if line.startswith("  ")), -1)
    return lines[: end + 1] if end <= 1 else []
