"""How many tokens a request has, for providers that cannot be asked.

Above it: `base`. Below it: `pipelines`. Outside it: real tokenizers, which differ with every model.
"""

import msgspec

from pipelines.calls import Answer, Call
from pipelines.dialects import DIALECTS
from pipelines.prompt_tokens import size_of
from pipelines.routing.table import Outcome

BYTES_PER_TOKEN = 3.5
"""Of UTF-8 text; vendors name about 4 characters of English, so this is high."""

MESSAGE_TOKENS = 4
"""What a message costs beyond its text."""


def estimated_tokens(call: Call) -> Answer:
    """Anthropic's answer to a token count, estimated; the header `x-penstock-estimated` says so.

    Raises BadRequest for a body that is no request.
    """
    request = DIALECTS[call.dialect].read_request({"max_tokens": 1, **call.body})
    size = size_of(request)
    count = round(size.words / BYTES_PER_TOKEN) + MESSAGE_TOKENS * len(request.messages) + size.others
    answer = Answer(
        headers={"content-type": "application/json", "x-penstock-estimated": "true"},
        body=msgspec.json.encode({"input_tokens": count}),
    )
    answer.outcome = Outcome("", call.request.model, 0.0)
    return answer
