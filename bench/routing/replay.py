"""Feedback, one question at a time: the router chooses the weak or the strong model, and learns only how that one did.

The choice is the learner's own. The strong model is asked where it is expected to gain more than the median of the
last questions (its price is such that half of the calls go to it); on a share of the stream the expectation is
a draw from the posterior. Every REFIT feedbacks what was learned is published, as the router actor does. Nothing here
predicts: `pipelines.routing.learning` does, as in the product.
"""

import random
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

import numpy

from bench.routing.outcomes import Floats, Question, Vectors
from pipelines.routing.learning.evidence import Rated, pack
from pipelines.routing.learning.state import Learning
from pipelines.routing.learning.view import View, explores, qualities, view
from pipelines.routing.learning.weights import Weights

WEAK, STRONG = "bench/weak", "bench/strong"
REFIT = 50
"""Feedbacks between two published views."""

EXPLORED = 0.2
"""Share of the stream that explores."""

REMEMBERED = 500
"""Questions whose expected gains set the price."""


class Learner:
    """The router's mind over two models, starting from `weights`."""

    def __init__(self, weights: Weights, seed: int = 0, explored: float = EXPLORED) -> None:
        self.weights = weights
        self.priors = {WEAK: weights.weak_quality, STRONG: weights.strong_quality}
        self.learning = Learning(len(weights.references[0]))
        self._explored = explored
        self._normals = numpy.random.default_rng(seed).standard_normal
        self._random = random.Random(seed)
        self._gains: deque[float] = deque(maxlen=REMEMBERED)
        self._fed = 0
        self.view = self._published()

    def gains(self, questions: Sequence[Question], vectors: Vectors) -> Floats:
        """What the strong model is expected to have more, by question."""
        return numpy.array([_gain(self.view, *pair) for pair in zip(questions, vectors, strict=True)])

    def feed(self, question: Question, vector: Vectors) -> str:
        """Choose for one question, and learn how the chosen model did. Returns its name."""
        drawn = explores(self._random.random, self._explored)
        gain = _gain(self.view, question, vector, drawn=drawn)
        price = float(numpy.median(self._gains)) if self._gains else gain
        self._gains.append(_gain(self.view, question, vector) if drawn else gain)
        strong = gain > price or (gain == price and self._random.random() < 0.5)
        model = STRONG if strong else WEAK
        value = float(question.strong if strong else question.weak)
        expected = qualities(self.view, vector, question.profile.task)[model]
        evidence = Rated(model, question.profile.task, value, features=pack(vector), expected=expected)
        self._fed += 1
        self.learning = self.learning.update(evidence, float(self._fed))
        if self._fed % REFIT == 0:
            self.view = self._published()
        return model

    def _published(self) -> View:
        return view(self.learning, self.priors, self._normals, float(self._fed), weights=self.weights)


def _gain(seen: View, question: Question, vector: Vectors, *, drawn: bool = False) -> float:
    expected: Mapping[str, float] = qualities(seen, vector, question.profile.task, drawn=drawn)
    return expected[STRONG] - expected[WEAK]


def replayed(
    learner: Learner,
    stream: Sequence[Question],
    stream_vectors: Vectors,
    held_out: tuple[Sequence[Question], Vectors],
    stops: Sequence[int],
) -> Iterator[tuple[int, Floats]]:
    """Feed the stream; at each of the stops that it reaches, the expected gains of questions that are not in it."""
    for fed, (question, vector) in enumerate(zip(stream, stream_vectors, strict=True), start=1):
        learner.feed(question, vector)
        if fed in stops:
            yield fed, learner.gains(*held_out)
