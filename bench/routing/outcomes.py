"""Questions with whether a weak and a strong model answered them rightly, from a file with the columns source, subject,
prompt, weak_correct and strong_correct.

Order and folds come from a hash of the prompt, so that the order of the file says nothing.
"""

import csv
import hashlib
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy
from numpy.typing import NDArray

from pipelines.conversation import Message, Request, Text
from pipelines.routing.learning.features import features
from pipelines.routing.learning.weights import Weights
from pipelines.routing.prompt import Prompt, prompt_of
from pipelines.routing.tasks import Profile, profile

SHARED = Path(__file__).resolve().parents[3] / "shared" / "routing" / "outcomes.csv"
FOLDS = 5

Floats = NDArray[numpy.float64]
Vectors = NDArray[numpy.float32]


class Question(NamedTuple):
    """One row. prompt and profile are what the router sees of it; source and subject it never sees."""

    source: str
    subject: str
    text: str
    prompt: Prompt
    profile: Profile
    weak: int
    strong: int

    @property
    def hash(self) -> int:
        """The same for the same text, whatever the process."""
        return zlib.crc32(self.text.encode())

    @property
    def fold(self) -> int:
        """Which part of a cross-validation it is in."""
        return (self.hash >> 7) % FOLDS


def read(path: Path) -> list[Question]:
    """The questions of a file, in the order of their hashes."""
    with path.open(newline="") as file:
        rows = [_question(row) for row in csv.DictReader(file)]
    return sorted(rows, key=lambda question: (question.hash, question.text))


def _question(row: dict[str, str]) -> Question:
    request = Request("auto", (Message("user", (Text(row["prompt"]),)),))
    prompt = prompt_of(request)
    right = int(row["weak_correct"]), int(row["strong_correct"])
    return Question(row["source"], row["subject"], row["prompt"], prompt, profile(request, prompt), *right)


def fingerprint(path: Path) -> str:
    """What the shipped weights say that they were trained on."""
    return f"{path.name} sha256:{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"


def vectors(questions: Sequence[Question], weights: Weights) -> Vectors:
    """The features of each question, a row each."""
    return numpy.stack([features(one.prompt, one.profile, weights) for one in questions])


def right(questions: Sequence[Question]) -> tuple[Floats, Floats]:
    """Whether the weak and the strong model were right, by question."""
    return numpy.array([one.weak for one in questions], float), numpy.array([one.strong for one in questions], float)
