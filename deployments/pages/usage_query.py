"""A query string about the ledger as a question to it. Whatever cannot be understood is refused, and named.

Times are RFC 3339 (`2026-11-22`, `2026-11-22T10:00:00Z`; UTC unless it says otherwise), seconds since 1970, or so long
ago (`30d`, `12h`, `15m`).

Above it: `usage_pages`. Below it: `pipelines.ledger_questions`, `pipelines.errors`. Outside it: who may ask.
"""

import base64
import math
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import get_args
from urllib.parse import parse_qsl

import msgspec

from pipelines.errors import BadRequest
from pipelines.ledger import HOUR, By, Question
from pipelines.ledger_questions import FILTERS, Kind, Position, RowsQuestion

USUAL_DAYS = 30
"""How far back the sums go, unless it is said."""

MOST_GROUPS = 10_000
"""Groups of one report."""

MOST_ROWS, USUAL_ROWS = 1_000, 100
"""Rows of one page."""

_AGO = re.compile(r"(\d{1,6})([mhd])")
_SECONDS = {"m": 60.0, "h": HOUR, "d": 24 * HOUR}
_LATEST = 1e11
_WORDS: dict[str, By] = {word: word for word in get_args(By)}
_positions = msgspec.json.Decoder(Position)


def parameters(query: str, known: Collection[str]) -> dict[str, str]:
    """The parameters of a query string. Raises BadRequest for one that is unknown or comes twice."""
    given: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise BadRequest(f"there is no parameter `{name[:50]}` here: there are {', '.join(known)}", param=name[:50])
        if name in given:
            raise BadRequest(f"`{name}` comes twice", param=name)
        given[name] = value
    return given


def sums(given: Mapping[str, str], now: float) -> Question:
    """The question for sums: the last 30 days by day unless it is said otherwise, up to the end of this hour.

    One group more than may be is asked for, so that it shows.
    """
    since, until = _span(given, now, now - USUAL_DAYS * 24 * HOUR)
    by: list[By] = []
    for name in filter(None, given.get("by", "day").split(",")):
        if name not in _WORDS:
            raise BadRequest(f"`by` is a list of {', '.join(_WORDS)}", param="by")
        if _WORDS[name] not in by:
            by.append(_WORDS[name])
    only = {name: given[name] for name in ("tag", "model", "provider", "task") if name in given}
    since, until = math.floor(since / HOUR) * HOUR, math.ceil(until / HOUR) * HOUR
    return Question(since, until, tuple(by), given.get("key", ""), only, MOST_GROUPS + 1)


def rows(given: Mapping[str, str], now: float) -> RowsQuestion:
    """The question for a page of rows, newest first."""
    since, until = _span(given, now, 0.0)
    after = _position(given["cursor"]) if "cursor" in given else None
    return RowsQuestion(
        since=since,
        until=until,
        key=given.get("key", ""),
        only={name: given[name] for name in FILTERS if name in given},
        after=after,
        most=_count(given, "limit", USUAL_ROWS, MOST_ROWS),
    )


def export(given: Mapping[str, str], now: float) -> RowsQuestion:
    """The question for the first page of an export: oldest first, so that what comes meanwhile changes nothing."""
    kind = choice(given, "kind", get_args(Kind))
    question = rows({name: value for name, value in given.items() if name != "limit"}, now)
    return msgspec.structs.replace(question, kind=kind, newest_first=False, until=min(question.until, now))


def choice(given: Mapping[str, str], name: str, words: tuple[str, ...]) -> str:
    """One of these words, the first unless it is said. Raises BadRequest."""
    word = given.get(name, words[0])
    if word not in words:
        raise BadRequest(f"`{name}` is one of {', '.join(words)}", param=name)
    return word


def cursor(position: Position) -> str:
    """Where a page ended, as a caller hands it back."""
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).decode().rstrip("=")


def _position(text: str) -> Position:
    try:
        return _positions.decode(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (ValueError, msgspec.MsgspecError):
        raise BadRequest("`cursor` is not one that a page of ours ended with", param="cursor") from None


def _count(given: Mapping[str, str], name: str, usual: int, most: int) -> int:
    text = given.get(name, str(usual))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:10]) <= most):
        raise BadRequest(f"`{name}` is a number from 1 to {most}", param=name)
    return int(text)


def _span(given: Mapping[str, str], now: float, begin: float) -> tuple[float, float]:
    since = _time(given, "since", now, begin)
    until = _time(given, "until", now, now)
    if since > until:
        raise BadRequest("`since` is later than `until`", param="since")
    return since, until


def _time(given: Mapping[str, str], name: str, now: float, usual: float) -> float:
    text = given.get(name)
    if text is None:
        return usual
    if ago := _AGO.fullmatch(text):
        return max(0.0, now - int(ago[1]) * _SECONDS[ago[2]])
    try:
        seconds = float(text) if text.replace(".", "", 1).isdecimal() else _moment(text)
    except (ValueError, OverflowError):
        seconds = -1.0
    if not 0 <= seconds <= _LATEST:
        message = f"`{name}` is a time: 2026-11-22T10:00:00Z, 2026-11-22, seconds since 1970, or so long ago (30d, 12h)"
        raise BadRequest(message, param=name)
    return seconds


def _moment(text: str) -> float:
    # A plus sign for a zone comes as a space where the caller forgot to escape it.
    moment = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
