"""Ensembles: mixing, what they refuse, and that the result is a run like any other."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

from musicgenre.cli import app
from musicgenre.data.manifest import Manifest, read_manifest, write_manifest
from musicgenre.errors import DataError, RunError, UsageError
from musicgenre.evaluation.compare import compare
from musicgenre.evaluation.ensemble import ensemble
from musicgenre.evaluation.evaluate import evaluate
from musicgenre.evaluation.html import render_html
from musicgenre.evaluation.members import fitted_mixture, mixture_weights, stacked
from musicgenre.features.representations.table import COLUMNS
from musicgenre.models.pooling import SMALLEST, evidence, mixture_from_settings, stacking_floor
from musicgenre.runs.folder import open_run
from musicgenre.runs.predictions import read_predictions, write_predictions
from musicgenre.training.train import train
from tests.cli import run as run_command
from tests.labelled_music import LABELS, make_table
from tests.make_run import make_group, make_predictions, make_run, pair, random_answers

QUICK = ["protocol.options={test_size: 0.34, validation_size: 0.25}", "data.labels=[]"]


def test_weights_are_those_of_the_most_likely_mixture() -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 3, 400)
    good = np.where(np.eye(3)[truth] > 0, 0.8, 0.1)
    noise = rng.dirichlet(np.ones(3), 400)
    members = np.stack([good, noise])
    weights = mixture_weights(members, truth)
    assert weights.sum() == pytest.approx(1.0) and weights[0] > 0.9
    own = members[:, np.arange(400), truth]
    likelihoods = [np.log(share * own[0] + (1 - share) * own[1]).sum() for share in np.linspace(0, 1, 101)]
    found = np.log(weights @ own).sum()
    assert found >= max(likelihoods) - 1e-3


def test_weights_do_not_depend_on_the_order() -> None:
    rng = np.random.default_rng(4)
    members, truth = rng.dirichlet(np.ones(3), (3, 60)), rng.integers(0, 3, 60)
    assert np.allclose(mixture_weights(members, truth)[::-1], mixture_weights(members[::-1], truth), atol=1e-6)


@pytest.mark.parametrize("n_labels", [2, 3])
def test_stacking_learns_that_a_model_is_always_wrong(n_labels: int) -> None:
    rng = np.random.default_rng(5)
    truth = rng.integers(0, n_labels, 90)
    turned = np.where(np.eye(n_labels)[(truth + 1) % n_labels] > 0, 0.9, 0.1 / (n_labels - 1))[None]
    labels = ["a", "b", "c"][:n_labels]
    mixture, unseen = fitted_mixture("stacking", turned, truth, labels)
    probabilities = mixture(turned)
    assert (probabilities.argmax(axis=1) == truth).all() and np.allclose(probabilities.sum(axis=1), 1.0)
    assert (unseen.argmax(axis=1) == truth).all()
    with pytest.raises(RunError, match=r"no validation track has the label a.*--how mean"):
        fitted_mixture("stacking", turned[:, truth > 0], truth[truth > 0], labels)


@pytest.mark.parametrize("n_labels", [2, 4])
def test_stacking_is_the_regression_of_scikit_learn_around_the_mean_of_the_models(n_labels: int) -> None:
    """Without a penalty the mean does not matter; under a strong one nothing else does."""
    rng = np.random.default_rng(6)
    truth, members = rng.integers(0, n_labels, 80), rng.dirichlet(np.ones(n_labels), (2, 80))
    features = evidence(members, stacking_floor(n_labels))
    expected = LogisticRegression(C=1e6, max_iter=20_000, tol=1e-8).fit(features, truth).predict_proba(features)
    assert np.allclose(stacked(members, truth, 1e6)(members), expected, atol=0.01)

    logs = features.reshape(80, 2, n_labels).mean(axis=1)
    mean = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
    assert np.allclose(stacked(members, truth, 1e-9)(members), mean, atol=1e-5)


def test_the_penalty_of_stacking_is_chosen_where_it_was_not_fitted() -> None:
    rng = np.random.default_rng(7)
    truth = np.arange(60) % 3
    turned = np.where(np.eye(3)[(truth + 1) % 3] > 0, 0.8, 0.1)
    noise = rng.dirichlet(np.ones(3) * 5, (4, 60))
    loose, _ = fitted_mixture("stacking", np.stack([turned]), truth, "abc")
    tight, _ = fitted_mixture("stacking", noise, truth, "abc")
    mean = np.hstack([np.eye(3) / 4] * 4)
    assert np.abs(loose.settings()["coefficients"] - np.eye(3)).max() > 0.5
    assert np.abs(tight.settings()["coefficients"] - mean).max() < 0.2, "noise is not learnt by heart"


def test_an_artist_is_never_on_both_sides_when_a_mixture_is_tried() -> None:
    """Four artists a label, each of whose tracks the models call alike: known artists are no measure of new ones."""
    rng = np.random.default_rng(9)
    truth, artist = np.repeat(np.arange(3), 40), np.repeat(np.arange(12), 10)
    said = rng.dirichlet(np.ones(3), (2, 12))[:, artist] * 0.98 + rng.dirichlet(np.ones(3), (2, 120)) * 0.02
    _, apart = fitted_mixture("stacking", said, truth, "abc", [f"artist {number}" for number in artist])
    _, together = fitted_mixture("stacking", said, truth, "abc")
    right = [float((answers.argmax(axis=1) == truth).mean()) for answers in (apart, together)]
    assert right[1] > right[0] + 0.1


def test_a_share_of_nothing_does_not_outweigh_a_model_that_knows() -> None:
    """A forest's trees never named the true label of some tracks: its zeros must not decide alone."""
    rng = np.random.default_rng(8)
    truth = rng.integers(0, 5, 150)
    forest = rng.multinomial(20, np.full(5, 0.2), 150) / 20 * 0.5 + np.eye(5)[truth] * 0.5
    forest[::10] = np.eye(5)[(truth[::10] + 1) % 5]  # all trees are wrong, and sure of it
    knows = 0.9 * np.eye(5)[truth] + 0.02
    mixture, unseen = fitted_mixture("stacking", np.stack([forest, knows]), truth, "abcde")
    assert (unseen.argmax(axis=1) == truth).mean() >= 0.95
    one = mixture(np.stack([np.eye(5)[[1]], np.array([[0.92, 0.02, 0.02, 0.02, 0.02]])]))
    assert one.argmax() == 0
    with pytest.raises(DataError, match="floor 2"):
        mixture_from_settings({**mixture.settings(), "floor": 2}, 2, 5)
    before = {name: value for name, value in mixture.settings().items() if name != "floor"}
    assert mixture_from_settings(before, 2, 5).floor == SMALLEST, "ensembles made before answer as they did"  # type: ignore[attr-defined]


def test_an_ensemble_that_is_worse_than_a_member_says_so(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one", random_answers(1, right=0.95), recipe="good")
    other = make_run(tmp_path / "other", random_answers(2, right=0.0), recipe="bad", parameters=None)
    shy, sure = (
        make_predictions(random_answers(s, right=r), confidence=c) for s, r, c in ((1, 0.95, 0.4), (2, 0.0, 0.98))
    )
    write_predictions(shy, one / "predictions_validation.csv")
    write_predictions(sure, other / "predictions_validation.csv")
    made = ensemble([one, other], tmp_path / "both")
    assert re.search(
        r"WORSE THAN A MEMBER: of 60 validation tracks mean names \d+ rightly .*, and good alone", made.warnings[0]
    )
    assert made.warnings[0] in evaluate(tmp_path / "both").warnings
    said = run_command("ensemble", one, other, "--output", tmp_path / "again").stderr.decode()
    assert said.count("WORSE THAN A MEMBER") == 1
    weighted = ensemble([one, other], tmp_path / "weighted", mixture="weighted")
    assert not any("WORSE" in warning for warning in weighted.warnings)


def test_a_mean_is_a_run_like_any_other(tmp_path: Path) -> None:
    one, other = pair(tmp_path)
    made = ensemble([one, other], tmp_path / "both", command="musicgenre ensemble one other")
    assert made.members == ("first", "second") and made.weights == ((0.5, 0.5),) and made.warnings == ()
    run = open_run(tmp_path / "both")
    assert (run.recipe, run.systems, run.parameter_count) == ("ensemble-mean", ("A8",), 2468)
    expected = (read_predictions(one / "predictions_test.csv").by_track().scores
                + read_predictions(other / "predictions_test.csv").by_track().scores) / 2  # fmt: skip
    assert np.allclose(run.predictions().scores, expected, atol=1e-7)
    report = evaluate(tmp_path / "both")
    assert (report.n_tracks, report.n_segments) == (60, 60) and not report.leaky
    assert report.members == ("first (weight 0.50)", "second (weight 0.50)")
    assert "members                 first (weight 0.50), second" in report.to_text()
    assert "<td>first (weight 0.50), second (weight 0.50)</td>" in render_html(report)
    assert evaluate(one).members == () and "members" not in evaluate(one).to_text()
    assert compare(one, tmp_path / "both").n_tracks == 60
    members = json.loads((tmp_path / "both" / "run.json").read_text(encoding="utf-8"))["ensemble"]["members"]
    assert [member["folder"] for member in members] == ["../one", "../other"]
    again = ensemble([tmp_path / "both", make_run(tmp_path / "third", random_answers(3))], tmp_path / "nested")
    assert evaluate(again.folder).n_tracks == 60


def test_labels_and_tracks_may_stand_in_another_order(tmp_path: Path) -> None:
    answers = random_answers(1)
    one = make_run(tmp_path / "one", answers)
    turned = dict(reversed(answers.items()))
    other = make_run(tmp_path / "other", turned, labels=("pop", "blues", "jazz"))
    ensemble([one, other], tmp_path / "both")
    mixed, alone = (read_predictions(path / "predictions_test.csv").by_track() for path in (tmp_path / "both", one))
    assert mixed.labels == alone.labels and mixed.track_ids == alone.track_ids
    assert np.allclose(mixed.scores, alone.scores, atol=1e-7)


def test_groups_meet_fold_by_fold(tmp_path: Path) -> None:
    tracks = list(random_answers(1))

    def answers(seed: int, fold: int) -> dict[str, tuple[str, list[str]]]:
        return {track: said for track, said in random_answers(seed).items() if tracks.index(track) % 2 == fold}

    def group(name: str, start: int, seeds: tuple[int, ...] = (0, 1)) -> Path:
        children = {
            f"seed-{seed}/fold-{fold}": {"test": answers(start + seed, fold), "seed": seed, "fold": fold}
            for seed in seeds
            for fold in (0, 1)
        }
        return make_group(tmp_path / name, children)

    one, other = group("one", 1), group("other", 5)
    made = ensemble([one, other], tmp_path / "both", mixture="weighted")
    assert len(made.weights) == 4 and "few to fit weighted on" in made.warnings[0]
    assert "over 4 runs" in made.to_text()
    report = evaluate(tmp_path / "both")
    assert (report.n_tracks, report.n_folds, len(report.seeds)) == (60, 2, 2)
    assert (tmp_path / "both" / "seed-1" / "fold-0" / "run.json").is_file()
    with pytest.raises(RunError, match="different seeds: 0, 1 against 0"):
        ensemble([one, group("less", 7, seeds=(0,))], tmp_path / "no")
    with pytest.raises(RunError, match="different folds: 0, 1 against none"):
        ensemble([one, make_run(tmp_path / "alone", random_answers(1))], tmp_path / "no")


def moved(track: str, split: str) -> Callable[[Path], None]:
    """Put a track that is tested elsewhere into a part of this run."""

    def change(run: Path) -> None:
        manifest = read_manifest(run / "manifest.csv")
        old = next(row for row in manifest.tracks if row.track_id == "train-jazz")
        new = type(old)("copy-of-it", old.path, old.label, split=split, augmented=True, source_id=track)
        write_manifest(Manifest(None, (*manifest.tracks, new)), run / "manifest.csv")

    return change


@pytest.mark.parametrize("split", ["train", "validation"])
def test_leaks_are_refused_by_name(tmp_path: Path, split: str) -> None:
    one, other = pair(tmp_path)
    moved("pop.00005", split)(other)
    with pytest.raises(RunError, match=rf"LEAK: test track 'pop.00005' stands in the {split} part of .*other"):
        ensemble([one, other], tmp_path / "both")
    assert not (tmp_path / "both").exists()


def test_validation_tracks_must_be_unseen_where_something_is_fitted(tmp_path: Path) -> None:
    runs = pair(tmp_path)
    validation = make_predictions({"heard": ("jazz", ["jazz"]), "other": ("pop", ["pop"]), "b": ("blues", ["pop"])})
    for run in runs:
        write_predictions(validation, run / "predictions_validation.csv")
    moved("heard", "train")(runs[1])
    assert ensemble(runs, tmp_path / "mean").weights
    for how in ("weighted", "stacking"):
        with pytest.raises(RunError, match="LEAK: validation track 'heard'"):
            ensemble(runs, tmp_path / "both", mixture=how)  # type: ignore[arg-type]


def test_answers_that_were_fitted_to_are_not_fitted_to_again(tmp_path: Path) -> None:
    one, other = pair(tmp_path)
    ensemble([one, other], tmp_path / "first", mixture="stacking")
    third = make_run(tmp_path / "third", random_answers(3))
    with pytest.raises(RunError, match=r"fitted to its validation tracks: .*--how mean"):
        ensemble([tmp_path / "first", third], tmp_path / "second", mixture="weighted")
    (third / "recipe.yaml").write_text("training:\n  fit_on: train+validation\n", encoding="utf-8")
    with pytest.raises(RunError, match="was fitted to its validation tracks too"):
        ensemble([one, third], tmp_path / "second", mixture="stacking")
    assert ensemble([tmp_path / "first", third], tmp_path / "second").folder.is_dir()


@pytest.mark.parametrize(
    ("recipe", "fitted"),
    [
        ('training: {epochs: 3, "fit_on": "train+validation"}\n', True),
        ("# never with fit_on: train+validation\ntraining:\n  fit_on: train\n", False),
        ("description: 'fit_on: train+validation flatters'\n", False),
        ("training:\n", False),
    ],
)
def test_a_recipe_is_read_and_not_searched(tmp_path: Path, recipe: str, fitted: bool) -> None:
    one, other = pair(tmp_path)
    (other / "recipe.yaml").write_text(recipe, encoding="utf-8")
    if not fitted:
        assert ensemble([one, other], tmp_path / "both", mixture="weighted").folder.is_dir()
        return
    with pytest.raises(RunError, match="was fitted to its validation tracks too"):
        ensemble([one, other], tmp_path / "both", mixture="weighted")


def unfinished(run: Path) -> None:
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    (run / "run.json").write_text(json.dumps({**info, "status": "interrupted"}), encoding="utf-8")


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"labels": ("blues", "jazz", "pop", "rock")}, "different labels"),
        ({"protocol": "artist"}, "different protocols: track against artist"),
        ({"fold": 1}, "different folds: none against 1"),
    ],
)
def test_other_questions_are_refused(tmp_path: Path, second: dict[str, object], message: str) -> None:
    one, other = pair(tmp_path, **second)
    with pytest.raises(RunError, match=message):
        ensemble([one, other], tmp_path / "both")


def test_other_refusals(tmp_path: Path) -> None:
    one, other = pair(tmp_path)
    with pytest.raises(UsageError, match="given twice"):
        ensemble([one, other, tmp_path / "other" / ".." / "one"], tmp_path / "both")
    with pytest.raises(UsageError, match="1 run makes no ensemble"):
        ensemble([one], tmp_path / "both")
    with pytest.raises(UsageError, match="one of mean, weighted, stacking"):
        ensemble([one, other], tmp_path / "both", mixture="median")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not empty"):
        ensemble([one, other], other)
    fewer = make_run(tmp_path / "fewer", random_answers(2, n_tracks=30))
    with pytest.raises(RunError, match=r"'blues.00030' stands in the test part of .*one, not of .*fewer.* 30 differ"):
        ensemble([one, fewer], tmp_path / "both")
    changed = {**random_answers(2), "pop.00005": ("jazz", ["jazz"])}
    with pytest.raises(RunError, match=r"'pop.00005' is pop in .* and jazz in"):
        ensemble([one, make_run(tmp_path / "changed", changed)], tmp_path / "both")
    leaky = [make_run(tmp_path / name, random_answers(1), protocol="segment-leaky") for name in ("a", "b")]
    with pytest.raises(RunError, match="split by segment-leaky"):
        ensemble(leaky, tmp_path / "both")
    (other / "manifest.csv").unlink()
    with pytest.raises(RunError, match=r"other has no manifest.csv"):
        ensemble([one, other], tmp_path / "both")
    unfinished(other)
    with pytest.raises(RunError, match="did not finish"):
        ensemble([one, other], tmp_path / "both")
    assert not (tmp_path / "both").exists()


def test_command_over_trained_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))
    table = make_table(tmp_path / "table.csv", COLUMNS)
    runs = []
    for recipe in ("table-naive-bayes-30s", "table-logistic-regression-30s"):
        runs.append(train(recipe, table, output=tmp_path / recipe, overrides=QUICK))
    output = tmp_path / "both"
    done = run_command("ensemble", *runs, "--output", output, "--how", "stacking", "--name", "two-classics")
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().strip() == str(output)
    assert b"stacking of 2 runs" in done.stderr and b"few to fit stacking on" in done.stderr
    assert (output / "report.html").is_file()
    assert open_run(output).labels == LABELS and open_run(output).recipe == "two-classics"
    assert "--name two-classics" in open_run(output).info["command"]
    monkeypatch.chdir(tmp_path)
    for expected in ("runs/ensemble-mean", "runs/ensemble-mean-2"):
        unnamed = CliRunner().invoke(app, ["ensemble", *map(str, runs)])
        assert unnamed.stdout.strip() == str(Path(expected)) and (tmp_path / expected / "run.json").is_file()
    refused = CliRunner().invoke(app, ["ensemble", str(runs[0]), "--output", str(tmp_path / "no")])
    assert isinstance(refused.exception, UsageError) and "makes no ensemble" in str(refused.exception)


def say(run: Path, **facts: object) -> Path:
    """Change what a run says of itself."""
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    (run / "run.json").write_text(json.dumps({**info, **facts}), encoding="utf-8")
    return run


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("labels", 5),
        ("labels", [1, 2, 3]),
        ("labels", "blues"),
        ("labels", ["pop", "pop"]),
        ("seed", "x"),
        ("seed", float("inf")),
        ("fold", {}),
        ("recipe", None),
        ("parameters", "many"),
        ("systems", 5),
        ("task", 7),
        ("skipped", [{}]),
        ("ensemble", {"how": []}),
    ],
)
def test_a_run_that_says_nonsense_is_refused_by_key(tmp_path: Path, key: str, value: object) -> None:
    one, other = pair(tmp_path)
    with pytest.raises(RunError, match=rf"run.json is damaged: it says {key}=.*Valid"):
        ensemble([one, say(other, **{key: value})], tmp_path / "both")
    assert not (tmp_path / "both").exists()


def test_damaged_files_are_named(tmp_path: Path) -> None:
    one, other = pair(tmp_path)
    (other / "recipe.yaml").write_bytes(b"\xff\xfe\xb8")
    with pytest.raises(RunError, match=r"recipe.yaml is damaged"):
        ensemble([one, other], tmp_path / "both", mixture="weighted")
    (other / "recipe.yaml").write_text("training: [unclosed\n", encoding="utf-8")
    with pytest.raises(RunError, match=r"recipe.yaml is damaged"):
        ensemble([one, other], tmp_path / "both", mixture="weighted")
    (other / "run.json").write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(RunError, match="nested too deeply"):
        ensemble([one, other], tmp_path / "both")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(RunError, match="is no run folder"):
        ensemble([one, tmp_path / "loop"], tmp_path / "both")


@pytest.mark.parametrize("name", ["two\nlines", "a/b", "../up", "a\\b", "..", ".hidden", "/root"])
def test_names_that_would_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a name"):
        ensemble(pair(tmp_path), tmp_path / "both", name=name)
    assert not (tmp_path / "both").exists()


@pytest.mark.parametrize("scores", ["-5,99,1e300", "0.9,0.9,0.9", "-0.5,0.5,1.0"])
def test_scores_that_are_no_probabilities_are_refused(tmp_path: Path, scores: str) -> None:
    one, other = pair(tmp_path)
    path = other / "predictions_test.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[3] = ",".join([*lines[3].split(",")[:3], scores])
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(RunError, match=r"predictions_test.csv, row 4: the scores .* are no probabilities"):
        ensemble([one, other], tmp_path / "both")


@pytest.mark.parametrize(
    ("children", "message"),
    [
        (["."], "the folder itself"),
        (["seed-0", "seed-0"], "names twice"),
        (["../one"], "outside the folder"),
        (["a\0b"], "is no folder"),
        ([None], "is no folder"),
    ],
)
def test_groups_that_name_odd_folders_are_refused(tmp_path: Path, children: list[object], message: str) -> None:
    one, _ = pair(tmp_path)
    group = make_group(tmp_path / "group", {"seed-0": {"test": random_answers(1)}})
    (group / "group.json").write_text(json.dumps({"format_version": 1, "children": children}), encoding="utf-8")
    with pytest.raises(RunError, match=message):
        ensemble([one, group], tmp_path / "both")


def test_an_ensemble_is_whole_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = pair(tmp_path)
    before = sorted(tmp_path.iterdir())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("musicgenre.evaluation.ensemble.write_manifest", full)
        with pytest.raises(OSError, match="No space left"):
            ensemble([one, other], tmp_path / "both")
    assert sorted(tmp_path.iterdir()) == before
    ensemble([one, other], tmp_path / "both")  # the same call again
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "both"])


def test_an_output_that_fills_meanwhile_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = pair(tmp_path)

    def another(*arguments: object) -> None:
        write_manifest(*arguments)  # type: ignore[arg-type]
        (tmp_path / "both").mkdir()
        (tmp_path / "both" / "mine").write_text("kept", encoding="utf-8")

    monkeypatch.setattr("musicgenre.evaluation.ensemble.write_manifest", another)
    with pytest.raises(UsageError, match="cannot be written"):
        ensemble([one, other], tmp_path / "both")
    assert [path.name for path in (tmp_path / "both").iterdir()] == ["mine"]
    assert not list(tmp_path.glob(".both*"))
