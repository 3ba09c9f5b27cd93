"""Comparing runs: paired over tracks, agreeing with exact values, refusing what cannot be compared."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from musicgenre.cli import app
from musicgenre.errors import RunError, UsageError
from musicgenre.evaluation.compare import LabelComparison, compare
from musicgenre.evaluation.evaluate import evaluate
from musicgenre.evaluation.metrics import macro_f1, p_in_words
from musicgenre.evaluation.paired_tests import areas_test, macro_f1_test, mcnemar, sign_flips
from musicgenre.evaluation.ranking import rank
from musicgenre.evaluation.study import Study, evaluate_study
from musicgenre.runs.predictions import Predictions, write_predictions
from musicgenre.search.study import SearchFacts, winner_of
from tests.make_run import make_group, make_predictions, make_run, random_answers
from tests.tag_run import make_tag_predictions, make_tag_run

LETTERS = tuple("abcdefghij")


def _all(right: int, n: int) -> dict[str, tuple[str, list[str]]]:
    return {f"t{k}": ("pop", ["pop" if k < right else "jazz"]) for k in range(n)}


def test_mcnemar_by_hand() -> None:
    differences = np.array([1.0] * 8 + [-1.0] * 2 + [0.0] * 90)
    assert mcnemar(differences) == pytest.approx(2 * (1 + 10 + 45) / 2**10)
    assert mcnemar(np.zeros(5)) == 1.0
    assert mcnemar(np.array([1.0, -1.0])) == 1.0


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=40))
def test_mcnemar_is_symmetric_and_a_probability(values: list[float]) -> None:
    differences = np.array(values)
    assert mcnemar(differences) == mcnemar(-differences)
    assert 0.0 < mcnemar(differences) <= 1.0


def test_sign_flips_agree_with_mcnemar() -> None:
    differences = np.array([1.0] * 12 + [-1.0] * 4 + [0.0] * 20)
    assert sign_flips(differences) == pytest.approx(mcnemar(differences), abs=0.01)


def test_a_clear_difference(tmp_path: Path) -> None:
    first = make_run(tmp_path / "worse", _all(50, 100))
    second = make_run(tmp_path / "better", _all(80, 100))
    found = compare(first, second)
    assert found.difference == pytest.approx(0.3) and found.low > 0.15 and found.high < 0.45
    assert found.p_value < 1e-6 and found.test == "McNemar, exact"
    assert (found.only_first, found.only_second) == (0, 30)
    assert "the two differ" in found.to_text() and "protocol track" in found.to_text()
    back = compare(second, first)
    assert (back.difference, back.p_value) == (pytest.approx(-0.3), found.p_value)


def test_the_same_run_does_not_differ(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", random_answers(1))
    found = compare(run, run)
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)
    assert "no difference" in found.to_text() and "the same on every track" in found.to_text()
    assert "interval" not in found.to_text(), "none without a width"


def test_several_seeds(tmp_path: Path) -> None:
    def group(name: str, right: float, start: int) -> Path:
        children = {f"s{s}": {"test": random_answers(start + s, right=right), "seed": s} for s in range(3)}
        return make_group(tmp_path / name, children)

    found = compare(group("worse", 0.1, 0), group("better", 0.9, 10))
    assert found.n_seeds == (3, 3) and found.test == "sign flips over tracks"
    assert found.low > 0 and found.p_value < 0.001
    assert found.as_dict()["n_tracks"] == 60


def test_only_shared_tracks_count(tmp_path: Path) -> None:
    found = compare(make_run(tmp_path / "a", _all(5, 10)), make_run(tmp_path / "b", _all(5, 6)))
    assert found.n_tracks == 6 and "only 6 tracks are shared" in found.warnings[0]


def test_leaky_runs_are_flagged(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, _all(3, 6), protocol="segment-leaky") for name in "ab"]
    assert "LEAKY" in compare(*runs).to_text()


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", _all(5, 10))
    with pytest.raises(RunError, match="different protocols: track against artist"):
        compare(run, make_run(tmp_path / "b", _all(5, 10), protocol="artist"))
    with pytest.raises(RunError, match="different labels"):
        compare(run, make_run(tmp_path / "c", _all(5, 10), labels=("jazz", "pop")))
    with pytest.raises(RunError, match="share no test track"):
        compare(run, make_run(tmp_path / "d", {"other": ("pop", ["pop"])}))
    with pytest.raises(RunError, match="'t0' has different labels"):
        compare(run, make_run(tmp_path / "e", {"t0": ("jazz", ["pop"])}))


def test_a_folder_of_runs_is_told_with_the_runs_in_it(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs" / "one", {"t0": ("pop", ["pop"])})
    with pytest.raises(RunError, match=r"is no run folder.*runs.one"):
        compare(run, tmp_path / "runs")


def result_lines(study: Study) -> list[str]:
    """The table of a study, without what stands above and below it."""
    lines = study.to_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.strip().startswith("variant"))
    return lines[start : start + 1 + len(study.variants)]


def test_a_study_holds_every_variant_against_the_first(tmp_path: Path) -> None:
    make_run(tmp_path / "none", _all(50, 100), recipe="study.none")
    make_run(tmp_path / "noise", _all(80, 100), recipe="study.noise")
    make_run(tmp_path / "shift", _all(51, 100), recipe="study.shift")
    listing = {"format_version": 1, "recipe": "study", "children": ["none", "noise", "shift"]}
    (tmp_path / "study.json").write_text(json.dumps(listing), encoding="utf-8")
    study = evaluate_study(tmp_path)
    assert study.variants == ("none", "noise", "shift")
    assert [round(found.difference, 2) for found in study.differences] == [0.3, 0.01]
    result = CliRunner().invoke(app, ["evaluate", str(tmp_path)])
    assert result.exit_code == 0 and "p corrected for 2 tests (Holm)" in result.output and "+0.300" in result.output
    ranked = rank([tmp_path / name for name in study.variants])  # what the study's page shows
    for row in ranked.rows:
        if row.corrected_p_value is not None:
            assert p_in_words(row.corrected_p_value) in study.to_text().split(f"  {row.name} ")[1].splitlines()[0]
    result = CliRunner().invoke(app, ["evaluate", str(tmp_path), "--format", "json"])
    assert set(json.loads(result.output)["variants"]) == set(study.variants)
    heading, *rows = result_lines(study)
    assert {row.index("[") for row in rows} == {heading.index("track-level accuracy") + len("0.500 ")}
    with pytest.raises(RunError, match="holds a study"):
        compare(tmp_path, tmp_path)
    with pytest.raises(RunError, match="no study"):
        evaluate_study(tmp_path / "none")


def _study(folder: Path) -> Path:
    listing = {"format_version": 1, "recipe": "study", "children": ["one", "other"]}
    (folder / "study.json").write_text(json.dumps(listing), encoding="utf-8")
    return folder


def test_what_is_told_of_the_validation_part_of_labels_is_measured_there(tmp_path: Path) -> None:
    """The two differ in the test part and nowhere else: whoever looks at validation must not see it."""
    for name, right in (("one", 10), ("other", 90)):
        make_run(tmp_path / name, _all(right, 100), recipe=f"study.{name}")
        write_predictions(make_predictions(random_answers(1)), tmp_path / name / "predictions_validation.csv")
    _study(tmp_path)

    (tested,) = evaluate_study(tmp_path).differences
    assert tested.difference == pytest.approx(0.8) and "test part" in tested.to_text()  # type: ignore[attr-defined]
    (validated,) = evaluate_study(tmp_path, part="validation").differences
    assert (validated.difference, validated.n_tracks, validated.part) == (0.0, 60, "validation")  # type: ignore[attr-defined]
    assert "validation part" in validated.to_text() and "100 tracks" not in validated.to_text()

    (tmp_path / "one" / "predictions_test.csv").unlink()
    assert evaluate_study(tmp_path, part="validation").differences == (validated,), "it reads nothing of the test part"
    shown = CliRunner().invoke(app, ["evaluate", str(tmp_path), "--part", "validation"]).output
    assert "+0.000" in shown and "+0.800" not in shown
    with pytest.raises(UsageError, match="no part 'train'"):
        compare(tmp_path / "one", tmp_path / "other", part="train")


def test_what_is_told_of_the_validation_part_of_tags_is_measured_there(tmp_path: Path) -> None:
    for name, skill in (("one", 0.0), ("other", 4.0)):
        make_tag_run(tmp_path / name, skill=skill)
        same = make_tag_predictions(5, prefix="val")
        write_predictions(same, tmp_path / name / "predictions_validation.csv")
    _study(tmp_path)

    (tested,) = evaluate_study(tmp_path).differences
    assert tested.differences[0].difference.value > 0.2  # type: ignore[attr-defined]
    (validated,) = evaluate_study(tmp_path, part="validation").differences
    assert [found.difference.value for found in validated.differences] == [0.0, 0.0]  # type: ignore[attr-defined]
    (tmp_path / "one" / "predictions_test.csv").unlink()
    assert evaluate_study(tmp_path, part="validation").differences == (validated,)


def test_a_track_in_the_validation_parts_of_two_folds_answers_twice_and_never_together(tmp_path: Path) -> None:
    def group(name: str, right: int) -> Path:
        children = {f"fold-{fold}": {"test": _all(right - fold, 20), "fold": fold} for fold in (0, 1)}
        return make_group(tmp_path / name, children)

    found = compare(group("one", 6), group("other", 10), part="validation")
    assert (found.n_tracks, found.test) == (20, "sign flips over tracks")  # type: ignore[attr-defined]
    assert found.difference == pytest.approx(4 / 20)  # type: ignore[attr-defined]

    for name, skill in (("weak", 0.0), ("strong", 4.0)):
        for fold in (0, 1):
            make_tag_run(tmp_path / name / f"fold-{fold}", seed=0, skill=skill, fold=fold)
        group_file = {"format_version": 1, "children": ["fold-0", "fold-1"]}
        (tmp_path / name / "group.json").write_text(json.dumps(group_file), encoding="utf-8")
    tags = compare(tmp_path / "weak", tmp_path / "strong", part="validation")
    assert tags.n_tracks == 120 and tags.differences[0].difference.low > 0  # type: ignore[attr-defined]


def _answers_of(random: np.random.Generator, n_tracks: int, n_labels: int, right: float) -> Predictions:
    """Answers that are right with a probability, and else any label."""
    truth = np.arange(n_tracks) % n_labels
    said = np.where(random.random(n_tracks) < right, truth, random.integers(0, n_labels, n_tracks))
    names = tuple(map(str, range(n_tracks)))
    return Predictions(LETTERS[:n_labels], names, np.zeros(n_tracks), truth, np.eye(n_labels)[said])


def test_of_models_that_are_equally_good_no_more_than_one_in_twenty_is_called_another_on_19_tracks() -> None:
    """Twice the smaller share of a bootstrap's draws on either side of no difference did so far too often here."""
    random = np.random.default_rng(3)
    n_rounds, n_called = 300, 0
    for _ in range(n_rounds):
        first, second = (_answers_of(random, 19, 10, 0.7) for _ in range(2))
        n_called += macro_f1_test([first], [second], first.track_ids) < 0.05
    assert 0.01 < n_called / n_rounds < 0.07, "within chance of 0.05, and not blind either"


def test_the_test_of_macro_f1_tries_every_exchange_where_these_are_few() -> None:
    random = np.random.default_rng(4)
    seeds = [[_answers_of(random, 8, 3, right) for _ in range(n)] for right, n in ((0.3, 1), (0.9, 2))]
    order = [2, 0, 1]  # the labels of a run stand in an order of its own
    moved = seeds[1][1]
    labels = tuple(moved.labels[place] for place in order)
    truth = np.array([order.index(int(label)) for label in moved.truth])
    turned = Predictions(labels, moved.track_ids, moved.starts_s, truth, moved.scores[:, order])

    def difference(way: tuple[bool, ...]) -> float:
        chosen = np.array(way)
        total = 0.0
        for second in seeds[1]:
            first = seeds[0][0]
            one = np.where(chosen, second.predicted, first.predicted)
            other = np.where(chosen, first.predicted, second.predicted)
            said = (macro_f1(first.truth, rows, 3, np.ones((1, 8)))[0] for rows in (other, one))
            total += next(said) - next(said)
        return total / 2

    every_way = list(itertools.product([False, True], repeat=8))
    observed = abs(difference((False,) * 8))
    expected = np.mean([abs(difference(way)) >= observed - 1e-9 for way in every_way])
    tracks = moved.track_ids
    assert macro_f1_test(seeds[0], [seeds[1][0], turned], tracks) == pytest.approx(expected)
    assert macro_f1_test([seeds[1][0], turned], seeds[0], tracks) == pytest.approx(expected)
    assert macro_f1_test(seeds[0], seeds[0], tracks) == 1.0


def test_the_test_of_areas_asks_for_ranks_alone_and_holds_its_level_on_few_tracks() -> None:
    random = np.random.default_rng(5)
    presence = (np.arange(12) % 3 == 0).astype(float)[:, None]
    n_called = np.zeros(2)
    for _ in range(30):
        first, second = (presence + random.normal(size=(12, 1)) for _ in range(2))
        p_values = areas_test(presence, [first], [second])
        n_called += np.array(p_values) < 0.05
    assert (n_called / 30 < 0.14).all()
    assert areas_test(presence, [first], [np.exp(second)]) == areas_test(presence, [first], [second])
    many = np.tile(presence, (3, 1)) + random.normal(scale=0.1, size=(36, 1))
    assert max(areas_test(np.tile(presence, (3, 1)), [many], [-many])) < 0.01


def test_where_p_and_a_narrow_interval_disagree_p_decides(tmp_path: Path) -> None:
    """Five tracks right by the second alone: every draw has some of them, and one exchange in 16 is as extreme."""
    answers = {f"t{k}": ("pop", ["jazz" if k < 5 else "pop"]) for k in range(19)}
    better = {f"t{k}": ("pop", ["pop"]) for k in range(19)}
    found = compare(make_run(tmp_path / "one", answers), make_run(tmp_path / "other", better))
    assert isinstance(found, LabelComparison) and found.low > 0 and found.p_value == pytest.approx(1 / 16)
    assert found.macro_f1.difference.low > 0 and found.macro_f1.p_value == pytest.approx(1 / 16)
    text = found.to_text()
    assert "the two differ" not in text and text.count("p decides") == 2


def test_a_search_is_compared_by_its_winner_and_named_by_itself(tmp_path: Path) -> None:
    runs = []
    for name, right in (("svm", 50), ("forest", 80)):
        make_group(tmp_path / name / "winner-0003", {"seed-0": {"test": _all(right, 100)}})
        facts = dict.fromkeys(SearchFacts.__slots__, "") | {"winner": {"trial": 3, "test": "0.5"}}
        (tmp_path / name / "search.json").write_text(json.dumps({"format_version": 1, **facts}), encoding="utf-8")
        runs.append(tmp_path / name)

    told = CliRunner().invoke(app, ["compare", *map(str, runs)])
    assert told.exit_code == 0 and "forest/winner-0003 against svm/winner-0003" in told.output
    told = CliRunner().invoke(app, ["compare", *map(str, [*runs, runs[0] / "winner-0003" / "seed-0"])])
    assert "svm/winner-0003/seed-0" in told.output and "forest/winner-0003" in told.output
    assert evaluate(runs[0] / "winner-0003").name == "svm/winner-0003"

    with pytest.raises(RunError, match=r"holds a search.*winner-0003, its winner"):
        compare(runs[0], runs[1])
    (tmp_path / "svm" / "search.json").write_text(json.dumps({"format_version": 1, **facts, "winner": {}}))
    with pytest.raises(RunError, match="no runs of a winner: it has not ended"):
        winner_of(tmp_path / "svm")
