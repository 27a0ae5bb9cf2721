"""A key as people write it and read it: a JSON body in, checked field by field, and a JSON object out.

Money is in US dollars, as a number or a decimal text, and exact: whole nano-dollars inside, never a float. Dates are
those of RFC 3339, with a zone. A change is a JSON merge patch (RFC 7396): what is left out stays, null takes away.

Above it: `key_pages`. Below it: pydantic, `pipelines.keys`. Outside it: who may make keys, and where they are kept.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationError,
)

from pipelines.conversation import Json
from pipelines.errors import BadRequest
from pipelines.keys import WAYS, Budget, Key, Limits, Right, Settings, Spent, Way
from pipelines.options import RouteOptions
from pipelines.pricing import NANO, in_dollars
from pipelines.routing.table import HIGHEST_PRIORITY, LOWEST_PRIORITY, SHORTEST_KEEP_ALIVE

MOST_DOLLARS = 1_000_000_000
"""Of a budget: its nano-dollars fit into 63 bits."""

MOST_DIGITS = 19
MOST_A_MINUTE = 10**12
LATEST = 253_370_764_800.0
"""Seconds since 1970 at which the year 9999 begins."""

LONGEST_OVERLAP = 30 * 86_400.0
"""Seconds that an old secret may stay valid."""

OVERLAP = 86_400.0

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)")
_DECIMAL = re.compile(r"-?\d{1,12}(?:\.\d{1,12})?", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _plain(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("must hold no control characters")
    return text


def _date(value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
        raise ValueError("must be a date with a zone, as in 2027-01-31T12:00:00Z (RFC 3339)")
    try:
        seconds = datetime.fromisoformat(value.upper()).timestamp()
    except OverflowError:
        seconds = -1.0
    if not 0.0 <= seconds <= LATEST:
        raise ValueError("is no date of this era")
    return seconds


def _nano(value: object) -> int | None:
    if value is None:
        return None
    written = isinstance(value, str) and _DECIMAL.fullmatch(value)
    if not (written or (isinstance(value, int | Decimal) and not isinstance(value, bool))):
        raise ValueError("must be an amount in US dollars: a number, or a decimal text")
    dollars = Decimal(str(value))
    if dollars < 0:
        raise ValueError("must not be negative")
    if dollars > MOST_DOLLARS:
        raise ValueError(f"must be {MOST_DOLLARS} at most")
    nano = dollars * NANO
    # The product of more digits would be rounded.
    if len(dollars.as_tuple().digits) > MOST_DIGITS or nano != int(nano):
        raise ValueError("has more than nine decimals")
    return int(nano)


_Name = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_plain)]
_Pattern = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_plain)]
_Nano = Annotated[int | None, BeforeValidator(_nano)]
_Count = Annotated[StrictInt, Field(ge=1, le=MOST_A_MINUTE)]
_Text = Annotated[str, Field(max_length=512), AfterValidator(_plain)]


class _Form(BaseModel):
    """Frozen; an unknown field is an error, and no message shows what was given."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)


class BudgetForm(_Form):
    """US dollars by day, month (both UTC) and ever; null: no limit."""

    day: _Nano = None
    month: _Nano = None
    total: _Nano = None


class KeyForm(_Form):
    """All that may be said of a key."""

    name: _Name
    expires: Annotated[float | None, BeforeValidator(_date)] = None
    models: Annotated[tuple[_Pattern, ...], Field(min_length=1, max_length=100)] | None = None
    tools: Annotated[tuple[_Pattern, ...], Field(max_length=200)] | None = None
    lanes: Annotated[tuple[Way, ...], Field(min_length=1, max_length=2)] = WAYS
    requests_per_minute: _Count | None = None
    tokens_per_minute: _Count | None = None
    streams: _Count | None = None
    budget: BudgetForm = BudgetForm()
    priority: Annotated[StrictInt, Field(ge=LOWEST_PRIORITY, le=HIGHEST_PRIORITY)] = 0
    recovery: Literal["error", "continue"] = "error"
    explore: StrictBool = True
    keep_alive: Annotated[float, Field(ge=0, le=3600)] = 0.0
    route: dict[str, Any] = {}
    rights: Annotated[tuple[Right, ...], Field(max_length=20)] = ()
    metadata: Annotated[dict[_Name, _Text], Field(max_length=16)] = {}
    cache: Annotated[float, Field(ge=0, le=86_400)] = 0.0

    def settings(self) -> Settings:
        """As it is kept. Raises BadRequest."""
        if self.keep_alive and self.keep_alive < SHORTEST_KEEP_ALIVE:
            raise BadRequest(f"`keep_alive` must be 0, or {SHORTEST_KEEP_ALIVE:g} at least", param="keep_alive")
        budget = Budget(self.budget.day, self.budget.month, self.budget.total)
        return Settings(
            name=self.name,
            expires=self.expires,
            models=self.models,
            tools=self.tools,
            lanes=tuple(dict.fromkeys(self.lanes)),
            limits=Limits(self.requests_per_minute, self.tokens_per_minute, self.streams, budget),
            priority=self.priority,
            recovery=self.recovery,
            explore=self.explore,
            keep_alive=self.keep_alive,
            route=_route(self.route),
            rights=tuple(dict.fromkeys(self.rights)),
            metadata=self.metadata,
            cache=self.cache,
        )


class RotationForm(_Form):
    """overlap: seconds that the old secret stays valid."""

    overlap: Annotated[float, Field(ge=0, le=LONGEST_OVERLAP)] = OVERLAP


def made(body: Mapping[str, Any]) -> Settings:
    """The settings of a new key. Raises BadRequest, naming the field."""
    return _form(KeyForm, body).settings()


def changed(body: Mapping[str, Any], key: Key) -> Settings:
    """The settings of a key as a merge patch leaves them. Raises BadRequest, naming the field."""
    written = {name: value for name, value in _written(key.settings).items() if value is not None}
    return _form(KeyForm, _merged(written, body)).settings()


def overlap(body: Mapping[str, Any]) -> float:
    """Of a rotation, in seconds. Raises BadRequest."""
    return _form(RotationForm, body).overlap


def shown(key: Key, spent: Spent, now: float) -> dict[str, Json]:
    """A key for people: nothing of its secrets."""
    expired = key.settings.expires is not None and key.settings.expires <= now
    return {
        "object": "key",
        "id": key.id,
        "status": "revoked" if key.revoked is not None else "expired" if expired else "active",
        "created": _dated(key.created),
        "revoked": _dated(key.revoked),
        "rotated": {"old_until": _dated(key.old_until)} if key.old_hash and key.old_until > now else None,
        **_written(key.settings),
        "spent": {period: in_dollars(getattr(spent, period)) for period in ("day", "month", "total")},
    }


_Model = TypeVar("_Model", bound=BaseModel)


def _form(kind: type[_Model], body: Mapping[str, Any]) -> _Model:
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        param = ".".join(str(part) for part in first["loc"])[:200]
        words = first["msg"].removeprefix("Value error, ")
        raise BadRequest(f"`{param}`: {words}" if param else words, param=param or None) from None


def _written(settings: Settings) -> dict[str, Any]:
    """Settings as a body would say them."""
    limits = settings.limits
    money = {period: getattr(limits.budget, period) for period in ("day", "month", "total")}
    return {
        "name": settings.name,
        "expires": _dated(settings.expires),
        "models": list(settings.models) if settings.models is not None else None,
        "tools": list(settings.tools) if settings.tools is not None else None,
        "lanes": list(settings.lanes),
        "requests_per_minute": limits.requests_per_minute,
        "tokens_per_minute": limits.tokens_per_minute,
        "streams": limits.streams,
        "budget": {period: None if nano is None else in_dollars(nano) for period, nano in money.items()},
        "priority": settings.priority,
        "recovery": settings.recovery,
        "explore": settings.explore,
        "keep_alive": settings.keep_alive,
        "route": {name: value for name, value in msgspec.to_builtins(settings.route).items() if value is not None},
        "rights": list(settings.rights),
        "metadata": settings.metadata,
        "cache": settings.cache,
    }


def _merged(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """RFC 7396, section 2."""
    result = dict(target)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict):
            before = result.get(name)
            result[name] = _merged(before if isinstance(before, dict) else {}, value)
        else:
            result[name] = value
    return result


def _route(given: dict[str, Any]) -> RouteOptions:
    try:
        return msgspec.convert(given, RouteOptions)
    except msgspec.ValidationError as error:
        words, _, path = str(error).partition(" - at `$")
        param = "route" + path.rstrip("`")
        raise BadRequest(f"`{param}`: {words}", param=param) from None


def _dated(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
