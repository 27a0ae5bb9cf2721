"""Ollama's own chat wire (`POST /api/chat`, newline-delimited JSON), as its client only: `OLLAMA_CHAT`.

Above it: `pipelines.dialects`. Below it: `conversation`, `events`, `errors`, `ndjson`. Outside it: HTTP.
"""

from pipelines.dialects.ollama_chat.wire import OLLAMA_CHAT

__all__ = ["OLLAMA_CHAT"]
