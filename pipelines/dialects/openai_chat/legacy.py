"""The time before `tool_calls`: `functions`, `function_call` and the role `function`.

A request of that time becomes one with tools, each marked `legacy` under "openai_chat"; its answer goes back as
`function_call`, of which a message has room for one.

Above it: the readers and writers of this package. Below it: `conversation`.
"""

from pipelines.conversation import Opaque, Request
from pipelines.dialects.openai_chat.thoughts import KEY, own

LEGACY: Opaque = {KEY: {"legacy": True}}
"""The mark."""


def marked(opaque: Opaque | None) -> bool:
    """Whether the mark is there."""
    return own(opaque).get("legacy") is True


def is_legacy(request: Request) -> bool:
    """Whether the caller knows `function_call` only."""
    return any(marked(tool.opaque) for tool in request.tools)
