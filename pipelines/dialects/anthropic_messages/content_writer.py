"""Messages of a request as `system` and the alternating turns of this wire.

- leading system and developer messages are `system`; later ones are user turns inside `<system>` and `</system>`,
  since models and versions differ in whether they take another place for them; where there is nothing else, the leading
  ones are the user's turn, for Anthropic wants one
- tool results are user content, first in their turn, as Anthropic demands; neighbours of one role are one turn
- text of nothing but white space is left out (Anthropic refuses it), and so is white space after a last assistant turn
- reasoning without a signature of Anthropic's, sound, and other dialects' own parts are left out and named
- a refusal becomes text; ids of calls with characters that Anthropic refuses become digests

Source: Anthropic API reference, "Create a Message"; "Tool use"; "Extended thinking" (signatures).

Above it: `request_writer`. Below it: `blocks`, `sources`, `identifiers`, `conversation`.
"""

import re
from collections.abc import Sequence

from pipelines.conversation import (
    File,
    Foreign,
    Image,
    Json,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from pipelines.dialects.anthropic_messages.blocks import text_block, thinking_block, tool_block
from pipelines.dialects.anthropic_messages.opaque import NAME, own
from pipelines.dialects.anthropic_messages.sources import write_document, write_image
from pipelines.dialects.identifiers import call_of

Dropped = dict[str, None]
"""Names of what the wire could not say, each once, in order."""

Block = dict[str, Json]

_CALL_ID = re.compile(r"[a-zA-Z0-9_-]+")
_INSTRUCTING = ("system", "developer")


def write_messages(messages: Sequence[Message], dropped: Dropped) -> tuple[list[Block], list[Block]]:
    """(`system` as text blocks, `messages`). Adds to `dropped` what could not be said."""
    system: list[Block] = []
    turns: list[Block] = []
    for message in messages:
        if message.name:
            dropped["messages.name"] = None
        blocks = [block for part in message.parts if (block := _block(part, dropped)) is not None]
        if message.role in _INSTRUCTING and not turns:
            system += [block for block in blocks if block["type"] == "text"]
            continue
        if message.role in _INSTRUCTING:
            dropped["messages.role"] = None
            blocks = [_marked(block) for block in blocks]
        _append(turns, "assistant" if message.role == "assistant" else "user", blocks)
    if system and all(message.role in _INSTRUCTING for message in messages):
        dropped["messages.role"] = None
        _append(turns, "user", system)
        system = []
    for turn in turns:
        turn["content"].sort(key=_rank)
    _trim_last(turns)
    return system, [{"role": turn["role"], "content": _plain(turn["content"])} for turn in turns]


def note(opaque: Opaque | None, what: str, dropped: Dropped) -> None:
    """Name the shares of other dialects, as `what.dialect`."""
    for name in opaque or {}:
        if name != NAME:
            dropped[f"{what}.{name}"] = None


def _append(turns: list[Block], role: str, blocks: list[Block]) -> None:
    if not blocks:
        return
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] += blocks
    else:
        turns.append({"role": role, "content": blocks})


def _rank(block: Block) -> bool:
    return bool(block["type"] != "tool_result")


def _marked(block: Block) -> Block:
    return {**block, "text": f"<system>\n{block['text']}\n</system>"} if block["type"] == "text" else block


def _trim_last(turns: list[Block]) -> None:
    if turns and turns[-1]["role"] == "assistant" and turns[-1]["content"][-1]["type"] == "text":
        last = turns[-1]["content"][-1]
        turns[-1]["content"][-1] = {**last, "text": last["text"].rstrip()}


def _plain(blocks: list[Block]) -> str | list[Block]:
    """A lone text block without anything else is written as a string."""
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
        text: str = blocks[0]["text"]
        return text
    return blocks


def _block(part: Part, dropped: Dropped) -> Block | None:
    """The block of one part; None, and its name in `dropped`, where the wire has none."""
    block: Block | None = None
    match part:
        case Text() | Refusal():
            return _text(part, dropped)
        case ToolResult():
            return _result(part, dropped)
        case ToolCall():
            note(part.opaque, "tool_call", dropped)
            return tool_block(part, call_of(part.id, _CALL_ID))
        case Reasoning():
            block = _thinking(part)
        case Image():
            block = write_image(part)
        case File():
            block = write_document(part)
        case Foreign():
            block = own(part.opaque) or None
    if block is None:
        dropped[type(part).__name__.lower()] = None
    return block


def _text(part: Text | Refusal, dropped: Dropped) -> Block | None:
    if not part.text.strip():
        return None
    if isinstance(part, Refusal):
        dropped["refusal"] = None
        return {"type": "text", "text": part.text}
    note(part.opaque, "text", dropped)
    return text_block(part)


def _thinking(part: Reasoning) -> Block | None:
    share = own(part.opaque)
    signature = share.get("signature")
    if "data" not in share and not signature:
        return None
    return thinking_block(part, signature or "")


def _result(part: ToolResult, dropped: Dropped) -> Block:
    note(part.opaque, "tool_result", dropped)
    block = {**own(part.opaque), "type": "tool_result", "tool_use_id": call_of(part.call_id, _CALL_ID)}
    if part.is_error:
        block["is_error"] = True
    if "content" not in block:
        content = _result_content(part.parts, dropped)
        if content:
            block["content"] = content
    return block


def _result_content(parts: Sequence[Part], dropped: Dropped) -> str | list[Block]:
    return _plain([block for part in parts if (block := _block(part, dropped)) is not None])
