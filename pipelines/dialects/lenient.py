r"""JSON that servers write and msgspec refuses: halves of characters, NaN and Infinity.

An escape names a character outside the first plane as two halves (`"\ud83d\ude00"`, RFC 8259, section 7). A server
that cuts its text between them says one in each of two deltas: JSON both, though neither is text. Python's `json`
writes NaN and Infinity; here they are None, which is how msgspec would write them.

No half gets past this module but one that waits for its other in a piece of text: encoders cannot write it. One that
waits in vain is U+FFFD, the Unicode Standard's mark for what is no character (section 3.9).

Asked only where msgspec has refused: the usual frame costs nothing more.

Above it: the decoders, and whoever reads a whole answer. Below it: `events`, `errors`. Outside it: frames.
"""

import json
import math
from collections.abc import Iterable

import msgspec

from pipelines.conversation import Json
from pipelines.errors import ProtocolError
from pipelines.events import Event, PartDelta, PartEnded

REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that it cannot read."""

LOST = "\ufffd"
"""In place of half a character."""

_PIECES = frozenset(
    (
        "arguments",
        "content",
        "delta",
        "input",
        "partial_json",
        "reasoning",
        "reasoning_content",
        "refusal",
        "text",
        "thinking",
    )
)
"""Members of a frame that may hold a piece of text, whose ends are joined to its neighbours."""


def read(body: bytes) -> Json:
    """A whole JSON value, every text of it whole. Raises ProtocolError where it is none."""
    try:
        return msgspec.json.decode(body)
    except REFUSED:
        pass
    try:
        return _mended(_loaded(body))
    except (ValueError, RecursionError):
        raise ProtocolError("the provider's answer is no JSON") from None


def read_piece(data: bytes) -> Json:
    """A frame's JSON value that msgspec refuses, None where it is none; `Halves` joins the ends of its texts."""
    try:
        return _mended(_loaded(data), pieces=_PIECES)
    except (ValueError, RecursionError):
        return None


def mended(text: str) -> str:
    """Text in which two halves that stand side by side are one character, and any other half is U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class Halves:
    """Joins the halves that one stream's deltas end and begin with, part by part."""

    def __init__(self) -> None:
        self._waiting: dict[int, str] = {}

    def joined(self, events: Iterable[Event]) -> list[Event]:
        """The events with whole characters. A half that ends a delta is said with the next one of its part."""
        told: list[Event] = []
        for event in events:
            opaque = getattr(event, "opaque", None)
            whole = msgspec.structs.replace(event, opaque=_mended(opaque)) if opaque else event
            if isinstance(whole, PartDelta):
                told += self._delta(whole)
                continue
            if isinstance(whole, PartEnded) and self._waiting.pop(whole.index, ""):
                told.append(PartDelta(whole.index, LOST))
            told.append(whole)
        return told

    def _delta(self, event: PartDelta) -> list[Event]:
        text = self._waiting.pop(event.index, "") + event.text
        if _is_first_half(text[-1:]):
            self._waiting[event.index] = text[-1]
            text = text[:-1]
        if not text and event.text and not event.opaque:
            return []
        return [msgspec.structs.replace(event, text=mended(text))]


def _loaded(data: bytes) -> Json:
    return json.loads(data.decode(), parse_constant=_nothing, parse_float=_finite)


def _nothing(_: str) -> None:
    """NaN and Infinity."""


def _finite(written: str) -> float | None:
    number = float(written)
    return number if math.isfinite(number) else None


def _mended(value: Json, *, pieces: frozenset[str] = frozenset(), piece: bool = False) -> Json:
    """A JSON value without halves. piece: it may keep those at its ends, as may members whose names are `pieces`."""
    if isinstance(value, str):
        return _mended_inside(value) if piece else mended(value)
    if isinstance(value, list):
        return [_mended(entry, pieces=pieces) for entry in value]
    if isinstance(value, dict):
        return {mended(name): _mended(member, pieces=pieces, piece=name in pieces) for name, member in value.items()}
    return value


def _mended_inside(text: str) -> str:
    """Text that may begin with a second half and end with a first one."""
    start = 1 if "\udc00" <= text[:1] <= "\udfff" else 0
    end = len(text) - _is_first_half(text[-1:])
    return text[:start] + mended(text[start:end]) + text[end:]


def _is_first_half(text: str) -> bool:
    return "\ud800" <= text <= "\udbff"
