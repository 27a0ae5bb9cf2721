"""The benchmark of the router's learning: its figures by hand, and a replay of a made-up file."""

import csv
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest

from bench.routing import curve, drift, overhead, plot, speed, table
from bench.routing.outcomes import Question, fingerprint, read, vectors
from bench.routing.replay import STRONG, WEAK, Learner
from bench.routing.train import train, untrained
from pipelines.routing.learning.weights import SHIPPED

GAINS = numpy.array([1.0, 1.0, 0.0, 0.0])


def test_the_figures_of_a_known_case() -> None:
    """Two of four questions gain. Best order: PGR is 0, .5, 1, 1, 1 at each quarter, an area of .75."""
    best = curve.figures(numpy.array([4.0, 3.0, 2.0, 1.0]), GAINS)
    assert best == pytest.approx((0.75, 0.25, 0.4, 0.5))
    worst = curve.figures(numpy.array([1.0, 2.0, 3.0, 4.0]), GAINS)
    assert worst == pytest.approx((0.25, 0.75, 0.9, 0.0))


def test_a_question_that_the_strong_model_loses_bends_the_curve_down() -> None:
    """Gains 1, 1, -1: the gap is 1, PGR is 0, 1, 2, 1 at each third."""
    assert curve.figures(numpy.array([3.0, 2.0, 1.0]), numpy.array([1.0, 1.0, -1.0])).apgr == pytest.approx(3.5 / 3)


def test_equal_scores_are_as_good_as_chance() -> None:
    assert curve.figures(numpy.zeros(4), GAINS) == pytest.approx((0.5, 0.5, 0.8, 0.25))


def test_random_scores_are_about_one_half_and_the_interval_says_so() -> None:
    generator = numpy.random.default_rng(1)
    gains = generator.choice([-1.0, 0.0, 1.0], size=4000, p=[0.08, 0.72, 0.2])
    found = curve.estimate([generator.random(4000)], gains)
    assert found.low.apgr < 0.5 < found.high.apgr
    assert 0.03 < found.high.apgr - found.low.apgr < 0.15


def test_runs_are_averaged_in_their_figures_and_not_in_their_scores() -> None:
    """The mean of both scores orders the questions perfectly; each alone does not."""
    runs = [numpy.array([9.0, 1.0, 2.0, 0.0]), numpy.array([1.0, 9.0, 0.0, 2.0])]
    assert curve.figures(runs[0] + runs[1], GAINS).apgr == pytest.approx(0.75)
    alone = [curve.figures(run, GAINS).apgr for run in runs]
    assert curve.estimate(runs, GAINS).value.apgr == pytest.approx(sum(alone) / 2)
    assert max(alone) < 0.75


def test_without_a_gap_there_is_a_lift_and_no_other_figure() -> None:
    """One of four is gained and two are lost; the better half gains one of four, at any resample something."""
    found = curve.estimate([numpy.array([4.0, 3.0, 2.0, 1.0])], numpy.array([1.0, 0.0, -1.0, -1.0]))
    assert numpy.isnan(found.value[:3]).all()
    assert found.value.lift == 0.25
    assert found.low.lift <= 0.25 <= found.high.lift


def test_resamples_without_a_gap_leave_an_interval_where_all_questions_have_one() -> None:
    found = curve.estimate([numpy.arange(8.0)], numpy.array([1.0, 0.0, -1.0, 0.0, 1.0, 0.0, 1.0, -1.0]))
    assert not numpy.isnan([*found.value, *found.low, *found.high]).any()


SUBJECTS = {
    "law": ("court statute plaintiff contract appeal tort counsel judge verdict clause", 0.4, 0.9),
    "biology": ("cell enzyme protein membrane species gene tissue nucleus root leaf", 0.7, 0.72),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two subjects: at one of them the strong model is much better."""
    source, path = numpy.random.default_rng(7), tmp_path_factory.mktemp("routing") / "made.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["source", "subject", "prompt", "weak_correct", "strong_correct"])
        for index in range(1200):
            subject = list(SUBJECTS)[index % 2]
            words, weak, strong = SUBJECTS[subject]
            text = f"Case {index}: which {' '.join(source.choice(words.split(), 5))}?\nA. x\nB. y\nC. z\nAnswer:"
            right = int(source.random() < weak), int(source.random() < strong)
            writer.writerow(["mmlu" if index % 10 else "gsm8k", subject, text, *right])
    return path


@pytest.fixture(scope="module")
def questions(made: Path) -> list[Question]:
    return read(made)


def test_questions_come_by_their_hash_whatever_the_order_of_the_file(made: Path, questions: list[Question]) -> None:
    assert [one.hash for one in questions] == sorted(zlib.crc32(one.text.encode()) for one in questions)
    assert len(questions) == 1200
    assert {one.fold for one in questions} == set(range(5))
    assert fingerprint(made).startswith("made.csv sha256:")


def gap(questions: list[Question], scores: list[float]) -> float:
    """How much higher the questions score at which the strong model is much better."""
    law = [score for one, score in zip(questions, scores, strict=True) if one.subject == "law"]
    others = [score for one, score in zip(questions, scores, strict=True) if one.subject != "law"]
    return sum(law) / len(law) - sum(others) / len(others)


def test_training_finds_where_the_strong_model_is_needed(questions: list[Question]) -> None:
    held_out, others = [q for q in questions if q.fold == 0], [q for q in questions if q.fold]
    weights = train(others)
    found = Learner(weights).gains(held_out, vectors(held_out, weights)).tolist()
    assert gap(held_out, found) > 0.25
    assert weights.weak_quality < weights.strong_quality


def test_feedback_alone_finds_it_too_and_both_models_are_asked(questions: list[Question]) -> None:
    held_out, others = [q for q in questions if q.fold == 0], [q for q in questions if q.fold]
    weights = untrained(others)
    learner = Learner(weights, seed=1)
    before = learner.gains(held_out, vectors(held_out, weights))
    assert before.max() - before.min() < 1e-3
    asked = [learner.feed(one, vector) for one, vector in zip(others, vectors(others, weights), strict=True)]
    after = learner.gains(held_out, vectors(held_out, weights)).tolist()
    assert gap(held_out, after) > 0.15
    assert 0.3 < asked.count(STRONG) / len(asked) < 0.7
    assert set(asked) == {WEAK, STRONG}


def test_only_the_chosen_models_outcome_is_learned(questions: list[Question]) -> None:
    weights = untrained(questions)
    learner = Learner(weights)
    for one, vector in zip(questions[:100], vectors(questions[:100], weights), strict=True):
        learner.feed(one, vector)
    weight = [known.sums.weight for known in learner.learning.models.values()]
    assert sum(weight) == 100


def test_the_table_has_every_router_with_its_intervals(questions: list[Question]) -> None:
    found = table.measured(questions, seen=True)
    text = table.markdown(found)
    named = {row.name: row.estimates for row in found.rows}
    for name in ("random", "length of the prompt", "ours: cold start, cross-validated", "ours: from topics only, 500"):
        assert name in named
        assert name in text
    assert len({line.count("|") for line in text.splitlines()}) == 1
    cold, oracle = named["ours: cold start, cross-validated"][0], named["oracle: each question"][0]
    assert 0.6 < cold.value.apgr < oracle.value.apgr
    assert cold.low.apgr < cold.value.apgr < cold.high.apgr


def test_a_file_that_is_not_the_weights_own_starts_from_the_shipped_ones(questions: list[Question]) -> None:
    names = [row.name for row in table.measured(questions[:400], seen=False).rows]
    assert "ours: cold start, shipped weights" in names
    assert not any("cross-validated" in name for name in names)


Change = Callable[[int, dict[str, str]], dict[str, str]]

FILES: dict[str, tuple[int, Change]] = {
    "another source": (300, lambda index, row: row | {"source": "arc"}),
    "many sources": (300, lambda index, row: row | {"source": f"source {index % 3}"}),
    "no source and no subject": (300, lambda index, row: {key: row[key] for key in row if "_" in key or key[0] == "p"}),
    "one subject": (200, lambda index, row: row | {"subject": "law"}),
    "a long prompt": (200, lambda index, row: row | {"prompt": row["prompt"] + " x" * (80_000 if index == 5 else 0)}),
    "shares": (200, lambda index, row: row | {"weak_correct": "0.5"}),
    "models as good as each other": (200, lambda index, row: row | {"strong_correct": row["weak_correct"]}),
    "a weak model that is better": (200, lambda index, row: row | {"strong_correct": "0", "weak_correct": "1"}),
    "other models": (
        300,
        lambda index, row: {
            "prompt": row["prompt"],
            "large_correct": row["strong_correct"],
            "middle_correct": row["weak_correct"],
            "small_correct": "0",
        },
    ),
    "seven questions": (7, lambda index, row: row),
    "one question": (1, lambda index, row: row),
}


def changed(made: Path, path: Path, count: int, change: Change) -> Path:
    with made.open(newline="") as source:
        rows = [change(index, row) for index, row in zip(range(count), csv.DictReader(source), strict=False)]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize("name", FILES)
@pytest.mark.filterwarnings("error")
def test_any_file_of_the_form_gives_a_whole_table(
    name: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "RUNS", 1)
    found = table.measured(read(changed(made, tmp_path / "other.csv", *FILES[name])), seen=False)
    text = table.markdown(found)
    assert "nan" not in text
    named = {row.name: row.estimates for row in found.rows}
    assert {"random", "ours: cold start, shipped weights", "oracle: each question"} <= named.keys()
    assert "ours: shipped weights, 100" in named or FILES[name][0] < 100
    for index, (_, weak, strong) in enumerate(found.sources):
        assert named["oracle: each question"][index].value.lift >= (strong - weak) / 2.0 - 1e-9
        assert (strong <= weak) == bool(numpy.isnan(named["random"][index].value.apgr))


def test_sources_come_from_the_file_and_all_of_them_together_last(made: Path, tmp_path: Path) -> None:
    found = read(changed(made, tmp_path / "many.csv", *FILES["many sources"]))
    sources = table.measured(found[:60], seen=False).sources
    assert {one.source for one in sources[:-1]} == {"source 0", "source 1", "source 2"}
    assert sources[-1].source == "all"
    weak = [one.weak for one in found[:60]]
    assert sources[-1].weak == pytest.approx(sum(weak) / 60)


def test_of_models_with_other_names_the_best_and_the_worst_are_compared(made: Path, tmp_path: Path) -> None:
    found = read(changed(made, tmp_path / "other.csv", *FILES["other models"]))
    assert {one.weak for one in found} == {0.0}
    assert 0.5 < sum(one.strong for one in found) / len(found) < 1.0


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("prompt,a_correct\nwhy?,1\n", "two or more"),
        ("question,a_correct,b_correct\nwhy?,1,0\n", "prompt"),
        ("prompt,a_correct,b_correct\nwhy?,1,0\nwho?,yes,0\n", "question 2: a_correct is 'yes'"),
        ("prompt,a_correct,b_correct\nwhy?,1,7\n", "b_correct is '7'"),
        ("prompt,a_correct,b_correct\n", "no questions"),
    ],
)
def test_a_file_of_another_form_is_refused_with_what_is_wrong(tmp_path: Path, text: str, wrong: str) -> None:
    path = tmp_path / "other.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=wrong):
        read(path)


def test_the_shipped_weights_say_what_they_were_made_from() -> None:
    assert SHIPPED.source.startswith("outcomes.csv sha256:")
    assert SHIPPED.rows == 7661


def test_in_a_world_that_changes_learning_loses_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "STEPS", 1500)
    lost = {name: sum(drift.regrets(one)) for name, one in drift.strategies(1).items()}
    assert min(lost, key=lambda name: lost[name]).startswith("ours")
    assert lost["ours"] < lost["round-robin"] / 2
    assert all(value >= 0 for value in lost.values())


def test_the_world_changes() -> None:
    begin, middle, late = drift.world(0), drift.world(drift.STEPS // 2), drift.world(drift.STEPS - 1)
    assert begin["b/middle"].price < middle["b/middle"].price
    assert begin["b/coder"].quality > middle["b/coder"].quality
    assert set(late) - set(begin) == {"d/new"}
    assert drift.course([0.0] * 12 + [1.0] * 12, width=2) == "▁█"


def test_the_cost_of_a_decision_is_printed() -> None:
    text = speed.report()
    assert "predict, score and order 50 candidates" in text
    assert "the whole decision, a usual prompt, 50 candidates" in text
    assert "whole state" in text


def test_the_changing_world_is_told_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = {"ours": [[0.0] * 6000, [0.002] * 6000], "other": [[0.1] * 6000, [0.1] * 6000]}
    told = drift.report(runs)
    assert "| ours | 1.0 ± 1.0 | 1.0 ± 1.0 |" in told
    assert "| other | 100.0 ± 0.0 |" in told
    drawn = plot.regrets(runs, tmp_path / "deep" / "drift.html").read_text()
    assert all(word in drawn for word in ("a provider degrades", '"ours"', "plotly"))
    assert "<script src=" not in drawn


async def test_what_routing_adds_from_end_to_end_is_measured() -> None:
    told = await overhead.report(rounds=3)
    assert "`auto`, 50 candidates" in told
    assert "a model by its name" in told
