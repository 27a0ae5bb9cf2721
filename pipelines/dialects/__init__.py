"""The wire formats. `DIALECTS` names those that callers speak, `WIRES` those that providers speak, which are more.

`base` says what one is; `sse` and `ndjson` frame bytes.

Above it: `exchange` and the edges. Below it: `conversation`, `events`, `errors`.
"""

from pipelines.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from pipelines.dialects.base import Dialect, Wire
from pipelines.dialects.ollama_chat import OLLAMA_CHAT
from pipelines.dialects.openai_chat import OPENAI_CHAT
from pipelines.dialects.openai_responses import OPENAI_RESPONSES
from pipelines.dialects.own_words import OWN_WORDS


class _Spoken(dict[str, Dialect]):
    """Found by its name, but not among those that callers speak: what our own processes speak with each other."""

    def __missing__(self, name: str) -> Dialect:
        if name == OWN_WORDS.name:
            return OWN_WORDS
        raise KeyError(name)


DIALECTS: dict[str, Dialect] = _Spoken(
    (dialect.name, dialect) for dialect in (OPENAI_CHAT, ANTHROPIC_MESSAGES, OPENAI_RESPONSES)
)

WIRES: dict[str, Wire] = {**DIALECTS, OLLAMA_CHAT.name: OLLAMA_CHAT}
