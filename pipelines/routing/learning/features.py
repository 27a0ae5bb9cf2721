"""A request as a vector: what the learning knows a request by.

    constant | topics (a share each, adding up to 1) | tasks (0 or 1) | shape, for questions with choices
                                                                      | shape, for all others

Topics are guessed from words by multinomial naive Bayes (C. Manning et al., "Introduction to Information
Retrieval", chapter 13) over hashed words (K. Weinberger et al., "Feature Hashing for Large Scale Multitask
Learning", ICML 2009), each word once. The hash is CRC-32, so that the same text has the same vector in every process.

All values lie within about [-1, 1]; a vector of them is `width(weights.topics)` long.

Above it: `state`, the gateway. Below it: `prompt`, `tasks`, `weights`. Outside it: any model.
"""

import math
import re
import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy

from pipelines.routing.learning.weights import SHIPPED, Vector, Weights
from pipelines.routing.prompt import Prompt
from pipelines.routing.tasks import TASKS, Profile

BUCKETS = 2048
"""Rows that words are hashed to: measured, 2,048 do as well as 16,384."""

STEM = 6
"""Letters of a word that count: a stem, for English."""

SHARPNESS = 0.5
"""What the evidence for topics is multiplied with: words are not independent, naive Bayes is too sure."""

SHAPES: tuple[str, ...] = (
    "difficulty",
    "characters",
    "words",
    "numbers",
    "length of words",
    "long words",
    "symbols",
    "negations",
    "length of options",
    "digits in options",
    "sentences",
    "statements",
    "blank",
    "relations",
    "which",
    "how many",
)

SHORT = 60
"""Characters below which a question is no easier for being shorter."""

_WORD = re.compile(r"[a-z]+")
_NUMBER = re.compile(r"\d[\d.,]*")
_NEGATIONS = frozenset(["not", "except", "false", "never", "least", "incorrect", "cannot"])
_RELATIONS = frozenset(["twice", "half", "percent", "times", "total", "each", "per", "more", "than", "less"])
_SYMBOLS = frozenset("+-*/=^<>%$()[]{}")
_CENTRE = 0.4
"""Taken from every shape, so that a typical one is near zero."""


def names(topics: Sequence[str]) -> tuple[str, ...]:
    """The name of each feature, in order."""
    return (
        "constant",
        *(f"topic: {topic}" for topic in topics),
        *(f"task: {task}" for task in TASKS),
        "choices",
        *(f"choices: {shape}" for shape in SHAPES),
        *(f"open: {shape}" for shape in SHAPES),
    )


def width(topics: int) -> int:
    """How many features there are with so many topics."""
    return 2 + topics + len(TASKS) + 2 * len(SHAPES)


@lru_cache(maxsize=16384)
def _bucket(stem: str) -> int:
    return zlib.crc32(stem.encode()) % BUCKETS


def buckets(prompt: Prompt) -> list[int]:
    """The hashed words of the question, each once, in ascending order."""
    return sorted({_bucket(word[:STEM]) for word in prompt.said})


def topics(prompt: Prompt, weights: Weights = SHIPPED) -> Vector:
    """How likely each topic is."""
    seen = weights.evidence.take(buckets(prompt), axis=0)
    evidence = numpy.add.reduce(seen, axis=0, dtype=numpy.int32) * (SHARPNESS * weights.unit)
    likelihood = numpy.exp(evidence - numpy.maximum.reduce(evidence))
    shares: Vector = (likelihood / numpy.add.reduce(likelihood)).astype(numpy.float32)
    return shares


def shape(prompt: Prompt, difficulty: float) -> list[float]:
    """What the question looks like, in the order of SHAPES."""
    text, words = prompt.stem, _WORD.findall(prompt.stem.lower() if prompt.choices else prompt.lower)
    count, said = max(1, len(words)), set(words)
    numbers = len(_NUMBER.findall(text))
    digits = sum(map(str.isdigit, prompt.options)) if prompt.options else 0
    values = (
        difficulty,
        math.log1p(max(SHORT, prompt.characters)) / 8.0,
        math.log1p(len(words)) / 5.0,
        numbers / (3.0 + numbers),
        sum(map(len, words)) / count / 8.0,
        3.0 * len([word for word in words if len(word) > 8]) / count,
        10.0 * sum(map(text.count, _SYMBOLS)) / (10.0 + len(text)),
        min(1.0, len(said & _NEGATIONS) / 2.0),
        math.log1p(len(prompt.options)) / 6.0,
        min(1.0, 3.0 * digits / (5.0 + len(prompt.options))),
        min(1.0, (text.count(".") + text.count("?")) / 10.0),
        float("statement" in said),
        float("__" in text),
        min(1.0, len(said & _RELATIONS) / 5.0),
        float("which" in said),
        float("how many" in prompt.lower or "how much" in prompt.lower),
    )
    return [min(1.5, value) - _CENTRE for value in values]


def features(prompt: Prompt, profile: Profile, weights: Weights = SHIPPED) -> Vector:
    """The vector of a request, from what was read of it (`prompt_of`) and its profile."""
    known = len(weights.topics)
    vector = numpy.zeros(width(known), numpy.float32)
    vector[0] = 1.0
    vector[1 : 1 + known] = topics(prompt, weights)
    vector[1 + known + TASKS.index(profile.task)] = 1.0
    start = 1 + known + len(TASKS)
    vector[start] = 1.0 if prompt.choices else 0.0
    start += 1 if prompt.choices else 1 + len(SHAPES)
    vector[start : start + len(SHAPES)] = shape(prompt, profile.difficulty)
    return vector
