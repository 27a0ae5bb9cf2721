"""What a caller may ask of Penstock itself: the member `penstock` of a request's body, in every dialect.

    {"model": "best", "messages": [...], "penstock": {"recovery": "continue", "hedge": true, "timeouts": {"idle": 5}}}

No provider sees it. A key can carry the same wishes for all its calls (`calls.Caller`); the call itself wins.

Above it: `calls`, the gateway, the providers. Below it: `resilience`, `routing.ask`, `errors`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from pipelines.errors import BadRequest
from pipelines.resilience import Timeouts
from pipelines.routing.ask import Bounds, Policy

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
        if self == _AS_THEY_ARE:
            return timeouts
        given = {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}
        return msgspec.structs.replace(timeouts, **given)


_AS_THEY_ARE = TimeoutOptions()


_Least = Annotated[float, msgspec.Meta(ge=0)]
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class RouteOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the choice of a model is to heed (`routing.worth`); None leaves the gateway's own setting.

    policy: what weighs most; max_cost in US dollars, max_latency in seconds, min_quality from 0 to 1: who is beyond
    one of these comes last. explore: whether a model may be tried on the request for what it may turn out to be; a
    key that forbids it wins.
    """

    policy: Policy | None = None
    max_cost: _Least | None = None
    max_latency: _Least | None = None
    min_quality: _Share | None = None
    explore: bool | None = None

    def bounds(self, otherwise: Bounds) -> Bounds:
        """The bounds that are set here, and those of `otherwise` that are not."""
        if self.max_cost is None and self.max_latency is None and self.min_quality is None:
            return otherwise
        return Bounds(
            otherwise.max_cost if self.max_cost is None else self.max_cost,
            otherwise.max_latency if self.max_latency is None else self.max_latency,
            otherwise.min_quality if self.min_quality is None else self.min_quality,
        )


_Count = Annotated[int, msgspec.Meta(ge=1)]


class ToolOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far tools that Penstock runs may go (`turns.limits.Limits`); None, or more than is configured: as configured.

    same_model: all turns go to the model of the first; approve, deny: tools, as patterns of names, of which a person
    allows each call, and which are not to run.
    """

    max_turns: _Count | None = None
    max_calls: Annotated[int, msgspec.Meta(ge=0)] | None = None
    parallel: _Count | None = None
    call_seconds: _Least | None = None
    max_seconds: _Least | None = None
    max_cost: _Least | None = None
    max_result: Annotated[int, msgspec.Meta(ge=256)] | None = None
    same_model: bool | None = None
    approve: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


class CacheOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether an answer may come from the cache, and go into it. ttl: seconds for which it stands there; 0: neither."""

    ttl: Annotated[float, msgspec.Meta(ge=0, le=86_400)]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One call's own wishes. None: as the caller's key or the configuration has it.

    recovery: what becomes of a broken stream; hedge: whether a slow candidate may be raced by the next one;
    fall_back: whether another candidate may be asked at all; timeouts: patience in place of the provider's; route: by
    what a model is chosen; cache: whether the very same request may be answered by a stored answer; tools: how far
    those that Penstock runs may go.
    """

    recovery: Recovery | None = None
    hedge: bool | None = None
    fall_back: bool | None = None
    timeouts: TimeoutOptions = TimeoutOptions()
    route: RouteOptions = RouteOptions()
    cache: CacheOptions | None = None
    tools: ToolOptions = ToolOptions()


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
