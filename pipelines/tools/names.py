"""Names that every provider takes, and the way back to the caller's own.

A legal name stays as it is. An illegal one is cleaned (accents off, anything else that is not allowed becomes "_").
Where the cleaned name is taken, stands for two, was cut or says nothing, it gets the first digits of the name's
SHA-256. So the result depends on the set of names alone, not on their order, and is the same in every turn.

Above it: `portable`, `restoring`. Below it: `formats`, `events`.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from pipelines.events import Event, PartStarted
from pipelines.tools.formats import TOOL_NAME

_LENGTH = 64
_DIGITS = 8
_WORD = re.compile(r"[A-Za-z0-9]")


def safe_names(
    names: Iterable[str], reserved: Iterable[str] = (), legal: re.Pattern[str] = TOOL_NAME
) -> dict[str, str]:
    """Illegal names to legal ones of at most 64 characters, each its own; legal and `reserved` ones are left out.

    legal: what a name must match in full; it must allow letters, digits and "_".
    """
    taken = set(reserved)
    given = set(names) - taken
    illegal = sorted(name for name in given if not legal.fullmatch(name))
    if not illegal:
        return {}
    taken |= given - set(illegal)
    cleaned = {name: _cleaned(name, legal) for name in illegal}
    counts = Counter(cleaned.values())
    safe = {
        name: short
        for name, short in cleaned.items()
        if legal.fullmatch(short) and _WORD.search(short) and counts[short] == 1 and short not in taken
    }
    taken |= set(safe.values())
    for name in illegal:
        if name not in safe:
            safe[name] = _hashed(name, cleaned[name], taken)
            taken.add(safe[name])
    return safe


def _cleaned(name: str, legal: re.Pattern[str]) -> str:
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", name) if not unicodedata.combining(letter))
    return "".join(letter if legal.fullmatch(letter) else "_" for letter in plain)


def _hashed(name: str, cleaned: str, taken: set[str]) -> str:
    stem = (cleaned if _WORD.search(cleaned) else "tool")[: _LENGTH - _DIGITS - 1]
    attempt = 0
    while True:
        salted = f"{name}\0{attempt}" if attempt else name
        digest = hashlib.sha256(salted.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
        safe = f"{stem}_{digest}"
        if safe not in taken:
            return safe
        attempt += 1


class NameMap:
    """The caller's names and those that were sent.

    sent: own tool name to the sent one, for those that differ. keys: own tool name to its arguments' own names and
    the sent ones, for those that differ.
    """

    def __init__(self, sent: Mapping[str, str], keys: Mapping[str, Mapping[str, str]] | None = None) -> None:
        self.sent = dict(sent)
        self.keys = {name: dict(renamed) for name, renamed in (keys or {}).items() if renamed}
        self._own = {safe: name for name, safe in self.sent.items()}

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.sent or self.keys)

    def send(self, name: str) -> str:
        """The sent form of a tool's own name."""
        return self.sent.get(name, name)

    def restore(self, event: Event) -> Event:
        """An event with the caller's own name of the tool, if it begins a call."""
        if isinstance(event, PartStarted) and event.name in self._own:
            return msgspec.structs.replace(event, name=self._own[event.name])
        return event

    def send_arguments(self, tool: str, arguments: str) -> str:
        """A call's arguments (JSON text) with the sent names, for the tool of this own name."""
        return _renamed(arguments, self.keys.get(tool, {}))

    def own_arguments(self, tool: str, arguments: str) -> str:
        """A call's arguments (JSON text) with the own names, for the tool of this own name."""
        return _renamed(arguments, {safe: key for key, safe in self.keys.get(tool, {}).items()})


_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _renamed(arguments: str, names: Mapping[str, str]) -> str:
    """JSON text with members of its top level renamed, their values untouched; text that is no object stays."""
    if not names or not arguments:
        return arguments
    try:
        members = _MEMBERS.decode(arguments)
    except msgspec.DecodeError:
        return arguments
    return msgspec.json.encode({names.get(key, key): value for key, value in members.items()}).decode()
