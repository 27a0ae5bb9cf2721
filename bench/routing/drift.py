"""A world that changes, and what each strategy loses in it against an oracle.

Five models answer requests of four kinds. At one third of the time the cheapest good model becomes dear; at one half
a provider degrades (worse answers, five times as slow); at two thirds a better model appears that nobody knows.
Regret is what the best model of the moment was worth more than the one that was chosen, by `worth` with the true
quality, price and speed, under the policy "balanced". Strategies know list prices and what the router measures of
speed; only ours hears of quality, from feedback on FEEDBACK of the answers.

Above it: `__main__`. Below it: `pipelines.routing`. Outside it: real models; the numbers of this world are invented.
"""

import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy

from pipelines.conversation import Message, Request, Text
from pipelines.routing.ask import Ask
from pipelines.routing.learning.evidence import Rated, pack
from pipelines.routing.learning.features import features
from pipelines.routing.learning.state import Learning
from pipelines.routing.learning.view import explores, qualities, view
from pipelines.routing.learning.weights import Vector
from pipelines.routing.prompt import prompt_of
from pipelines.routing.statistics import Statistics
from pipelines.routing.table import ModelCard, Outcome, Performance
from pipelines.routing.tasks import Task, profile
from pipelines.routing.worth import worth

STEPS = 6000
INTERVAL = 0.5
"""Seconds between two requests."""

FEEDBACK = 0.3
EXPLORED = 0.05
REFIT = 50
OUTPUT = 300

TEXTS = (
    "Write a python function that parses a csv file and returns a dict of columns.",
    "How many apples are left if Tom buys 24, eats 3 and gives half of the rest away?",
    "Translate this letter into German: we are looking forward to seeing you in May.",
    "Hi, what would you recommend for a rainy weekend with the children?",
)


class Model(NamedTuple):
    """What is true of a model.

    quality by kind of request; price in US dollars per million tokens; first, the time to the first output, in seconds;
    speed in tokens a second; share is its weight where weights decide, prior its quality as its card has it.
    """

    name: str
    quality: tuple[float, ...]
    price: float
    first: float
    speed: float
    share: float
    prior: float = 0.7


MODELS = (
    Model("a/small", (0.45, 0.50, 0.75, 0.80), 0.5, 0.3, 150.0, 0.2, 0.6),
    Model("a/large", (0.85, 0.88, 0.90, 0.90), 12.0, 0.8, 60.0, 0.2, 0.85),
    Model("b/coder", (0.90, 0.60, 0.60, 0.65), 2.0, 0.5, 90.0, 0.2, 0.7),
    Model("b/middle", (0.70, 0.75, 0.85, 0.85), 2.0, 0.5, 90.0, 0.2, 0.75),
    Model("c/local", (0.35, 0.40, 0.50, 0.70), 0.0, 1.0, 40.0, 0.2, 0.55),
)
BETTER = Model("d/new", (0.92, 0.92, 0.92, 0.92), 1.0, 0.4, 120.0, 0.2, 0.7)


def world(step: int) -> dict[str, Model]:
    """The models as they are at a step, by name."""
    models = {model.name: model for model in MODELS}
    if step >= STEPS // 3:
        models["b/middle"] = models["b/middle"]._replace(price=20.0)
    if step >= STEPS // 2:
        coder = models["b/coder"]
        worse = tuple(quality - 0.4 for quality in coder.quality)
        models["b/coder"] = coder._replace(quality=worse, first=coder.first * 5, speed=coder.speed / 5)
    if step >= STEPS * 2 // 3:
        models[BETTER.name] = BETTER
    return models


class Asked(NamedTuple):
    """One request: its kind (an index), its task and features, and the session that it belongs to."""

    kind: int
    task: Task
    vector: Vector
    session: int


def _asked(kind: int) -> Asked:
    request = Request("auto", (Message("user", (Text(TEXTS[kind]),)),))
    prompt = prompt_of(request)
    about = profile(request, prompt)
    return Asked(kind, about.task, features(prompt, about), 0)


class Seen:
    """What every strategy knows: list prices, and what the router measures of each model."""

    def __init__(self) -> None:
        self.statistics: dict[str, Statistics] = {}
        self.busy: dict[str, list[float]] = {}

    def card(self, model: Model) -> ModelCard:
        """What the provider says of its model."""
        return ModelCard(model.name, input_price=model.price, output_price=model.price, quality=model.prior)

    def performance(self, name: str, now: float) -> Performance:
        """What was measured, and how many requests are under way."""
        self.busy[name] = [end for end in self.busy.get(name, []) if end > now]
        return self.statistics.get(name, Statistics()).performance(now, len(self.busy[name]))

    def answered(self, model: Model, seconds: float, now: float) -> None:
        """Measure an answer."""
        self.busy.setdefault(model.name, []).append(now + seconds)
        provider, _, name = model.name.partition("/")
        outcome = Outcome(provider, name, seconds, first_output=model.first, output_tokens=OUTPUT)
        self.statistics[model.name] = self.statistics.get(model.name, Statistics()).after(outcome, now)


Strategy = Callable[[dict[str, Model], Asked, Seen, float], str]


def strategies(seed: int) -> dict[str, Strategy]:
    """The usual ones, by name, and ours."""
    source, turn = random.Random(seed), iter(range(10**9))

    def least(key: Callable[[Model, Seen, float], float]) -> Strategy:
        def choose(models: dict[str, Model], asked: Asked, seen: Seen, now: float) -> str:
            return min(models.values(), key=lambda model: (key(model, seen, now), source.random())).name

        return choose

    def weighted(models: dict[str, Model], asked: Asked, seen: Seen, now: float) -> str:
        return source.choices(list(models), [model.share for model in models.values()])[0]

    return {
        "random (weighted)": weighted,
        "round-robin": lambda models, asked, seen, now: list(models)[next(turn) % len(models)],
        "least-busy": least(lambda model, seen, now: seen.performance(model.name, now).in_flight),
        "lowest-latency": least(lambda model, seen, now: seen.performance(model.name, now).first_output or 0.0),
        "cheapest": least(lambda model, seen, now: model.price),
        "sticky": lambda models, asked, seen, now: list(models)[asked.session % len(models)],
        "prior quality, no learning": Learned(seed, feedback=0.0, explored=0.0),
        "ours, no exploration": Learned(seed, explored=0.0),
        "ours": Learned(seed),
    }


class Learned:
    """The product's learning and score, with feedback on a share of the answers."""

    def __init__(self, seed: int, feedback: float = FEEDBACK, explored: float = EXPLORED) -> None:
        self._random, self._feedback, self._explored = random.Random(seed), feedback, explored
        self._normals = numpy.random.default_rng(seed).standard_normal
        self._learning = Learning(len(_asked(0).vector))
        self._view = view(self._learning, {}, self._normals, 0.0)
        self._fed = 0

    def __call__(self, models: dict[str, Model], asked: Asked, seen: Seen, now: float) -> str:
        """The candidate with the highest score; its answer may be rated."""
        if set(self._view.models) != set(models) or self._fed >= REFIT:
            priors = {name: model.prior for name, model in models.items()}
            self._view, self._fed = view(self._learning, priors, self._normals, now), 0
        expected = qualities(self._view, asked.vector, asked.task)
        drawn = None
        if explores(self._random.random, self._explored):
            drawn = qualities(self._view, asked.vector, asked.task, drawn=True)
        ask = Ask(("auto",), prompt_tokens=100)
        found = {
            name: worth(
                seen.card(model), seen.performance(name, now), ask, 0.0, expected[name], drawn[name] if drawn else None
            ).score
            for name, model in models.items()
        }
        best = max(found, key=lambda name: found[name])
        if self._random.random() < self._feedback:
            good = float(self._random.random() < models[best].quality[asked.kind])
            evidence = Rated(best, asked.task, good, features=pack(asked.vector), expected=expected[best])
            self._learning, self._fed = self._learning.update(evidence, now), self._fed + 1
        return best


def true_worth(model: Model, kind: int, seen: Seen) -> float:
    """What a model is really worth for a kind of request."""
    performance = Performance(first_output=model.first, tokens_per_second=model.speed, output_tokens=OUTPUT)
    return worth(seen.card(model), performance, Ask(("auto",), prompt_tokens=100), 0.0, model.quality[kind]).score


def regrets(strategy: Strategy, seed: int = 1) -> list[float]:
    """The regret of each step."""
    source, seen, kinds = random.Random(seed), Seen(), [_asked(kind) for kind in range(len(TEXTS))]
    found = []
    for step in range(STEPS):
        now, models = step * INTERVAL, world(step)
        asked = source.choice(kinds)._replace(session=source.randrange(40))
        chosen = models[strategy(models, asked, seen, now)]
        seen.answered(chosen, chosen.first + OUTPUT / chosen.speed, now)
        values = {name: true_worth(model, asked.kind, seen) for name, model in models.items()}
        found.append(max(values.values()) - values[chosen.name])
    return found


CHANGES = {STEPS // 3: "a price x 10", STEPS // 2: "a provider degrades", STEPS * 2 // 3: "a better model"}
"""What happens, and at which step."""

SEEDS = (1, 2, 3)

Regrets = dict[str, list[list[float]]]
"""By strategy, and for each seed the regret of each step."""


def measured(seeds: Sequence[int] = SEEDS) -> Regrets:
    """Every strategy in the same worlds."""
    found: Regrets = {}
    for seed in seeds:
        for name, strategy in strategies(seed).items():
            found.setdefault(name, []).append(regrets(strategy, seed))
    return found


def report(found: Regrets) -> str:
    """A table: mean regret in each phase with its spread over the seeds, and its course over time in levels."""
    lines = [
        "Regret a request (score of the best model less that of the chosen one, x 1000; the oracle's is 0) while the",
        f"world changes, mean of {len(SEEDS)} runs, and how far the runs lie from their mean",
        "",
        "| strategy | at first | " + " | ".join(CHANGES.values()) + " | all | course |",
        "|---|" + "---|" * (len(CHANGES) + 3),
    ]
    cuts = (0, *CHANGES, STEPS)
    for name, runs in found.items():
        phases = [[1000 * _mean(run[begin:end]) for run in runs] for begin, end in (*pairwise(cuts), (0, STEPS))]
        cells = [f"{_mean(phase):.1f} ± {max(abs(one - _mean(phase)) for one in phase):.1f}" for phase in phases]
        lines.append(f"| {name} | {' | '.join(cells)} | {course(averaged(runs))} |")
    return "\n".join(lines)


def averaged(runs: Sequence[Sequence[float]]) -> list[float]:
    """The mean of several runs at each step."""
    return [_mean(step) for step in zip(*runs, strict=True)]


def course(values: Sequence[float], width: int = 24, top: float = 0.15) -> str:
    """The values over time in eight levels up to `top`, in so many characters."""
    size = len(values) // width
    means = [_mean(values[index * size : (index + 1) * size]) for index in range(width)]
    return "".join("▁▂▃▄▅▆▇█"[min(7, int(8 * mean / top))] for mean in means)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))
