"""The OpenAI chat-completions wire format (`POST /v1/chat/completions`): `OPENAI_CHAT` is its dialect.

Above it: `pipelines.dialects`. Below it: `conversation`, `events`, `errors`, `sse`. Outside it: HTTP.
"""

from pipelines.dialects.openai_chat.dialect import OPENAI_CHAT

__all__ = ["OPENAI_CHAT"]
