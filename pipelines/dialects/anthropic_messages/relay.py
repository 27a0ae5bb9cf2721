"""The same dialect on both sides: what is changed of a caller's body. Frames pass as they are, but for the cost.

Above it: `dialect`. Below it: `tool_blocks`, `sealing`.
"""

import re

from pipelines.conversation import Json
from pipelines.dialects import base
from pipelines.dialects.anthropic_messages.tool_blocks import without_ours
from pipelines.dialects.sealing import SEAL

TELLING = re.compile(
    rb"\A(?!(?:(?:event: ?content_block_(?:delta|stop)(?:\r\n|\n|\r))?+"
    rb'data: ?\{ ?"type": ?"content_block_(?:delta|stop)"[^\r\n]*+(?:\r\n|\n|\r){2})++\Z)'
)
"""Matches a chunk that is more than deltas and ends of blocks.

Written as what content is: frames of one `data` line whose first member says so. A JSON string holds no line end, so
nothing else hides in such a line. The beginning of a block matches, for it names the block's type: the decoder is
told of it, once a block. So does a frame written in an unusual way, which costs time and nothing else.
"""


def relay_request(body: dict[str, Json], model: str) -> dict[str, Json]:
    """See `base.Dialect.relay_request`.

    Thinking whose signature is our own seal of another provider's reasoning is taken out: Anthropic would refuse it.
    Calls of tools that ran here become such as it knows.
    """
    sent = base.relay_request(body, model)
    messages = sent.get("messages")
    if isinstance(messages, list):
        sent["messages"] = [_unsealed(message) for message in without_ours(messages, legal=True)]
    return sent


def set_cost(event: dict[str, Json], cost: float | None) -> bool:
    """See `base.Dialect.set_cost`: the member `penstock` of the event that has the usage; clients pass it over."""
    if event.get("type") != "message_delta":
        return False
    event["penstock"] = {**(event.get("penstock") or {}), "cost": cost}
    return True


def _unsealed(message: Json) -> Json:
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list) or not any(_sealed(block) for block in content):
        return message
    kept = [block for block in content if not _sealed(block)]
    return {**message, "content": kept or ""}


def _sealed(block: Json) -> bool:
    signature = block.get("signature") if isinstance(block, dict) else None
    return isinstance(signature, str) and signature.startswith(SEAL)
