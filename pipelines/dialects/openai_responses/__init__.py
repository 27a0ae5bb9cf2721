"""The OpenAI Responses wire format (`POST /v1/responses`), stateless: `OPENAI_RESPONSES` is its dialect.

Above it: `pipelines.dialects`. Below it: `conversation`, `events`, `errors`, `sse` and OpenAI's error bodies, which
it shares with `openai_chat`. Outside it: HTTP, and answers stored at the provider.
"""

from pipelines.dialects.openai_responses.dialect import OPENAI_RESPONSES

__all__ = ["OPENAI_RESPONSES"]
