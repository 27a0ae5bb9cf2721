"""The Anthropic Messages wire format (`POST /v1/messages`): `ANTHROPIC_MESSAGES` is its dialect.

`for_version` fits a body to one of the two versions of the API.

Above it: `pipelines.dialects`. Below it: `conversation`, `events`, `errors`, `sse`. Outside it: HTTP.
"""

from pipelines.dialects.anthropic_messages.dialect import ANTHROPIC_MESSAGES
from pipelines.dialects.anthropic_messages.versions import BEARER, CLASSIC, VERSIONS, for_version

__all__ = ["ANTHROPIC_MESSAGES", "BEARER", "CLASSIC", "VERSIONS", "for_version"]
