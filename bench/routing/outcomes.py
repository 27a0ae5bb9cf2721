"""Questions with whether a weak and a strong model answered them rightly, from a CSV file.

Its columns are prompt, one `<model>_correct` a model (how right the answer was, 0 to 1), and source and subject, which
may be missing. The two models are `weak` and `strong`; in a file that does not name them so, they are the one that is
right least and the one that is right most.

Order and folds come from a hash of the prompt, so that the order of the file says nothing.
"""

import csv
import hashlib
import sys
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

CORRECT = "_correct"
"""How the name of a model's column ends."""

NO_SOURCE = "all"
"""The source of questions that have none, and of all of them together."""

Floats = NDArray[numpy.float64]
Vectors = NDArray[numpy.float32]


class Question(NamedTuple):
    """One row. prompt and profile are what the router sees of it; source and subject it never sees."""

    source: str
    subject: str
    text: str
    prompt: Prompt
    profile: Profile
    weak: float
    strong: float

    @property
    def hash(self) -> int:
        """The same for the same text, whatever the process."""
        return zlib.crc32(self.text.encode())

    @property
    def fold(self) -> int:
        """Which part of a cross-validation it is in."""
        return (self.hash >> 7) % FOLDS


def read(path: Path) -> list[Question]:
    """The questions of a file, in the order of their hashes. Raises ValueError for a file of another form."""
    csv.field_size_limit(sys.maxsize)
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = [name for name in reader.fieldnames or () if name.endswith(CORRECT)]
        if len(columns) < 2 or "prompt" not in (reader.fieldnames or ()):
            raise ValueError(f"{path.name}: wants a column `prompt` and two or more that end in `{CORRECT}`")
        rows = [(row, {name: _outcome(row, name, number) for name in columns}) for number, row in enumerate(reader, 1)]
    if not rows:
        raise ValueError(f"{path.name}: no questions")
    weak, strong = _pair(columns, [outcomes for _, outcomes in rows])
    questions = [_question(row, outcomes[weak], outcomes[strong]) for row, outcomes in rows]
    return sorted(questions, key=lambda question: (question.hash, question.text))


def _outcome(row: dict[str, str | None], column: str, number: int) -> float:
    """How right one model was at one question, the number-th of the file."""
    try:
        value = float(row[column] or "")
    except ValueError:
        value = numpy.nan
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"question {number}: {column} is {row[column]!r}, which is no number from 0 to 1")
    return value


def _pair(columns: Sequence[str], outcomes: Sequence[dict[str, float]]) -> tuple[str, str]:
    """The columns of the weak and of the strong model."""
    named = f"weak{CORRECT}", f"strong{CORRECT}"
    if set(named) <= set(columns):
        return named
    ordered = sorted(columns, key=lambda name: sum(one[name] for one in outcomes))
    return ordered[0], ordered[-1]


def _question(row: dict[str, str | None], weak: float, strong: float) -> Question:
    text = row["prompt"] or ""
    request = Request("auto", (Message("user", (Text(text),)),))
    prompt = prompt_of(request)
    source, subject = row.get("source") or NO_SOURCE, row.get("subject") or ""
    return Question(source, subject, text, prompt, profile(request, prompt), weak, strong)


def fingerprint(path: Path) -> str:
    """What the shipped weights say that they were trained on."""
    return f"{path.name} sha256:{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"


def vectors(questions: Sequence[Question], weights: Weights) -> Vectors:
    """The features of each question, a row each."""
    return numpy.stack([features(one.prompt, one.profile, weights) for one in questions])


def right(questions: Sequence[Question]) -> tuple[Floats, Floats]:
    """How right the weak and the strong model were, by question."""
    return numpy.array([one.weak for one in questions], float), numpy.array([one.strong for one in questions], float)
