"""What kind of request it is, and how difficult."""

import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.routing.outcomes import SHARED, read
from pipelines.conversation import (
    Image,
    Message,
    OutputFormat,
    ReasoningRequest,
    Request,
    Text,
    ToolCall,
    ToolChoice,
    ToolResult,
    ToolSpec,
)
from pipelines.routing.prompt import QUESTION, prompt_of, words_of
from pipelines.routing.tasks import LONG_CONTEXT, TASKS, Task, difficulty, profile


def asking(text: str, system: str = "", **more: object) -> Request:
    messages = (Message("system", (Text(system),)),) if system else ()
    return Request("auto", (*messages, Message("user", (Text(text),))), **more)  # type: ignore[arg-type]


TOOL = ToolSpec("weather", schema={"type": "object"})
CALL = Message("assistant", (ToolCall("c1", "weather", "{}"),))
RESULT = Message("tool", (ToolResult("c1", (Text("sunny"),)),))
PICTURE = Image(url="https://example.org/cat.png")
LONG = "It rained on the plain. " * (LONG_CONTEXT * 4 // 24 + 1)

CASES: list[tuple[Task, Request]] = [
    ("code", asking("Write a python function that reverses a linked list.")),
    ("code", asking("Why does this fail?\n```\nfor (int i = 0; i < n; i++) {\n  total += a[i];\n}\n```")),
    ("code", asking("Refactor this class so that its method can be unit tested.")),
    ("mathematics", asking("Solve the equation 3x + 4 = 19.")),
    ("mathematics", asking("A baker sells 12 loaves at $3 each and 5 cakes at $9. How much does she earn in total?")),
    ("mathematics", asking("Find the integral of x^2 from 0 to 3.\nA. 3\nB. 6\nC. 9\nD. 27")),
    ("reasoning", asking("Which of these is a fallacy?\nA. Ad hominem\nB. Modus ponens\nC. Syllogism\nD. Deduction")),
    ("reasoning", asking("Explain why the premise does not support what they conclude.")),
    ("extraction", asking("Extract every name and address from this letter as JSON.")),
    ("extraction", asking("Who wrote Faust?", output_format=OutputFormat("json_schema", schema={"type": "object"}))),
    ("translation", asking("Translate this to French: good morning, my dear friends.")),
    ("translation", asking("Guten Morgen, liebe Freunde.", system="You translate what the user says to English.")),
    ("summarising", asking("Summarize the following article: the council met on Monday and talked about bins.")),
    ("summarising", asking("The meeting ran late. Give me the key points.")),
    ("writing", asking("Write a short poem about the sea.")),
    ("writing", asking("Draft an email that invites the team to lunch.")),
    ("chat", asking("Hi there, what shall I do tonight?")),
    ("chat", Request("auto", ())),
    ("translation", asking("Übersetze das ins Französische: Der Zug fährt um acht.")),
    ("translation", asking("Tu peux me traduire cette phrase ? It is late.")),
    ("translation", asking("Переведите на немецкий: где вокзал?")),
    ("translation", asking("把下面的段落翻译成法文：天气很好。")),
    ("translation", asking("この手紙の一行目を英訳してください。")),
    ("summarising", asking("Bitte eine kurze Zusammenfassung des Protokolls: Alle waren da.")),
    ("summarising", asking("Haz un resumen de la novela en cinco líneas.")),
    ("summarising", asking("請總結這份報告的內容。")),
    ("writing", asking("Schreib mir ein paar Zeilen zum Geburtstag meiner Tante.")),
    ("writing", asking("Rédige une lettre de motivation pour un poste de boulanger.")),
    ("writing", asking("母への手紙を書いてください。")),
    ("code", asking("Schreibe ein Programm, das Primzahlen in eine Datei ausgibt.")),
    ("code", asking("Escribe una función que invierta una cadena.")),
    ("code", asking("Reverse a linked list in C++")),
    ("code", asking("What does this print?\nx = f(3);\nshow(x);")),
    ("mathematics", asking("Calcule la dérivée de cette expression.")),
    ("mathematics", asking("Сколько груш осталось, если было десять, а съели три?")),
    ("code", asking("Go on.", system="You are a senior engineer who knows Rust, Python.")),
    ("extraction", asking("Go on.", system="Answer in JSON.")),
    ("chat", asking("Good morning :)\nDid you sleep well ;)")),
    ("chat", asking("Who painted the ceiling of that chapel (the one in Rome)\nand of the other (in Padua)")),
    ("chat", asking("My rules for the trip: be on time;\nbe kind;\nbring water;")),
    ("chat", asking("Wie heißt die Hauptstadt von Peru?")),
    ("tool_use", asking("Will it rain in Paris?", tools=(TOOL,))),
    ("tool_use", Request("auto", (Message("user", (Text("Will it rain?"),)), CALL, RESULT), tools=(TOOL,))),
    ("vision", Request("auto", (Message("user", (Text("Translate what is on this sign."), PICTURE)),))),
    ("long_context", asking(LONG + "What was it that rained on the plain?")),
]


@pytest.mark.parametrize(
    ("task", "request_"), CASES, ids=[f"{task}-{number}" for number, (task, _) in enumerate(CASES)]
)
def test_a_clear_case_is_what_it_is(task: Task, request_: Request) -> None:
    found = profile(request_)
    assert found.task == task, found.signals


def test_every_task_has_a_case() -> None:
    assert {task for task, _ in CASES} == set(TASKS)


def test_tools_that_may_not_be_called_do_not_count() -> None:
    assert profile(asking("Hi there!", tools=(TOOL,), tool_choice=ToolChoice("none"))).task == "chat"


@given(st.text(max_size=300), st.text(max_size=100))
def test_a_profile_is_bounded_the_same_each_time_and_says_why(text: str, system: str) -> None:
    request = asking(text, system)
    found = profile(request)
    assert found == profile(request)
    assert 0.0 <= found.difficulty <= 1.0
    votes: dict[str, float] = defaultdict(float, chat=0.25)
    for name, value in found.signals.items():
        if not name.startswith("difficulty: "):
            votes[name.split(": ")[0]] += value
    assert votes[found.task] == max(votes.values())
    parts = difficulty(request, prompt_of(request), found.task)
    assert found.difficulty == pytest.approx(min(1.0, sum(parts.values())), abs=1e-3)


@pytest.mark.parametrize(
    ("easier", "harder"),
    [
        (asking("What is 2 + 2?"), asking("Prove that 2 + 2 must be 4 in every model of the axioms. " * 5)),
        (asking("Which is it?"), asking("Which of these is it not, unless none is?")),
        (asking("Why?"), asking("Why?", reasoning=ReasoningRequest(effort="high"))),
        (asking("Will it rain?", tools=(TOOL,)), asking("Will it rain?", tools=(TOOL,) * 9)),
    ],
)
def test_what_is_harder_is_called_harder(easier: Request, harder: Request) -> None:
    assert profile(easier).difficulty < profile(harder).difficulty


def test_only_a_bounded_part_of_a_long_question_is_read_its_beginning_and_its_end() -> None:
    prompt = prompt_of(asking("first " + "x" * 100_000 + " last"))
    assert len(prompt.question) == QUESTION + 1
    assert prompt.words[0] == "first"
    assert prompt.words[-1] == "last"
    assert prompt.characters == 100_011
    assert prompt.tokens == 100_011 // 4


def test_choices_are_found_where_they_are_listed() -> None:
    prompt = prompt_of(asking("Which?\n(A) one\n(B) two\n(C) three\n(D) four"))
    assert (prompt.stem, prompt.choices) == ("Which?\n", 4)
    assert prompt_of(asking("Sections:\nA. one\nB. two")).choices == 0


def test_the_latest_question_counts() -> None:
    turns = [Message("user", (Text(text),)) for text in ("Translate this to French.", "Thanks, bye!")]
    assert profile(Request("auto", tuple(turns))).task == "chat"


def test_words_of_any_script_are_whole_and_ascii_is_split_as_ever() -> None:
    assert words_of("übersetze déjà-vu x_1 слово") == ["übersetze", "déjà", "-", "vu", "x", "_", "1", "слово"]
    text = "f(x_1) = 20% of [a-b], don't {go}!"
    assert words_of(text) == words_of(f"{text} é")[:-1]


def test_a_question_made_to_be_slow_takes_no_longer_than_a_plain_one() -> None:
    def cost(text: str) -> float:
        times = []
        for _ in range(20):
            began = time.process_time()
            profile(asking(text))
            times.append(time.process_time() - began)
        return min(times)

    plain = cost("Where is it? " * 300)
    for odd in ("=", "f(", "f(x)", "{", "a=b;", "){", "f((", "f();\n"):
        assert cost(odd * (QUESTION // len(odd))) < 10 * plain + 0.001, odd


def test_a_long_prompt_takes_less_than_a_millisecond() -> None:
    request = asking(
        "Explain in 3 steps, why (2 + 2) is not twice 3; then translate it. " * 240, system="Be brief. " * 99
    )
    assert prompt_of(request).tokens >= 4_000
    times = []
    for _ in range(60):
        began = time.process_time()
        profile(request)
        times.append(time.process_time() - began)
    assert min(times) < 0.001


@pytest.mark.skipif(not SHARED.exists(), reason="the shared questions are not there")
def test_real_questions_are_called_what_their_subjects_say() -> None:
    tasks: dict[str, list[Task]] = defaultdict(list)
    for question in read(SHARED):
        tasks[question.subject].append(question.profile.task)
    wanted: dict[str, tuple[Task, float]] = {
        "grade_school_math": ("mathematics", 0.98),
        "elementary_mathematics": ("mathematics", 0.8),
        "high_school_mathematics": ("mathematics", 0.8),
        "philosophy": ("reasoning", 0.9),
        "jurisprudence": ("reasoning", 0.9),
        "marketing": ("reasoning", 0.9),
        "high_school_psychology": ("reasoning", 0.9),
        "moral_scenarios": ("reasoning", 0.9),
    }
    for subject in wanted.keys() & tasks.keys():
        task, share = wanted[subject]
        assert tasks[subject].count(task) / len(tasks[subject]) > share, subject


def test_the_task_is_the_same_in_every_process() -> None:
    """Words that vote with equal weight for several tasks: the order of a set must not decide."""
    texts = ("Explain this regex please", "Explain how to calculate the area of a circle", "solve this puzzle")
    script = (
        "from pipelines.conversation import Message, Request, Text\n"
        "from pipelines.routing.tasks import profile\n"
        f"for text in {texts}:\n"
        "    print(profile(Request('auto', (Message('user', (Text(text),)),))))\n"
    )
    found = set()
    for seed in range(1, 6):
        environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
        root = Path(__file__).resolve().parents[2]
        found.add(subprocess.check_output([sys.executable, "-c", script], env=environment, cwd=root, text=True))
    assert len(found) == 1
