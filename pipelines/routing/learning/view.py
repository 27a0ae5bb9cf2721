"""What replicas need of the learning to decide: coefficients by model, published beside the table, and read purely.

    quality(model, request) = bounded(x . mean(model) + preference(model, task) + offset(model, task))     (`signs`)
    preference = PREFERENCE * rating * certainty                              (Bradley-Terry, in logits)

On the explored share of traffic `draw`, one sample of the posterior, stands in place of `mean`: a model is tried as
often as it may be the best (W. Thompson, "On the Likelihood that One Unknown Probability Exceeds Another", Biometrika
1933). The sample is drawn by the owner of the state with each view, so that a replica needs no covariance.

Above it: the router actor (`view`), the gateway (`qualities`). Below it: `state`, `regression`, `weights`, numpy.
Outside it: randomness, clocks and who publishes.
"""

from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache

import msgspec
import numpy
from numpy.typing import NDArray

from pipelines.routing.learning.features import SHAPES
from pipelines.routing.learning.regression import Normals, Precision, fit
from pipelines.routing.learning.signs import offsets
from pipelines.routing.learning.state import Knowledge, Learning
from pipelines.routing.learning.weights import SHIPPED, Vector, Weights
from pipelines.routing.tasks import TASKS, Task

KNEE = 0.1
"""Distance from 0 and from 1 at which a quality begins to bend, so that it stays between them and keeps its order."""

PREFERENCE = 0.1
"""Quality that one logit of a certain rating is worth; half of the slope of p = 1 / (1 + exp(-x)) at p = 0.7."""

_COMMON = (4.0, 20.0, 40.0)
_OWN = (8.0, 80.0, 400.0)
"""Observations that hold the level, a topic or task, and a shape of the question at what was known before."""


class View(msgspec.Struct, frozen=True, dict=True):
    """One version of what was learned. mean, draw: float16, a row of coefficients a model; preferences: float16, a
    row of TASKS a model, with what signs add."""

    models: tuple[str, ...] = ()
    width: int = 0
    mean: bytes = b""
    draw: bytes = b""
    preferences: bytes = b""
    version: int = 0

    @cached_property
    def arrays(self) -> tuple[Vector, Vector, Vector]:
        """mean, draw and preferences as matrices."""
        return (
            _matrix(self.mean, len(self.models), self.width),
            _matrix(self.draw, len(self.models), self.width),
            _matrix(self.preferences, len(self.models), len(TASKS)),
        )


def view(
    learning: Learning,
    priors: Mapping[str, float],
    normals: Normals,
    now: float,
    version: int = 0,
    weights: Weights = SHIPPED,
) -> View:
    """What to publish. priors: every model that can be asked, with the quality that is expected of it without evidence.

    now is in seconds since 1970.
    """
    names = tuple(sorted(priors))
    known = [learning.models.get(name, Knowledge()).faded_to(now) for name in names]
    models = [(one.sums, weights.prior(priors[name])) for name, one in zip(names, known, strict=True)]
    fitted = fit(models, precision(len(weights.topics)), normals)
    preferences = numpy.array([offsets([one.signs for one in known], task, now) for task in TASKS]).T
    preferences += numpy.array([[_preference(one, task, now) for task in TASKS] for one in known]).reshape(
        preferences.shape
    )
    return View(
        names,
        learning.width,
        _half(fitted.mean),
        _half(fitted.draw),
        _half(preferences),
        version,
    )


def qualities(seen: View, vector: Vector, task: Task, *, drawn: bool = False) -> dict[str, float]:
    """The expected quality of every model of the view for a request; `drawn`: by the sample, to explore.

    Empty where the view was made by another version of the features: the models' cards are then all that is known.
    """
    if seen.width != len(vector):
        return {}
    mean, draw, preferences = seen.arrays
    expected = (draw if drawn else mean) @ vector + preferences[:, TASKS.index(task)]
    return dict(zip(seen.models, bounded(expected).tolist(), strict=True))


def bounded(values: Vector) -> Vector:
    """Values in (0, 1), in the same order: as they are between KNEE and 1 - KNEE, exponentially nearer to the ends."""
    # Three times as fast as `clip`.
    inside = numpy.minimum(numpy.maximum(values, numpy.float32(KNEE)), numpy.float32(1.0 - KNEE))
    beyond = (values - inside) / KNEE
    bent: Vector = inside + numpy.float32(KNEE) * numpy.sign(beyond) * (1.0 - numpy.exp(-abs(beyond)))
    return bent


def explores(random: Callable[[], float], share: float) -> bool:
    """Whether this request is among the `share` (0 to 1) that explores; random gives numbers in [0, 1)."""
    return share > 0.0 and random() < share


@lru_cache(maxsize=4)
def precision(topics: int) -> Precision:
    """How tightly coefficients are held, for features with so many topics."""
    others, shapes = topics + len(TASKS) + 1, 2 * len(SHAPES)

    def spread(level: float, other: float, shape: float) -> NDArray[numpy.float64]:
        return numpy.repeat([level, other, shape], [1, others, shapes]).astype(numpy.float64)

    return Precision(spread(*_COMMON), spread(*_OWN))


def _preference(known: Knowledge, task: Task, now: float) -> float:
    rating = known.ratings.get(task)
    if rating is None:
        return 0.0
    rating = rating.aged(now)
    return PREFERENCE * rating.value * rating.certainty


def _half(values: NDArray[numpy.float64]) -> bytes:
    return values.astype(numpy.float16).tobytes()


def _matrix(data: bytes, rows: int, columns: int) -> Vector:
    return numpy.frombuffer(data, numpy.float16).reshape(rows, columns).astype(numpy.float32)
