"""A tool call's arguments: the text that the model wrote, whole or not, and the object that some wires want instead.

Above it: the dialects. Below it: `lenient`, `conversation`.
"""

import msgspec

from pipelines.conversation import Json, ToolCall
from pipelines.dialects import lenient


def arguments(call: ToolCall) -> dict[str, Json]:
    """A call's arguments as an object; none are {}.

    Text that is no JSON object goes whole under `unparsed_arguments`, so that the model sees what it wrote.
    """
    try:
        value = msgspec.json.decode(call.arguments or "{}")
    except (msgspec.DecodeError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"unparsed_arguments": call.arguments}


def is_whole(text: str) -> bool:
    """Whether arguments that come in pieces are an object by now, behind whose end nothing can follow."""
    if not text.rstrip().endswith("}"):
        return False
    try:
        msgspec.json.decode(lenient.mended(text))
    except msgspec.DecodeError:
        return False
    return True
