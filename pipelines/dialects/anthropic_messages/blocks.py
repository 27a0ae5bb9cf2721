"""Parts of an answer as content blocks, for a caller.

Above it: `answers`, `content_writer`. Below it: `conversation`, `opaque`, `arguments`.
"""

from pipelines.conversation import Foreign, Json, Part, Reasoning, Refusal, Text, ToolCall
from pipelines.dialects.anthropic_messages.opaque import own, seal
from pipelines.dialects.anthropic_messages.tool_blocks import run_blocks
from pipelines.dialects.arguments import arguments
from pipelines.events import run_of

_STREAMED = ("deltas",)


def answer_block(part: Part) -> dict[str, Json] | None:
    """The block of one part; None for what this wire has no form for (another dialect's own, sound)."""
    match part:
        case Text():
            return text_block(part)
        case Refusal():
            return {"type": "text", "text": part.text}
        case Reasoning():
            return thinking_block(part, seal(part.opaque))
        case ToolCall():
            return tool_block(part)
        case Foreign():
            return own(part.opaque) or None
        case _:
            return None


def answer_blocks(part: Part) -> list[dict[str, Json]]:
    """The blocks of one part: a tool that ran here has two."""
    run = run_of(part)
    if run is not None:
        return run_blocks(run)
    block = answer_block(part)
    return [] if block is None else [block]


def text_block(part: Text) -> dict[str, Json]:
    """A text block with its citations and cache mark."""
    share = {key: value for key, value in own(part.opaque).items() if key not in _STREAMED}
    return {**share, "type": "text", "text": part.text}


def thinking_block(part: Reasoning, signature: str) -> dict[str, Json]:
    """A thinking block signed by `signature`, or a redacted one."""
    share = own(part.opaque)
    if "data" in share:
        return {**share, "type": "redacted_thinking"}
    kept = {key: value for key, value in share.items() if key not in _STREAMED}
    return {**kept, "type": "thinking", "thinking": part.text, "signature": signature}


def tool_block(part: ToolCall, identity: str = "") -> dict[str, Json]:
    """A tool_use block. identity: the id to show where it is not the call's own."""
    share = {key: value for key, value in own(part.opaque).items() if key not in _STREAMED}
    return {**share, "type": "tool_use", "id": identity or part.id, "name": part.name, "input": arguments(part)}
