"""Taking typed members out of Ollama's lines: objects, words, the time, token counts.

Source: Ollama, docs/api.md, "Generate a chat completion": durations are in nanoseconds, times in RFC 3339.

Above it: `decoder`. Below it: `counts`, `conversation`, `errors`.
"""

import calendar
import re

from pipelines.conversation import Json, Usage
from pipelines.dialects.counts import count
from pipelines.errors import ProtocolError

_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d+)?(?:Z|([+-])(\d\d):(\d\d))")
_MEASURED = (
    "prompt_eval_count", "eval_count", "total_duration", "load_duration", "prompt_eval_duration", "eval_duration",
)  # fmt: skip


def read_object(holder: dict[str, Json], name: str) -> dict[str, Json]:
    """A member that is an object; {} where it is absent. Raises ProtocolError."""
    value = holder.get(name)
    if value is not None and not isinstance(value, dict):
        raise ProtocolError(f"{name} is no object")
    return value or {}


def read_text(holder: dict[str, Json], name: str) -> str:
    """A member that is text; "" where it is absent. Raises ProtocolError."""
    value = holder.get(name)
    if value is not None and not isinstance(value, str):
        raise ProtocolError(f"{name} is no text")
    return value or ""


def read_time(text: str) -> tuple[int, str]:
    """(seconds since 1970, all digits of the time): (0, "") for a text that is no time."""
    found = _TIME.fullmatch(text)
    if found is None:
        return 0, ""
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    sign, hours, minutes = found.groups()[6:]
    ahead = int(f"{sign}1") * (int(hours) * 3600 + int(minutes) * 60) if sign else 0
    try:
        seconds = calendar.timegm((year, month, day, hour, minute, second)) - ahead
    except ValueError:
        return 0, ""
    return max(0, seconds), re.sub(r"\D", "", text)


def read_usage(line: dict[str, Json]) -> Usage | None:
    """The tokens of the last line, all that was measured in `raw`; None where it counts none."""
    if "eval_count" not in line and "prompt_eval_count" not in line:
        return None
    raw = {name: line[name] for name in _MEASURED if name in line}
    return Usage(input=count(line.get("prompt_eval_count")), output=count(line.get("eval_count")), raw=raw)
