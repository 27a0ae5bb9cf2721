"""The same dialect on both sides: what is changed of a caller's body. Frames pass as they are.

Above it: `dialect`. Below it: `opaque`.
"""

import re

from pipelines.conversation import Json
from pipelines.dialects.anthropic_messages.opaque import SEAL

OUR_FIELDS = frozenset(("models", "penstock"))
"""Members of a request that are for us: the list of fall-backs, and our own settings."""

TELLING = re.compile(
    rb'"type"\s*+:\s*+"(?!content_block_|(?:text|input_json|thinking|signature|citations)_delta"|[a-z_]+_location")'
    rb'|"error"\s*+:|(?:\A|[\r\n])(?:\s*+:|event:\s*+(?!content_block_)|data:\s*+[^\s{])'
)
"""Matches a chunk that is more than a content delta or the end of a block.

Inside a JSON string every quote is escaped and no line ends, so `"type":` stands only for a member and a line's
beginning only for a line's. The beginning of a block matches too, for it names the block's type: the decoder is told
of it, once a block. `…_location` is a citation's type.
"""


def relay_request(body: dict[str, Json], model: str) -> dict[str, Json]:
    """See `base.Dialect.relay_request`.

    Thinking whose signature is our own seal of another provider's reasoning is taken out: Anthropic would refuse it.
    """
    sent = {name: value for name, value in body.items() if name not in OUR_FIELDS}
    sent["model"] = model
    messages = sent.get("messages")
    if isinstance(messages, list):
        sent["messages"] = [_unsealed(message) for message in messages]
    return sent


def _unsealed(message: Json) -> Json:
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list) or not any(_sealed(block) for block in content):
        return message
    kept = [block for block in content if not _sealed(block)]
    return {**message, "content": kept or ""}


def _sealed(block: Json) -> bool:
    signature = block.get("signature") if isinstance(block, dict) else None
    return isinstance(signature, str) and signature.startswith(SEAL)
