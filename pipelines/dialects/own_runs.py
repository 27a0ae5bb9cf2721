"""Calls of tools that ran here, in histories: what two wires show of them, and the way back to calls and results.

In an answer such a call stands whole, with its result. When the answer comes back as history it is taken apart: calls
that follow each other are one turn's, and their results follow all of them, as every provider wants it.

Above it: the dialects that callers speak. Below it: `conversation`, `events`. Outside it: the wires' forms.
"""

from collections.abc import Callable, Iterable

from pipelines.conversation import Json, ToolSpec
from pipelines.events import OURS

Object = dict[str, Json]


def our_tool(entry: Object) -> ToolSpec:
    """A caller's entry of `tools` with the type "penstock": it asks for a tool that runs here."""
    name = entry.get("name")
    return ToolSpec(name if isinstance(name, str) and name else OURS, opaque={OURS: entry})


def unfolded(
    entries: Iterable[Json], is_ours: Callable[[Object], bool], apart: Callable[[Object], tuple[Object, Object]]
) -> list[Json]:
    """`entries` with each one of ours in two: its call in its place, its result behind the run of such calls.

    apart: one of ours as (call, result).
    """
    written: list[Json] = []
    results: list[Json] = []
    for entry in entries:
        if isinstance(entry, dict) and is_ours(entry):
            call, result = apart(entry)
            written.append(call)
            results.append(result)
            continue
        written += results
        results = []
        written.append(entry)
    return written + results


def plain_name(name: str) -> str:
    """A tool's name as every provider takes it, where nobody calls it any more: it only has to be legal."""
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_-") else "_" for letter in name)[:64]
