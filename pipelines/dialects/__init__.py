"""The wire formats. `DIALECTS` names each; `base` says what one is; `sse` frames bytes.

Above it: `exchange` and the edges. Below it: `conversation`, `events`, `errors`.
"""

from pipelines.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from pipelines.dialects.base import Dialect
from pipelines.dialects.openai_chat import OPENAI_CHAT
from pipelines.dialects.openai_responses import OPENAI_RESPONSES

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect for dialect in (OPENAI_CHAT, ANTHROPIC_MESSAGES, OPENAI_RESPONSES)
}
