"""What our own executors did, on this wire: a call of a tool that ran here is an `mcp_tool_use` block with its
`mcp_tool_result`, as a provider's own would be. `server_name` says that it is ours.

The input stands whole in the block's beginning: clients of the time before these blocks follow no input of theirs.

Source: Anthropic API reference, "MCP connector"; the `anthropic` package's `BetaMCPToolUseBlock`.

Above it: `encoder`, `blocks`, the readers. Below it: `events`, `own_runs`.
"""

from collections.abc import Sequence

import msgspec

from pipelines.conversation import Json
from pipelines.dialects.own_runs import plain_name, unfolded
from pipelines.events import OURS, Run

Block = dict[str, Json]

_RESULT = "tool_result"


def run_blocks(run: Run) -> list[Block]:
    """A call of a tool that ran here, and its result."""
    return [
        {"type": "mcp_tool_use", "id": run.call_id, "name": run.name, "server_name": OURS, "input": _input(run)},
        {
            "type": "mcp_tool_result",
            "tool_use_id": run.call_id,
            "is_error": bool(run.error),
            "content": [{"type": "text", "text": run.text}],
        },
    ]


def _input(run: Run) -> Json:
    try:
        given = msgspec.json.decode(run.arguments or "{}")
    except (msgspec.DecodeError, RecursionError):
        given = None
    return given if isinstance(given, dict) else {"unparsed_arguments": run.arguments}


def without_ours(messages: list[Json], *, legal: bool = False) -> list[Json]:
    """Messages with such calls taken apart. legal: their names become such as a provider takes."""
    if not any(_holds_ours(message) for message in messages):
        return messages
    written: list[Json] = []
    for message in messages:
        if not _holds_ours(message):
            written.append(_joined(written, message))
            continue
        for role, blocks in _turns(_unfolded(message["content"], legal=legal)):
            written.append({"role": role, "content": blocks})
    return written


def _holds_ours(message: Json) -> bool:
    content = message.get("content") if isinstance(message, dict) else None
    return isinstance(content, list) and any(isinstance(block, dict) and _is_ours(block) for block in content)


def _is_ours(block: Block) -> bool:
    return block.get("type") == "mcp_tool_use" and block.get("server_name") == OURS


def _unfolded(content: list[Json], *, legal: bool) -> list[Json]:
    ours = {block.get("id") for block in content if isinstance(block, dict) and _is_ours(block)}
    results = {
        block.get("tool_use_id"): block
        for block in content
        if isinstance(block, dict) and block.get("type") == "mcp_tool_result" and block.get("tool_use_id") in ours
    }

    def apart(block: Block) -> tuple[Block, Block]:
        name, identity = str(block.get("name", "")), block.get("id")
        result = results.get(identity, {})
        call = {"type": "tool_use", "id": identity, "name": plain_name(name) if legal else name}
        told = {"type": _RESULT, "tool_use_id": identity, "content": result.get("content") or ""}
        error = {"is_error": True} if result.get("is_error") else {}
        return {**call, "input": block.get("input") or {}}, {**told, **error}

    kept = [block for block in content if not any(block is result for result in results.values())]
    return unfolded(kept, _is_ours, apart)


def _turns(blocks: Sequence[Json]) -> list[tuple[str, list[Json]]]:
    """An assistant's blocks with results among them, as turns that take turns."""
    turns: list[tuple[str, list[Json]]] = []
    for block in blocks:
        is_result = isinstance(block, dict) and block.get("type") == _RESULT
        role = "user" if is_result else "assistant"
        if not turns or turns[-1][0] != role:
            turns.append((role, []))
        turns[-1][1].append(block)
    return turns


def _joined(written: list[Json], message: Json) -> Json:
    """`message`, with the results before it where the assistant ended on them: two user turns are one."""
    if not written or not _is_of_user(written[-1]) or not _is_of_user(message):
        return message
    results, content = written[-1].get("content"), message.get("content")
    if not isinstance(results, list) or not all(
        isinstance(one, dict) and one.get("type") == _RESULT for one in results
    ):
        return message
    written.pop()
    more = [{"type": "text", "text": content}] if isinstance(content, str) else list(content or ())
    return {**message, "content": [*results, *more]}


def _is_of_user(message: Json) -> bool:
    return isinstance(message, dict) and message.get("role") == "user"
