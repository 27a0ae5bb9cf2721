"""The part of a request that routing reads: its instructions and its latest question, bounded and split into words.

However long a conversation is, what is read of it has an upper bound, and so has the time that it takes.

Above it: `tasks`, `learning.features`. Below it: `conversation`. Outside it: what the words mean.
"""

import re
from typing import NamedTuple

from pipelines.conversation import Request, Text, ToolResult

QUESTION = 4000
"""Characters read of the latest question; of a longer one its beginning and its end, a half each."""

INSTRUCTIONS = 1500
"""Characters read of the instructions (system and developer messages), from their beginning."""

CHARACTERS_A_TOKEN = 4
"""For the estimated length: the rule of thumb of OpenAI's documentation for English text."""

_WORDS = re.compile(r"[^\W\d_]+|\d|[^\s\w]|_")
_ASCII_WORDS = re.compile(r"[a-z]+|\d|[^\sa-z\d]")
"""The same for text that is ASCII, at a lower cost."""

_OPTION = re.compile(r"^\s{0,3}\(?([A-Ja-j])[.):]\s", re.MULTILINE)


class Prompt(NamedTuple):
    """What was read.

    question, instructions: text in the caller's case, cut; lower: the question in lower case. options: the part of
    the question that lists the choices of a multiple choice, "" without one; stem: the part before them; choices: how
    many there are. words: the question in lower case as words, single digits and single symbols, in order; said: each
    of them once. tokens: estimated length of the whole conversation; characters: of the whole question.
    """

    question: str
    lower: str
    instructions: str
    stem: str
    options: str
    choices: int
    words: tuple[str, ...]
    said: frozenset[str]
    tokens: int
    characters: int


def prompt_of(request: Request) -> Prompt:
    """Read a request. A conversation without any user's text has an empty question."""
    asked = (message.text for message in reversed(request.messages) if message.role == "user")
    question = next(filter(None, asked), "")
    instructions = next((m.text for m in request.messages if m.role in ("system", "developer")), "")[:INSTRUCTIONS]
    shown = question if len(question) <= QUESTION else f"{question[: QUESTION // 2]}\n{question[-QUESTION // 2 :]}"
    stem, options, choices = _choices(shown)
    lower = shown.lower()
    words = tuple(words_of(lower))
    tokens = _characters(request) // CHARACTERS_A_TOKEN
    return Prompt(shown, lower, instructions, stem, options, choices, words, frozenset(words), tokens, len(question))


def words_of(lower: str) -> list[str]:
    """Text in lower case as words, single digits and single symbols, in order."""
    return (_ASCII_WORDS if lower.isascii() else _WORDS).findall(lower)


def _choices(text: str) -> tuple[str, str, int]:
    """The text before the first option, from it on, and how many there are: lines that begin with A, B, C."""
    start, expected = 0, ord("a")
    for match in _OPTION.finditer(text):
        letter = ord(match[1].lower())
        if letter == ord("a"):
            start, expected = match.start(), ord("b")
        elif letter == expected:
            expected += 1
    count = expected - ord("a")
    return (text[:start], text[start:], count) if count >= 3 else (text, "", 0)


def _characters(request: Request) -> int:
    total = 0
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, Text):
                total += len(part.text)
            elif isinstance(part, ToolResult):
                total += sum(len(inner.text) for inner in part.parts if isinstance(inner, Text))
    return total
