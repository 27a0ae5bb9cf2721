"""Ollama's chat, put together from the readers and writers of this package.

Its error bodies (`{"error": "words"}`) are read as those of the OpenAI chat dialect, which meets the same form at
other servers and knows what Ollama's words mean.

Above it: `pipelines.dialects`. Below it: `decoder`, `request_writer`, `openai_chat.failures`.
"""

from pipelines.dialects.base import Wire
from pipelines.dialects.ollama_chat.decoder import OllamaDecoder, read_answer
from pipelines.dialects.ollama_chat.request_writer import write_request
from pipelines.dialects.openai_chat.failures import read_error

OLLAMA_CHAT = Wire(
    name="ollama_chat",
    path="/api/chat",
    write_request=write_request,
    decoder=OllamaDecoder,
    read_answer=read_answer,
    read_error=read_error,
)
