"""What is seen of an answer: the values that `state` learns from, and that the ledger's journal keeps.

Above it: `state`, the gateway, the ledger. Below it: `tasks`, `weights`. Outside it: who saw it.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec
import numpy

from pipelines.routing.learning.signs import Sign
from pipelines.routing.learning.weights import Vector
from pipelines.routing.tasks import Task

Kind = Literal["score", "thumb", "judge"] | Sign

WEIGHT: Mapping[str, float] = {"score": 1.0, "thumb": 1.0, "judge": 0.7}
"""What each verdict on an answer counts: a judge model errs. What signs count is said where they are (`signs`)."""


def pack(vector: Vector) -> bytes:
    """A vector of features as it travels and is kept: half precision, two bytes a feature."""
    return vector.astype(numpy.float16).tobytes()


def unpack(data: bytes) -> Vector:
    """The vector again."""
    return numpy.frombuffer(data, numpy.float16).astype(numpy.float32)


class Rated(msgspec.Struct, frozen=True, omit_defaults=True, tag="rated"):
    """One answer was good (1) or bad (0) or something between.

    model is `provider/model`; features the packed vector of its request, empty where it is no longer known; expected
    is the quality that was expected when the model was chosen, None where nobody knows; weight scales that of its
    kind (a caller who is trusted less), for a sign it is the number of answers that showed it.
    """

    model: str
    task: Task
    value: float
    kind: Kind = "score"
    features: bytes = b""
    expected: float | None = None
    weight: float = 1.0


class Compared(msgspec.Struct, frozen=True, omit_defaults=True, tag="compared"):
    """Two answers to one request: result is 1 if `first` was preferred, 0 if `second`, 0.5 for a tie."""

    first: str
    second: str
    task: Task
    result: float
    weight: float = 1.0


Evidence = Rated | Compared
