"""The wire formats. `DIALECTS` names those that callers speak, `WIRES` those that providers speak, which are more.

`base` says what one is; `sse` and `ndjson` frame bytes.

Above it: `exchange` and the edges. Below it: `conversation`, `events`, `errors`.
"""

from pipelines.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from pipelines.dialects.base import Dialect, Wire
from pipelines.dialects.ollama_chat import OLLAMA_CHAT
from pipelines.dialects.openai_chat import OPENAI_CHAT
from pipelines.dialects.openai_responses import OPENAI_RESPONSES

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect for dialect in (OPENAI_CHAT, ANTHROPIC_MESSAGES, OPENAI_RESPONSES)
}

WIRES: dict[str, Wire] = {**DIALECTS, OLLAMA_CHAT.name: OLLAMA_CHAT}
