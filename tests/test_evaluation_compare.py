"""Comparing runs: paired over tracks, agreeing with exact values, refusing what cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from musicgenre.cli import app
from musicgenre.errors import RunError, UsageError
from musicgenre.evaluation.compare import compare
from musicgenre.evaluation.paired_tests import mcnemar, sign_flips
from musicgenre.evaluation.study import Study, evaluate_study
from musicgenre.runs.predictions import write_predictions
from tests.make_run import make_group, make_predictions, make_run, random_answers
from tests.tag_run import make_tag_predictions, make_tag_run


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
    assert result.exit_code == 0 and "2 tests at once" in result.output and "+0.300" in result.output
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
