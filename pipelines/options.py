"""What a caller may ask of Penstock itself: the member `penstock` of a request's body, in every dialect.

    {"model": "best", "messages": [...], "penstock": {"recovery": "continue", "hedge": true, "timeouts": {"idle": 5}}}

No provider sees it. A key can carry the same wishes for all its calls (`calls.Caller`); the call itself wins.

Above it: `calls`, the gateway, the providers. Below it: `resilience`, `errors`.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from pipelines.errors import BadRequest
from pipelines.resilience import Timeouts

Recovery = Literal["error", "continue"]
"""A stream that breaks after its first output ends with an error, or may be continued by another candidate."""

SHORTEST_TIMEOUT = 0.05
"""Seconds that a caller may set for any phase, at least."""

LONGEST_TIMEOUTS = Timeouts(connect=60.0, first_event=600.0, idle=600.0, total=3600.0)
"""Seconds that a caller may set for each phase, at most."""


class TimeoutOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Seconds by phase (`resilience.Timeouts`); None leaves the provider's own setting."""

    connect: float | None = None
    first_event: float | None = None
    idle: float | None = None
    total: float | None = None

    def over(self, timeouts: Timeouts) -> Timeouts:
        """`timeouts`, with what is set here in its place."""
        given = {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}
        return msgspec.structs.replace(timeouts, **given) if given else timeouts


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One call's own wishes. None: as the caller's key or the configuration has it.

    recovery: what becomes of a broken stream; hedge: whether a slow candidate may be raced by the next one;
    fall_back: whether another candidate may be asked at all; timeouts: patience in place of the provider's.
    """

    recovery: Recovery | None = None
    hedge: bool | None = None
    fall_back: bool | None = None
    timeouts: TimeoutOptions = TimeoutOptions()


def options_of(body: Mapping[str, Any]) -> Options:
    """The options in a request's body. Raises BadRequest, naming the field, for what is unknown or out of bounds."""
    given = body.get("penstock")
    if given is None:
        return Options()
    try:
        options = msgspec.convert(given, Options)
    except msgspec.ValidationError as error:
        words, _, path = str(error).partition(" - at `$")
        param = "penstock" + path.rstrip("`")
        raise BadRequest(f"`{param}`: {words}", param=param) from None
    for name, seconds in msgspec.structs.asdict(options.timeouts).items():
        most = getattr(LONGEST_TIMEOUTS, name)
        if seconds is not None and not SHORTEST_TIMEOUT <= seconds <= most:
            param = f"penstock.timeouts.{name}"
            raise BadRequest(f"`{param}` must be between {SHORTEST_TIMEOUT:g} and {most:g} seconds", param=param)
    return options
