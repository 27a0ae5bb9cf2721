"""What the mind of the router costs: CPU of reading a request, of predicting and of scoring its candidates.

Above it: `__main__`. Below it: `pipelines.routing`, `bench.router`, which has the whole by the number of candidates.
"""

import random
import time
from collections.abc import Callable

import msgspec
import numpy

from bench.router import call_of, chooser_of, measure, table_of
from pipelines.conversation import Message, Request, Text
from pipelines.routing.ask import Ask
from pipelines.routing.choose import choose
from pipelines.routing.estimate import Estimate, Known
from pipelines.routing.learning.evidence import Rated, pack
from pipelines.routing.learning.features import features
from pipelines.routing.learning.state import Learning, encode
from pipelines.routing.learning.view import qualities, view
from pipelines.routing.prompt import prompt_of
from pipelines.routing.tasks import profile

CANDIDATES = 50
TOKENS = 4000
ROUNDS = 400

_WORDS = (
    "the model of which function returns percent 12 and 3.5 evidence, because translating every paragraph needs an "
    "explanation; however (in general) x = 4y + 2 holds for constitutional law. How many patients were treated? "
)


def long_request() -> Request:
    """A prompt of TOKENS tokens."""
    text = (_WORDS * (4 * TOKENS // len(_WORDS) + 1))[: 4 * TOKENS]
    return Request("auto", (Message("system", (Text("Answer as JSON. " * 20),)), Message("user", (Text(text),))))


def microseconds(work: Callable[[], object], rounds: int = ROUNDS) -> tuple[float, float]:
    """Median and 99th percentile of the CPU time of one call."""
    times = []
    for _ in range(rounds):
        began = time.process_time_ns()
        work()
        times.append((time.process_time_ns() - began) / 1000)
    times.sort()
    return times[rounds // 2], times[int(rounds * 0.99)]


def report() -> str:
    """A table of medians and 99th percentiles."""
    request = long_request()
    prompt = prompt_of(request)
    about = profile(request, prompt)
    vector = features(prompt, about)
    table = table_of(CANDIDATES)
    cards = [(entry, card) for entry in table.providers for card in entry.models]
    priors = {f"{entry.name}/{card.name}": card.quality for entry, card in cards}
    source, normals = random.Random(1), numpy.random.default_rng(1).standard_normal
    learning = Learning(len(vector))
    for index in range(40 * CANDIDATES):
        name = source.choice(list(priors))
        evidence = Rated(name, "code", float(source.random() < 0.8), features=pack(vector), expected=0.8)
        learning = learning.update(evidence, float(index))
    seen = view(learning, priors, normals, 1e4)
    known = Known(about, pack(vector))
    ask = Ask(("auto",), prompt_tokens=TOKENS)

    def decide() -> None:
        choose(table, ask, 0.0, source.random, Estimate(seen, lambda: known))

    whole, long = measure(CANDIDATES, "auto"), chooser_of(table)
    call = call_of("auto")
    long_call = msgspec.structs.replace(call, request=request)
    rows: dict[str, tuple[Callable[[], object], int]] = {
        f"read a prompt of {TOKENS:,} tokens and say its task": (lambda: profile(request), ROUNDS),
        "its features": (lambda: features(prompt, about), ROUNDS),
        f"predict the quality of {CANDIDATES} candidates": (lambda: qualities(seen, vector, about.task), ROUNDS),
        f"predict, score and order {CANDIDATES} candidates": (decide, ROUNDS),
        f"the whole decision, {TOKENS:,} tokens, {CANDIDATES} candidates": (lambda: long.choose(long_call), ROUNDS),
        "learn from one feedback": (lambda: learning.update(evidence, 1e4), ROUNDS),
        f"publish a view of {CANDIDATES} models": (lambda: view(learning, priors, normals, 1e4), 20),
    }
    lines = ["| CPU | us p50 | us p99 |", "|---|---|---|"]
    lines.append(
        f"| the whole decision, a usual prompt, {CANDIDATES} candidates | {whole.median:.0f} | {whole.worst:.0f} |"
    )
    lines += [
        f"| {name} | {p50:.0f} | {p99:.0f} |"
        for name, (work, rounds) in rows.items()
        for p50, p99 in [microseconds(work, rounds)]
    ]
    sizes = len(seen.mean) + len(seen.draw) + len(seen.preferences), len(encode(learning))
    lines.append(f"\na view has {sizes[0]:,} bytes, the whole state {sizes[1]:,}, a packed vector {len(pack(vector))}")
    return "\n".join(lines)
