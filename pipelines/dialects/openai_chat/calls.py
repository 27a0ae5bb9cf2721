"""Tool calls of one streamed answer, put together from deltas by the many habits of servers.

OpenAI names a call by `index` and gives its id and name once. Others give every call index 0 (Ollama), send the
arguments whole or as null, leave out the index or the id, repeat the name, make up a new id for each delta (old
vLLM), or give several calls one id (DeepSeek, GLM). So: a known id is its call, unless it comes with another name,
with a name at another index, or with a name and other arguments where the call is already whole; a new id is a new
call, unless it stands at a used index without a name; without an id the index decides, unless a name comes again where
the call is already whole. Results name the call that they answer, so an id that is taken, or missing, is replaced by
one of ours.

Gemini signs a call in `extra_content` and refuses a later turn without it
(https://ai.google.dev/gemini-api/docs/thought-signatures). A caller of another dialect keeps no members of a call that
he does not know, but gives back reasoning: so an empty thought before the call carries them too.

Above it: `choice`. Below it: `events`, `errors`.
"""

import itertools
import re
from collections.abc import Iterator

import msgspec

from pipelines.conversation import Json, Opaque
from pipelines.dialects.arguments import is_whole
from pipelines.dialects.openai_chat.thoughts import KEY, SIGNED, mark_calls, own
from pipelines.errors import ProtocolError
from pipelines.events import Event, PartDelta, PartEnded, PartStarted

_PLAIN = frozenset(("id", "index", "type", "function", "custom"))
_UNFIT = re.compile(r"[^A-Za-z0-9_-]")


class _Call:
    """One call. It starts on the wire of events once its name is known. given: the id that the provider gave it."""

    def __init__(self, identity: str, given: Json, index: Json) -> None:
        self.identity = identity
        self.given = given
        self.index = index
        self.name = ""
        self.part = -1
        self.pieces: list[str] = []
        self.opaque: Opaque | None = None
        self.ended = False

    def whole(self) -> bool:
        """Whether the arguments so far are a JSON object."""
        text = "".join(self.pieces)
        self.pieces = [text]
        return is_whole(text)

    def says(self, text: str) -> bool:
        """Whether these are its whole arguments, said over."""
        return bool(text.strip()) and self.whole() and self.pieces[0].strip() == text.strip()


class ToolCalls:
    """The calls of choice `number`. `indices` numbers the parts of the stream; `stream` is the stream's id.

    `read`, `settle` and `end` return events.
    """

    def __init__(self, number: int, indices: Iterator[int], stream: str) -> None:
        self._number = number
        self._indices = indices
        self._stream = _UNFIT.sub("_", stream)
        self._calls: list[_Call] = []
        self._by_id: dict[Json, _Call] = {}
        self._identities: set[str] = set()
        self._by_index: dict[Json, _Call] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def read(self, entry: Json) -> list[Event]:
        """One entry of `tool_calls`. Raises ProtocolError where it is no tool call, or comes after its end."""
        if not isinstance(entry, dict):
            raise ProtocolError("an entry of tool_calls is no object")
        if not isinstance(entry.get("id"), str | None) or not isinstance(entry.get("index"), int | str | None):
            raise ProtocolError("a tool call has an id or an index of a wrong type")
        kind = "custom" if isinstance(entry.get("custom"), dict) else "function"
        said = entry.get(kind)
        said = said if isinstance(said, dict) else {}
        name = said.get("name") or ""
        text = _arguments(said.get("input" if kind == "custom" else "arguments"))
        rest = {key: value for key, value in entry.items() if key not in _PLAIN and value is not None}
        if kind == "custom":
            rest["type"] = "custom"
        events: list[Event] = []
        call = self._find(entry, name, text)
        if call is None:
            events += self.settle()
            call = self._add(entry)
        elif name and call.says(text):
            return events
        if call.ended:
            if text.strip():
                raise ProtocolError("a tool call went on after its arguments were whole")
            return events
        return events + self._advance(call, name, text, {KEY: rest} if rest else None)

    def read_legacy(self, entry: dict[str, Json]) -> list[Event]:
        """A `function_call` member: the one call of the time before `tool_calls`."""
        return self.read({"index": "function_call", "function": entry, "legacy": True})

    def settle(self) -> list[Event]:
        """Something else begins: end the calls that are whole. The others may still go on."""
        ready = [call for call in self._calls if call.part >= 0 and not call.ended and call.whole()]
        return self._ended(ready)

    def end(self) -> list[Event]:
        """The answer is over: end all calls, and bring those that never got a name."""
        events: list[Event] = []
        for call in self._calls:
            if call.part < 0:
                events += self._start(call)
        return events + self._ended([call for call in self._calls if not call.ended])

    def _find(self, entry: dict[str, Json], name: str, text: str) -> _Call | None:
        identity, index = entry.get("id"), entry.get("index")
        if identity and identity in self._by_id:
            return self._known(identity, index, name, text)
        last = self._calls[-1] if self._calls else None
        at = last if index is None else self._by_index.get(index)
        if at is None or (identity and name):
            return None
        if name and (index is None or (at.name and name != at.name) or at.whole()):
            return None
        return at

    def _known(self, identity: Json, index: Json, name: str, text: str) -> _Call | None:
        """The call of an id that has come before; None where the id stands for another call this time."""
        at = self._by_index.get(index)
        call = at if at is not None and at.given == identity else self._by_id[identity]
        other_name = call.name and name != call.name
        other_index = None not in (index, call.index) and index != call.index
        # No object goes on behind its end.
        other_text = text.strip() and call.whole() and not call.says(text)
        return None if name and (other_name or other_index or other_text) else call

    def _add(self, entry: dict[str, Json]) -> _Call:
        given, index, number = entry.get("id"), entry.get("index"), len(self._calls)
        identity = given if isinstance(given, str) and given else f"call_{self._stream}_{self._number}_{number}"
        if identity in self._identities:
            identity = next(
                free for n in itertools.count(number) if (free := f"{identity}_{n}") not in self._identities
            )
        call = _Call(identity, given, index)
        self._calls.append(call)
        self._identities.add(identity)
        self._by_id[given or identity] = call
        if index is not None:
            self._by_index[index] = call
        return call

    def _advance(self, call: _Call, name: str, text: str, opaque: Opaque | None) -> list[Event]:
        if text:
            call.pieces.append(text)
        if call.part >= 0:
            given = opaque if opaque != call.opaque else None
            return [PartDelta(call.part, text, given)] if text or given else []
        call.name, call.opaque = name, opaque or call.opaque
        return self._start(call) if name else []

    def _start(self, call: _Call) -> list[Event]:
        call.part = next(self._indices)
        started = PartStarted(call.part, "tool_call", call.identity, call.name, self._number, call.opaque)
        text = "".join(call.pieces)
        said = [started, PartDelta(call.part, text)] if text else [started]
        return [*self._carrier(call), *said]

    def _carrier(self, call: _Call) -> list[Event]:
        """The thought that carries what the provider wants back with the call; nothing where there is none."""
        signed = {name: value for name, value in own(call.opaque).items() if name in SIGNED}
        if not signed:
            return []
        index = next(self._indices)
        opaque = mark_calls({call.identity: signed})
        return [PartStarted(index, "reasoning", choice=self._number, opaque=opaque), PartEnded(index)]

    def _ended(self, calls: list[_Call]) -> list[Event]:
        for call in calls:
            call.ended = True
        return [PartEnded(call.part) for call in calls]


def _arguments(value: Json) -> str:
    """Arguments as JSON text; null is none, and an object (some servers send one) is written as text."""
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode()
