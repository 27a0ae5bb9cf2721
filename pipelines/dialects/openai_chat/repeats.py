"""A relayed stream whose server says a tool call's id and name in every piece: said once, as OpenAI does.

The vendors' own stream helpers join the pieces of every string, so that a name comes out as often as it was said
(openai-python `lib/streaming/_deltas.py`). llama.cpp's Python server does it, and says the call a second time in the
older `function_call`. A frame without such a repetition passes byte for byte.

Above it: `dialect`. Below it: `sse`, `arguments`, msgspec.
"""

import msgspec

from pipelines.conversation import Json
from pipelines.dialects import sse
from pipelines.dialects.arguments import is_whole

ONCE = ("id", "type")
"""Members of a call that stand in its first piece alone; so does its function's name."""


class Repeats:
    """One stream. Call it with each raw frame; it returns the frame as it should be."""

    def __init__(self) -> None:
        self._said: dict[tuple[Json, Json, Json], str] = {}

    def __call__(self, raw: bytes) -> bytes:
        """`raw`, without what has been said before."""
        if b'"tool_calls"' not in raw or b'"name"' not in raw:
            return raw
        try:
            chunk = msgspec.json.decode(sse.parse(raw).data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return raw
        return sse.frame(msgspec.json.encode(chunk)) if self._mended(chunk) else raw

    def _mended(self, chunk: Json) -> bool:
        """Take repetitions out of `chunk`; whether there were any."""
        choices = chunk.get("choices") if isinstance(chunk, dict) else None
        found = False
        for choice in choices if isinstance(choices, list) else ():
            delta = choice.get("delta") if isinstance(choice, dict) else None
            calls = delta.get("tool_calls") if isinstance(delta, dict) else None
            if not isinstance(delta, dict) or not isinstance(calls, list) or not calls:
                continue
            found = delta.pop("function_call", None) is not None or found
            for call in calls:
                found = (isinstance(call, dict) and self._repeated(choice.get("index"), call)) or found
        return found

    def _repeated(self, choice: Json, call: dict[str, Json]) -> bool:
        """Whether a piece says again whose it is; if so, that is taken out of it.

        It counts as the same call only by the same id at the same index, whose arguments are not whole yet: some
        servers give all calls index 0, or one id, and some leave out the id, where a name may begin another call.
        """
        function, identity = call.get("function"), call.get("id")
        if not isinstance(function, dict) or not isinstance(identity, str) or not identity or not function.get("name"):
            return False
        place = (choice, call.get("index"), identity)
        if not all(isinstance(part, str | int | None) for part in place):
            return False
        more = function.get("arguments")
        arguments, more = self._said.get(place), more if isinstance(more, str) else ""
        whole = arguments is not None and bool(more.strip()) and is_whole(arguments)
        if arguments is None or (whole and more != arguments):
            self._said[place] = more
            return False
        if whole:
            function["arguments"] = ""
        else:
            self._said[place] = arguments + more
        for name in ONCE:
            call.pop(name, None)
        del function["name"]
        return True
