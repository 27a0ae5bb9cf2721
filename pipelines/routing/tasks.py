"""What kind of request it is, and how difficult: `profile`, a pure function of a request.

Signals vote for tasks; the task with the most votes wins, and `chat` is what nothing votes against. A signal is a
word of the vocabulary, a shape of the text (a fence, an equation, a list of choices) or a field of the request (tools,
an image, a form asked for). Each counts once, whatever its frequency, so that pasted material does not outvote the
question; instructions (system messages) vote at half weight, for they hold for every question alike.

The difficulty is a sum of bounded contributions, cut to [0, 1]: a base by task, and what makes questions of that
task harder (`difficulty`). It is an order, not a probability; what a model makes of it is learned (`learning`).

Above it: `learning`, `estimate`, `record`. Below it: `prompt`, `vocabulary`, `conversation`. Outside it: any model's
quality.
"""

import math
import re
import string
from collections.abc import Iterator, Mapping
from typing import Literal, cast, get_args

import msgspec

from pipelines.conversation import Request, ToolResult, is_picture, parts_of
from pipelines.routing import vocabulary
from pipelines.routing.prompt import Prompt, prompt_of

Task = Literal[
    "code",
    "mathematics",
    "reasoning",
    "extraction",
    "translation",
    "summarising",
    "writing",
    "chat",
    "tool_use",
    "vision",
    "long_context",
]

TASKS: tuple[Task, ...] = get_args(Task)

LONG_CONTEXT = 16_000
"""Estimated tokens from which the length itself is the task."""

_LANGUAGES = "french german spanish italian english chinese japanese korean portuguese russian arabic hindi"

_VOTES_BY_WORD: Mapping[Task, tuple[float, str]] = {
    "code": (
        1.0,
        "python javascript typescript java rust golang sql kotlin php html css bash regex compile compiler function "
        "algorithm debug refactor exception traceback stacktrace unittest pytest docker kubernetes git api class "
        "method endpoint async variable recursion script codebase repository",
    ),
    "mathematics": (
        1.0,
        "calculate compute solve equation integral derivative polynomial probability percent percentage triangle "
        "integer fraction matrix theorem sum divided remainder average radius perimeter cos sin sqrt prove modulo "
        "twice half total dozen",
    ),
    "reasoning": (
        1.0,
        "why explain argue deduce infer logic logical puzzle riddle conclude hypothesis premise fallacy statement "
        "therefore statements compare evaluate assess strategy plan tradeoff",
    ),
    "extraction": (
        1.0,
        "extract json csv yaml xml parse classify classification label field fields entity entities sentiment "
        "categorise categorize schema spreadsheet columns",
    ),
    "translation": (
        3.0,
        "translate translation translator translated traduire traduce traducir",
    ),
    "summarising": (3.0, "summarize summarise summary summaries tldr condense abridge synopsis recap gist"),
    "writing": (
        1.0,
        "poem story essay email letter blog article draft rewrite proofread paraphrase slogan speech lyrics haiku "
        "screenplay headline tone paragraph limerick novel newsletter",
    ),
    "chat": (0.5, "hello hi hey thanks thank bye please recommend favourite favorite feel"),
}

_BY_WORD: Mapping[str, tuple[Task, float]] = {
    word: (cast(Task, task), weight)
    for votes in (vocabulary.WORDS, _VOTES_BY_WORD)
    for task, (weight, words) in votes.items()
    for word in words.split()
}

_UNSPACED = tuple(
    (word, cast(Task, task), weight) for task, (weight, words) in vocabulary.UNSPACED.items() for word in words.split()
)

_PHRASES: tuple[tuple[Task, float, tuple[str, ...]], ...] = (
    ("mathematics", 2.0, ("how many", "how much", "how far", "how long", "how old")),
    ("reasoning", 1.0, ("step by step", "step-by-step", "if and only if", "follows from", "best explains")),
    ("summarising", 3.0, ("tl;dr", "key points", "main points", "in one sentence", "in a few sentences")),
    ("extraction", 1.5, ("as json", "valid json", "as csv", "as a table", "as yaml", "list all the")),
    ("translation", 1.0, tuple(f"to {language}" for language in _LANGUAGES.split())),
    ("translation", 0.5, tuple(f"in {language}" for language in _LANGUAGES.split())),
    ("code", 2.0, ("stack trace", "unit test", "source code", "write a function", "write a script")),
    ("code", 2.0, ("write a program", "write a query", "pull request")),
    ("code", 1.5, ("c++", "c#", "f#", ".net ", "node.js")),
    ("summarising", 3.0, ("resume este", "resume el ", "resume la ", "resume esta")),
)

_BY_PHRASE = tuple((phrase, task, weight) for task, weight, phrases in _PHRASES for phrase in phrases)

_STATEMENT = re.compile(r"^ *(?:def \w+\(|class \w+[:({]|import \w+$|#include|SELECT |const )", re.MULTILINE)
_ARITHMETIC = re.compile(r"\d ?[-+*/=^×÷] ?\(?\d|\b\d+[xyz]\b|[xyz]\^\d|\b[fgh]\(\w\) ?=")
_STATEMENT_END = r"(?:\w\([^()\n]*\){1,4};?|[\]}];|=[^\n;=]*;|[{}])$"
_STATEMENT_ENDS = re.compile(rf"{_STATEMENT_END}(?s:.*?){_STATEMENT_END}", re.MULTILINE)
_LINE_END = re.compile(r"[;{})]$", re.MULTILINE)
_PROGRAM = r"(?:\w+ )?(?:function|script|program|query|class|test)"

_SHAPES: tuple[tuple[str, Task, float, re.Pattern[str]], ...] = (
    ("line of code", "code", 2.0, _STATEMENT),
    # One line may end so in prose; smileys, and remarks in brackets, never count.
    ("ends of statements", "code", 1.0, _STATEMENT_ENDS),
    ("arithmetic", "mathematics", 1.5, _ARITHMETIC),
    ("formula", "mathematics", 2.0, re.compile(r"\\(?:frac|int|sum|sqrt)|[∑∫√≤≥]")),
    ("write a text", "writing", 2.0, re.compile(rf"\b[Ww]rite (?:me )?(?:an?|the|some) (?!{_PROGRAM})")),
)

_UNPUNCTUATED = str.maketrans(dict.fromkeys(string.punctuation, " "))

_HALF_FOR_INSTRUCTIONS = 0.5

_BASE: Mapping[Task, float] = {
    "code": 0.4,
    "mathematics": 0.3,
    "reasoning": 0.3,
    "extraction": 0.15,
    "translation": 0.15,
    "summarising": 0.2,
    "writing": 0.25,
    "chat": 0.1,
    "tool_use": 0.35,
    "vision": 0.35,
    "long_context": 0.5,
}
"""Difficulty of the plainest question of each task."""


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_NEGATIONS = _set("not except never false incorrect cannot neither nor unless without least")
_RELATIONS = _set("twice half percent times each per more than less remaining rest ratio if then every")
_CONSTRAINTS = _set("must exactly only at least most constraint require ensure avoid optimal prove edge")


class Profile(msgspec.Struct, frozen=True, omit_defaults=True):
    """What kind of request it is. signals: what fired (`task: signal`, `difficulty: signal`), and what it counts."""

    task: Task = "chat"
    difficulty: float = 0.0
    signals: dict[str, float] = {}


def profile(request: Request, prompt: Prompt | None = None) -> Profile:
    """The task and difficulty of a request. `prompt`: what was read of it already (`prompt_of`)."""
    prompt = prompt or prompt_of(request)
    votes: dict[Task, float] = {"chat": 0.25}
    signals: dict[str, float] = {}
    for task, name, weight in _signals(request, prompt):
        votes[task] = votes.get(task, 0.0) + weight
        signals[f"{task}: {name}"] = weight
    task = max(votes, key=lambda one: votes[one])
    contributions = difficulty(request, prompt, task)
    signals.update({f"difficulty: {name}": round(value, 3) for name, value in contributions.items() if value})
    total = min(1.0, max(0.0, sum(contributions.values())))
    return Profile(task, round(total, 3), signals)


def _signals(request: Request, prompt: Prompt) -> Iterator[tuple[Task, str, float]]:
    """Every vote: the task, the signal's name, its weight."""
    yield from _fields(request, prompt)
    said = prompt.said
    # Sorted, for the order of a set is another in every process, and of equal votes the first counts.
    for word in sorted(said & _BY_WORD.keys()):
        task, weight = _BY_WORD[word]
        yield task, word, weight
    told = prompt.instructions.lower().translate(_UNPUNCTUATED).split() if prompt.instructions else ()
    for word in sorted((set(told) & _BY_WORD.keys()) - said):
        task, weight = _BY_WORD[word]
        yield task, f"{word} (instructions)", weight * _HALF_FOR_INSTRUCTIONS
    for phrase, task, weight in _BY_PHRASE:
        if phrase in prompt.lower:
            yield task, phrase, weight
    if not prompt.lower.isascii():
        yield from ((task, word, weight) for word, task, weight in _UNSPACED if word in prompt.lower)
    if "```" in prompt.question:
        yield "code", "fence", 2.0
    yield from _shapes(prompt)


def _shapes(prompt: Prompt) -> Iterator[tuple[Task, str, float]]:
    """What the question looks like."""
    numbers = sum(map(str.isdigit, prompt.words))
    for name, task, weight, pattern in _SHAPES:
        # Most prompts hold nothing that these two, the dearest of them, could find.
        if pattern is _ARITHMETIC and not numbers and "=" not in prompt.said:
            continue
        if pattern is _STATEMENT_ENDS and len(_LINE_END.findall(prompt.question)) < 2:
            continue
        if pattern.search(prompt.question):
            yield task, name, weight
    if numbers >= 3 and numbers * 20 >= len(prompt.words):
        yield "mathematics", "numbers", 1.0
    digits = sum(map(str.isdigit, prompt.options))
    if digits >= 3 and 6 * digits >= len(prompt.options) - 4 * prompt.choices:
        yield "mathematics", "numbers to choose from", 1.5


def _fields(request: Request, prompt: Prompt) -> Iterator[tuple[Task, str, float]]:
    """What the request's fields say: pictures, tools, the form of the answer, choices, length."""
    last = parts_of(request.messages[-3:])
    if any(map(is_picture, last)):
        yield "vision", "image", 10.0
    if request.tools and (request.tool_choice is None or request.tool_choice.mode != "none"):
        yield "tool_use", "tools", 4.0
    if any(isinstance(part, ToolResult) for part in last):
        yield "tool_use", "tool result", 2.0
    if request.output_format is not None and request.output_format.kind != "text":
        yield "extraction", request.output_format.kind, 3.0
    if request.reasoning is not None and request.reasoning.enabled:
        yield "reasoning", "reasoning asked for", 0.5
    if prompt.choices:
        yield "reasoning", "multiple choice", 1.5
    if prompt.tokens >= LONG_CONTEXT:
        yield "long_context", "length", 6.0


def difficulty(request: Request, prompt: Prompt, task: Task) -> dict[str, float]:
    """What makes the request hard, by name; the sum, cut to [0, 1], is its difficulty."""
    words, said = prompt.words, prompt.said
    rare = len([word for word in words if len(word) > 8]) / max(1, len(words))
    numbers = sum(map(str.isdigit, words))
    effort = request.reasoning.nearest_effort if request.reasoning is not None and request.reasoning.enabled else ""
    return {
        "task": _BASE[task],
        "length": min(0.3, 0.06 * math.log2(1.0 + prompt.characters / 100.0)),
        "numbers": 0.1 * numbers / (numbers + 8.0),
        "long words": min(0.1, 0.4 * rare),
        "negation": min(0.08, 0.04 * len(said & _NEGATIONS)),
        "relations": min(0.1, 0.025 * len(said & _RELATIONS)) if task == "mathematics" else 0.0,
        "constraints": min(0.1, 0.02 * len(said & _CONSTRAINTS)),
        "tools": min(0.1, 0.01 * len(request.tools)),
        "schema": 0.05 if request.output_format is not None and request.output_format.kind == "json_schema" else 0.0,
        "turns": min(0.1, 0.01 * len(request.messages)) if len(request.messages) > 2 else 0.0,
        "effort": {"high": 0.15, "xhigh": 0.2, "medium": 0.05}.get(effort, 0.0),
    }
