"""A tool call's arguments for the wires that want an object where ours are the text that the model wrote.

Above it: the dialects with such a wire. Below it: `conversation`.
"""

import msgspec

from pipelines.conversation import Json, ToolCall


def arguments(call: ToolCall) -> dict[str, Json]:
    """A call's arguments as an object; none are {}.

    Text that is no JSON object goes whole under `unparsed_arguments`, so that the model sees what it wrote.
    """
    try:
        value = msgspec.json.decode(call.arguments or "{}")
    except (msgspec.DecodeError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"unparsed_arguments": call.arguments}
