"""The weights of `pipelines.routing.learning`, made from a file of outcomes.

Run: `python -m bench.routing.train [FILE]`.

Topics are the subjects of the questions, and are learned from their labels: which words a subject has. The two
reference models' coefficients are ridge regressions of whether the weak model was right, and of what the strong one
has more. A question's topics are guessed for this by a table that has not seen it, as they will be in use.

Where the strong model did worse than the weak one at a topic, the references are equal there: the published
evaluation reads few of its worked-out answers to mathematics, which is no fact about stronger models.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy

from bench.routing.outcomes import SHARED, Floats, Question, Vectors, fingerprint, read, right, vectors
from pipelines.routing.learning import weights as shipped
from pipelines.routing.learning.features import BUCKETS, SHAPES, buckets, names
from pipelines.routing.learning.features import width as width_of
from pipelines.routing.learning.weights import Weights, encode

SMOOTHING = 0.05
"""Words of every kind that each topic is credited with."""

PARTS = 4
"""Tables for the guessed topics of the training questions."""

LEVEL_PENALTIES = (20.0, 300.0)
GAIN_PENALTIES = (60.0, 300.0)
"""How strongly the coefficients of topics and tasks, and those of shapes, are held where they are expected, in
questions: the gain varies less than the level."""

EXPECTED_GAIN: Mapping[str, float] = {"open: difficulty": 0.3, "open: characters": 0.3}
"""Coefficients of the gain before any outcome: what is hard and long needs the stronger model. All others: none."""

Rows = Sequence[Question]


def untrained(questions: Rows) -> Weights:
    """Topics, and references that expect the same of every question. It sees no outcome but two averages."""
    subjects = tuple(sorted({one.subject for one in questions}))
    table, unit = _table(questions, subjects)
    weak, strong = (round(float(outcomes.mean()), 2) for outcomes in right(questions))
    return Weights(
        topics=subjects,
        buckets=BUCKETS,
        unit=unit,
        table=table,
        features=names(subjects),
        weak=_flat(weak, len(subjects)),
        strong=_flat(strong, len(subjects)),
        weak_quality=weak,
        strong_quality=strong,
    )


def train(questions: Rows, source: str = "") -> Weights:
    """Topics and references."""
    weights = untrained(questions)
    seen, rows = guessed(questions)
    weak, strong = right(rows)
    assumed = numpy.array([EXPECTED_GAIN.get(name, 0.0) for name in weights.features])
    level = _ridge(seen, weak, LEVEL_PENALTIES, numpy.zeros(len(assumed)))
    gain = _floored(_ridge(seen, strong - weak, GAIN_PENALTIES, assumed), seen, len(weights.topics))
    return msgspec.structs.replace(
        weights,
        weak=level.astype(numpy.float32).tobytes(),
        strong=(level + gain).astype(numpy.float32).tobytes(),
        weak_quality=round(float((seen @ level).mean()), 4),
        strong_quality=round(float((seen @ (level + gain)).mean()), 4),
        source=source,
        rows=len(questions),
    )


def guessed(questions: Rows) -> tuple[Vectors, Rows]:
    """The features of the questions, each by a table of topics that has not seen it; the questions in that order."""
    subjects = tuple(sorted({one.subject for one in questions}))
    found, order = [], []
    for part in range(PARTS):
        inside = [one for one in questions if (one.hash >> 17) % PARTS == part]
        if not inside:
            continue
        table, unit = _table([one for one in questions if (one.hash >> 17) % PARTS != part], subjects)
        weights = Weights(subjects, BUCKETS, unit, table, (), b"", b"", 0.0, 0.0)
        found.append(vectors(inside, weights))
        order += inside
    back = numpy.argsort([one.hash for one in order], kind="stable")
    return numpy.concatenate(found)[back], [order[index] for index in back]


def _table(questions: Rows, subjects: Sequence[str]) -> tuple[bytes, float]:
    """The evidence of each word for each subject: its log probability there less the mean over subjects, as int8."""
    counts = numpy.zeros((BUCKETS, len(subjects)))
    position = {subject: index for index, subject in enumerate(subjects)}
    for one in questions:
        words = buckets(one.prompt)
        counts[words, position[one.subject]] += 1.0 / numpy.sqrt(max(1, len(words)))
    evidence = numpy.log(counts + SMOOTHING) - numpy.log(counts.sum(axis=0) + SMOOTHING * BUCKETS)
    evidence -= evidence.mean(axis=1, keepdims=True)
    unit = float(numpy.abs(evidence).max() / 127.0) or 1.0
    return numpy.round(evidence / unit).astype(numpy.int8).tobytes(), unit


def _ridge(seen: Vectors, wanted: Floats, penalties: tuple[float, float], assumed: Floats) -> Floats:
    """Coefficients, held at those that are assumed; the first one, the level, is free."""
    wide, shapes = seen.astype(float), 2 * len(SHAPES)
    held = numpy.repeat([0.01, *penalties], [1, wide.shape[1] - 1 - shapes, shapes])
    moved: Floats = numpy.linalg.solve(wide.T @ wide + numpy.diag(held), wide.T @ (wanted - wide @ assumed))
    return assumed + moved


def _floored(gain: Floats, seen: Vectors, topics: int) -> Floats:
    """The gain's coefficients, such that on average no topic has a negative one."""
    shares = seen[:, 1 : 1 + topics]
    averages = shares.T @ (seen @ gain) / (shares.sum(axis=0) + 1e-9)
    gain = gain.copy()
    gain[1 : 1 + topics] += numpy.maximum(0.0, -averages)
    return gain


def _flat(quality: float, topics: int) -> bytes:
    coefficients = numpy.zeros(width_of(topics), numpy.float32)
    coefficients[0] = quality
    return coefficients.tobytes()


def main(arguments: Sequence[str]) -> None:
    """Write `weights.bin`."""
    path = Path(arguments[0]) if arguments else SHARED
    weights = train(read(path), fingerprint(path))
    target = Path(shipped.__file__).with_name("weights.bin")
    target.write_bytes(encode(weights))
    size, width = target.stat().st_size, len(weights.features)
    print(f"{target}: {size:,} bytes, {len(weights.topics)} topics, {width} features, from {weights.source}")


if __name__ == "__main__":
    main(sys.argv[1:])
