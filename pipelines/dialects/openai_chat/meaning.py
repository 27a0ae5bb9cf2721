"""What a refusal means: from its HTTP status and its words to one `Reason`.

The words come first, for servers send a too long prompt as 400, 413, 422 or 500 and a wrong key as 400. Wordings
are those of OpenAI, Azure, Anthropic behind gateways, Google, Mistral, Groq, xAI, Together, DeepSeek, Cohere,
OpenRouter, vLLM, SGLang, llama.cpp and Ollama.

Above it: `failures`. Below it: `errors`.
"""

import re

from pipelines.errors import Reason

_CONTEXT = re.compile(
    r"(?i)context_length_exceeded|exceed_context_size|context[ _-]?(?:length|window|size)|maximum context"
    r"|prompt (?:is )?too long|input (?:is )?too long|prompt is longer than|too many (?:input |prompt )?tokens"
    r"|reduce the length of (?:the|your)|request too large for model"
    r"|larger than the maximum (?:size|number of tokens)|input (?:token|length)s?\b.{0,60}\bexceed"
    r"|exceeds? the (?:maximum|max|available|model).{0,40}\b(?:tokens|context)"
    r"|max(?:imum)? (?:input|prompt) (?:length|tokens)|inputs?`? tokens \+|prompt contains .{0,20}tokens"
)

_POLICY = re.compile(
    r"(?i)content[ _-]?(?:policy|filter|management)|ResponsibleAIPolicyViolation|safety system|moderation|flagged"
    r"|usage polic|data_inspection_failed|prohibited[ _]content|violat\w+ .{0,40}polic"
)

_QUOTA = re.compile(
    r"(?i)insufficient[ _](?:quota|credit|balance|funds)|exceeded your current quota|billing_hard_limit"
    r"|billing_not_active|requires more credits|payment required"
)

_KEY = re.compile(
    r"(?i)(?:invalid|incorrect|missing|not valid|no|wrong).{0,30}api[ _-]?key"
    r"|api[ _-]?key.{0,20}(?:not valid|invalid|incorrect|missing)"
)

_MISSING = re.compile(
    r"(?i)model_not_found|model.{0,80}(?:does not exist|not found|not exist)|not a valid model|unknown model"
)

_BY_STATUS: dict[int, Reason] = {
    401: "authentication",
    402: "rate_limited",
    403: "permission",
    404: "not_found",
    408: "timeout",
    409: "server_error",
    425: "rate_limited",
    429: "rate_limited",
    498: "overloaded",
    503: "overloaded",
    504: "timeout",
    522: "timeout",
    524: "timeout",
    529: "overloaded",
}

_BY_WORD: tuple[tuple[re.Pattern[str], Reason], ...] = (
    (re.compile(r"(?i)rate[ _]?limit|too many requests|tokens per minute"), "rate_limited"),
    (re.compile(r"(?i)overload|insufficient_system_resource|no (?:available|healthy)|unavailable"), "overloaded"),
    (re.compile(r"(?i)authentication|unauthorized"), "authentication"),
    (re.compile(r"(?i)permission|forbidden"), "permission"),
    (re.compile(r"(?i)timed? ?out"), "timeout"),
    (re.compile(r"(?i)abort|cancel"), "broken"),
    (re.compile(r"(?i)invalid_request|invalid request|validation"), "invalid_request"),
)
"""For an error in mid-stream, which has no status."""


def meaning(status: int, words: str) -> tuple[Reason, bool]:
    """(reason, whether a quota is used up). `status` is 0 where there is none; `words` are type, code, message.

    A quota that is used up counts as a rate limit, so that another provider is asked; so does 402.
    """
    if status == 402 or (status in (0, 403, 429) and _QUOTA.search(words)):
        return "rate_limited", True
    if status not in (401, 403, 404, 429) and _CONTEXT.search(words):
        return "context_too_long", False
    if status in (0, 400, 403, 422, 451) and _POLICY.search(words):
        return "content_policy", False
    if status == 400 and _KEY.search(words):
        return "authentication", False
    if status in (0, 400) and _MISSING.search(words):
        return "not_found", False
    if status in _BY_STATUS:
        return _BY_STATUS[status], False
    if 400 <= status < 500:
        return "invalid_request", False
    if status == 0 or (status >= 500 and "overload" in words.lower()):
        return next((reason for pattern, reason in _BY_WORD if pattern.search(words)), "server_error"), False
    return "server_error", False
