"""The table of `python -m bench.routing`: APGR and CPT of every way to choose, on questions that it has not seen.

One more column says how right the answers are with half of the calls to the strong model, and by how many points that
is less or more than always asking the better of the two: it is a number where no gap is (`curve`).

On the file that the shipped weights were made from, every figure but one is cross-validated: five folds by hash, each
scored by what was learned from the others. "From topics only" has seen the subjects of the other folds and none
of their outcomes; it is the learning alone. "From a trained start" has a start trained on one half of the other folds
and feedback from the other half, so that no outcome counts twice. On any other file the shipped weights are the start.

"Subjects never seen" leaves out whole subjects: what is left of the start where the topics are strange.

Above it: `__main__`. Below it: `outcomes`, `curve`, `train`, `replay`.
"""

import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy

from bench.routing.curve import Estimate, estimate
from bench.routing.outcomes import FOLDS, NO_SOURCE, Floats, Question, Vectors, right, vectors
from bench.routing.replay import Learner, replayed
from bench.routing.train import guessed, train, untrained
from pipelines.routing.learning.weights import SHIPPED, Weights

STOPS = (100, 500, 1500, 3000, 5000)
RUNS = 3
"""Replays with other random numbers; figures are means over them."""

Rows = Sequence[Question]
Runs = dict[int, dict[int, Floats]]
"""One router's scores by run and by fold, one a question; the higher, the sooner the strong model is asked."""


class Averages(NamedTuple):
    """How right the weak and the strong model are at the questions of one source, on average."""

    source: str
    weak: float
    strong: float


class Row(NamedTuple):
    """One line: figures by source, in the order of the table's averages."""

    name: str
    estimates: tuple[Estimate, ...]


class Measured(NamedTuple):
    """The whole table."""

    sources: tuple[Averages, ...]
    rows: tuple[Row, ...]


def measured(questions: Rows, seen: bool, tell: Callable[[str], None] = lambda _: None) -> Measured:
    """All lines. seen: the shipped weights were made from these questions. tell: hears how far it is."""
    parts = {fold: [one for one in questions if one.fold == fold] for fold in range(FOLDS)}
    folds = {fold: inside for fold, inside in parts.items() if inside}
    sources = _sources(questions)
    scores: dict[str, Runs] = {}
    for fold, held_out in folds.items():
        others = [one for one in questions if one.fold != fold]
        for name, run, found in _fold(held_out, others, seen):
            scores.setdefault(name, {}).setdefault(run, {})[fold] = found
        tell(f"fold {fold + 1} of {FOLDS}")
    if seen:
        scores["ours: cold start, subjects never seen"] = {0: dict(zip(folds, _by_subject(folds), strict=False))}
    rows = [_row(name, folds, runs, sources) for name, runs in scores.items() if len(runs[0]) == len(folds)]
    weak, strong = right(questions)
    subjects = numpy.array([one.subject for one in questions])
    by_subject = numpy.zeros(len(questions))
    for subject in set(subjects):
        by_subject[subjects == subject] = (strong - weak)[subjects == subject].mean()
    for name, known in (
        ("oracle: true subject, its own averages", by_subject),
        ("oracle: each question", strong - weak),
    ):
        rows.append(_row(name, {0: questions}, {0: {0: known}}, sources))
    return Measured(sources, tuple(rows))


def _sources(questions: Rows) -> tuple[Averages, ...]:
    """Every source, the one with most questions first, and all of them together where there are several."""
    names = [name for name, _ in Counter(one.source for one in questions).most_common()]
    if len(names) > 1 and NO_SOURCE not in names:
        names.append(NO_SOURCE)
    found = []
    for name in names:
        weak, strong = right([one for one in questions if name in (one.source, NO_SOURCE)])
        found.append(Averages(name, float(weak.mean()), float(strong.mean())))
    return tuple(found)


def _fold(held_out: Rows, others: Rows, seen: bool) -> Iterator[tuple[str, int, Floats]]:
    """The scores of one fold's questions: who scored them, in which run."""
    random = numpy.random.default_rng(held_out[0].hash)
    yield "random", 0, random.random(len(held_out))
    yield "length of the prompt", 0, numpy.array([float(len(one.text)) for one in held_out])
    yield "ours: difficulty by rules", 0, numpy.array([one.profile.difficulty for one in held_out])
    shipped = vectors(held_out, SHIPPED)
    if not others:
        yield "ours: cold start, shipped weights", 0, _gains(SHIPPED, held_out, shipped)
        return
    if seen:
        yield "ours: cold start, cross-validated", 0, _cold(train(others), held_out)
        yield "(shipped weights, which have seen these questions)", 0, _gains(SHIPPED, held_out, shipped)
        half = [one for one in others if (one.hash >> 21) % 2]
        rest = [one for one in others if not (one.hash >> 21) % 2]
        start = train(half)
        yield "ours: trained start, none", 0, _cold(start, held_out)
        for fed, run, found in _fed(start, rest, vectors(rest, start), held_out):
            yield f"ours: trained start, {fed:,}", run, found
    else:
        yield "ours: cold start, shipped weights", 0, _gains(SHIPPED, held_out, shipped)
        for fed, run, found in _fed(SHIPPED, others, vectors(others, SHIPPED), held_out):
            yield f"ours: shipped weights, {fed:,}", run, found
    topics = untrained(others)
    learned_from, stream = guessed(others)
    for fed, run, found in _fed(topics, stream, learned_from, held_out):
        yield f"ours: from topics only, {fed:,}", run, found


def _by_subject(folds: Mapping[int, Rows]) -> Iterator[Floats]:
    """The scores of each fold's questions by weights that have seen no question of the same subject.

    None at all where the subjects are too few to leave some out.
    """
    questions = [one for held_out in folds.values() for one in held_out]
    found: dict[str, float] = {}
    for part in range(FOLDS):
        inside = [one for one in questions if zlib.crc32(one.subject.encode()) % FOLDS == part]
        others = [one for one in questions if zlib.crc32(one.subject.encode()) % FOLDS != part]
        if inside and others:
            found.update(zip((one.text for one in inside), _cold(train(others), inside).tolist(), strict=True))
    if len(found) < len({one.text for one in questions}):
        return
    for held_out in folds.values():
        yield numpy.array([found[one.text] for one in held_out])


def _cold(weights: Weights, held_out: Rows) -> Floats:
    return _gains(weights, held_out, vectors(held_out, weights))


def _gains(weights: Weights, held_out: Rows, seen: Vectors) -> Floats:
    return Learner(weights).gains(held_out, seen)


def _fed(weights: Weights, stream: Rows, seen: Vectors, held_out: Rows) -> Iterator[tuple[int, int, Floats]]:
    """At each stop of each run: the feedbacks so far, the run, the scores. Runs differ in what they explore."""
    judged = held_out, vectors(held_out, weights)
    for run in range(RUNS):
        for fed, found in replayed(Learner(weights, seed=run), stream, seen, judged, STOPS):
            yield fed, run, found


def _row(name: str, folds: Mapping[int, Rows], runs: Runs, sources: Sequence[Averages]) -> Row:
    estimates: list[Estimate] = []
    for source, _, _ in sources:
        ranks: list[list[Floats]] = [[] for _ in runs]
        gains: list[Floats] = []
        for fold, held_out in folds.items():
            inside = numpy.array([source in (one.source, NO_SOURCE) for one in held_out], bool)
            if inside.any():
                weak, strong = right(held_out)
                gains.append((strong - weak)[inside])
                for run, of_folds in runs.items():
                    ranks[run].append(_ranks(of_folds[fold][inside]))
        estimates.append(estimate([numpy.concatenate(one) for one in ranks], numpy.concatenate(gains)))
    return Row(name, tuple(estimates))


def _ranks(scores: Floats) -> Floats:
    """Scores as shares of the fold that score less: what learners of different folds say becomes comparable."""
    order = numpy.sort(scores)
    below, up_to = numpy.searchsorted(order, scores, "left"), numpy.searchsorted(order, scores, "right")
    shares: Floats = (below + up_to) / (2.0 * len(scores))
    return shares


def markdown(found: Measured) -> str:
    """The table, with 95 % intervals."""
    titles = [f"{source} APGR | CPT50 | CPT80 | right at half (vs best)" for source, _, _ in found.sources]
    lines = ["| router, feedbacks | " + " | ".join(titles) + " |", "|---|" + "---|" * 4 * len(titles)]
    for name, single in (("always the weak model (cheapest)", "weak"), ("always the strong model", "strong")):
        values = [(getattr(one, single), max(one.weak, one.strong)) for one in found.sources]
        lines.append(f"| {name} | " + " | ".join(f"| | | {_accuracy(*value)}" for value in values) + " |")
    for row in found.rows:
        cells = [cell for one, known in zip(row.estimates, found.sources, strict=True) for cell in _cells(one, known)]
        lines.append(f"| {row.name} | " + " | ".join(cells) + " |")
    none = [source for source, weak, strong in found.sources if strong <= weak]
    if none:
        lines += ["", f"No APGR and CPT for {', '.join(none)}: the strong model is no better there."]
    return "\n".join(lines)


def _cells(one: Estimate, known: Averages) -> list[str]:
    """Of one router at one source; a dash for what is no number."""
    right_at_half = _accuracy(known.weak + one.value.lift, max(known.weak, known.strong))
    if numpy.isnan(one.value.apgr):
        return ["–"] * 3 + [right_at_half]
    apgr = f"**{one.value.apgr:.3f}** {one.low.apgr:.3f}–{one.high.apgr:.3f}"
    shares = [
        f"{100 * value:.0f} % {100 * low:.0f}–{100 * high:.0f}"
        for value, low, high in zip(one.value[1:3], one.low[1:3], one.high[1:3], strict=True)
    ]
    return [apgr, *shares, right_at_half]


def _accuracy(value: float, best: float) -> str:
    """A share of right answers, and its distance in points from the best single model's."""
    return f"{100 * value:.1f} % ({100 * (value - best):+.1f})"
