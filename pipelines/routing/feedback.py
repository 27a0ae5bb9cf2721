"""What a caller says of an answer afterwards, and what becomes of it: the values that cross to the router.

    {"request_id": "…", "score": 0.8}      {"request_id": "…", "thumb": "up"}      {"preferred": "…", "over": "…"}

Above it: `learning.decisions`, the gateway. Below it: `errors`, msgspec. Outside it: who may say so.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from pipelines.errors import BadRequest

LONGEST_IDENTITY = 128
"""Characters of a request's id, as `x-request-id` has it."""

_Identity = Annotated[str, msgspec.Meta(max_length=LONGEST_IDENTITY)]


class Feedback(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Of one answer (request_id) a score from 0 to 1 or a thumb; or which of two answers was preferred, over which.

    Answers are named by the `x-request-id` of their requests.
    """

    request_id: _Identity = ""
    score: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    thumb: Literal["up", "down"] | None = None
    preferred: _Identity = ""
    over: _Identity = ""

    @property
    def value(self) -> float:
        """The score, or what the thumb stands for."""
        return self.score if self.score is not None else float(self.thumb == "up")


def feedback_of(body: Mapping[str, Any]) -> Feedback:
    """The feedback in a body. Raises BadRequest, naming the field that is wrong."""
    try:
        said = msgspec.convert(body, Feedback)
    except msgspec.ValidationError as error:
        words, _, path = str(error).partition(" - at `$")
        raise BadRequest(words, param=path.strip(".`") or None) from None
    rated = (said.score is not None) + (said.thumb is not None)
    if said.preferred or said.over:
        if rated or said.request_id or not (said.preferred and said.over):
            raise BadRequest("a comparison has `preferred` and `over` and nothing else", param="preferred")
        if said.preferred == said.over:
            raise BadRequest("`preferred` and `over` name the same request", param="over")
    elif not said.request_id:
        raise BadRequest("`request_id` is missing: the `x-request-id` of the answer", param="request_id")
    elif rated != 1:
        raise BadRequest("say either a `score` or a `thumb`", param="score")
    return said


class Said(msgspec.Struct, frozen=True):
    """Feedback, and the id of the key that it came with."""

    caller: str
    feedback: Feedback


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of it. missing: the request that this key is not known to have made; repeated: it was said before."""

    learned: bool = False
    missing: str = ""
    repeated: bool = False
    models: tuple[str, ...] = ()
    task: str = ""
