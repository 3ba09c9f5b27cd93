"""Taggers end to end: calibrated and exported, and what a person sees of their tags on the screen and in files."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from musicgenre import Classifier
from musicgenre.bundle.card import BundleCard
from musicgenre.bundle.load import load_bundle, read_card
from musicgenre.cli import app
from musicgenre.errors import BundleError, UsageError
from musicgenre.evaluation.calibration import calibrate_tags, fit_scales
from musicgenre.evaluation.metrics import fitted_thresholds
from musicgenre.exporting.export import export_run
from musicgenre.listening.listeners import ClassifierListener
from musicgenre.runs.folder import open_run
from musicgenre.training.train import train
from tests.labelled_music import TAGS, make_tagged
from tests.tag_run import make_tag_predictions, make_tag_run
from tests.toy import RATE_HZ, save_toy, save_toy_ears

pytestmark = pytest.mark.usefixtures("checked_on_short_tracks")

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy(tmp_path_factory.mktemp("model") / "toy.onnx", thresholds=(0.6, 0.9))


@pytest.fixture
def track(tmp_path: Path) -> Path:
    """Two seconds loud, one second quiet: the mean of 'loud' is 0.71, that of 'quiet' 0.29."""
    random = np.random.default_rng(3)
    sound = random.uniform(-1, 1, 3 * RATE_HZ) * np.repeat([0.9, 0.9, 0.02], RATE_HZ)
    soundfile.write(tmp_path / "a.wav", sound, RATE_HZ)
    return tmp_path / "a.wav"


def classify(*words: str | Path, code: int = 0) -> str:
    done = RUNNER.invoke(app, ["classify", *map(str, words)])
    assert done.exit_code == code, done.output
    return done.stdout


def test_tags_above_their_thresholds_are_named(toy: Path, track: Path) -> None:
    answer = Classifier(str(toy)).classify(track)
    assert list(answer.tags) == ["loud", "quiet"] and answer.chosen == ("loud",)
    assert answer.tags["loud"] == pytest.approx(np.mean([s.tags["loud"] for s in answer.timeline]))
    assert (answer.genre, answer.scores, answer.candidates, answer.is_sure) == ("", {}, (), False)
    assert [segment.tags["loud"] > 0.9 for segment in answer.timeline] == [True, True, False]


def test_table_json_and_csv_tell_the_same(toy: Path, track: Path, tmp_path: Path) -> None:
    line = classify(track, "--model", toy, "--format", "table")
    assert "loud" in line and "[quiet" in line and "unsure" not in line
    record = json.loads(classify(track, "--model", toy, "--format", "json", "--timeline", "--top", "0"))
    assert record["chosen"] == ["loud"] and list(record["tags"]) == ["loud"]
    assert record["genre"] is None and record["confidence"] is None and record["scores"] == {}
    assert [set(segment) for segment in record["timeline"]] == [{"start_s", "end_s", "tags"}] * 3
    (row,) = csv.DictReader(io.StringIO(classify(track, "--model", toy, "--format", "csv")))
    assert row["chosen"] == "loud" and "genre" not in row and row["tags"].startswith("loud 0.")
    drawn = classify(track, "--model", toy, "--timeline").splitlines()
    assert [text.split()[0] for text in drawn[1:]] == ["loud", "quiet"]
    failed = classify(tmp_path / "none.wav", "--model", toy, "--format", "json", code=1)
    assert json.loads(failed)["chosen"] == []


def test_results_of_taggers_resume_and_never_mix_with_genres(toy: Path, track: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    classify(track, "--model", toy, "--output", out)
    whole = out.read_bytes()
    classify(track, "--model", toy, "--output", out, "--resume")
    assert out.read_bytes() == whole
    genres = save_toy(tmp_path / "genres.onnx")
    done = RUNNER.invoke(app, ["classify", str(track), "--model", str(genres), "--output", str(out), "--resume"])
    assert isinstance(done.exception, UsageError) and "another kind of model" in str(done.exception)
    assert out.read_bytes() == whole


def test_a_picture_of_tags(toy: Path, track: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    classify(track, "--model", toy, "--plot", tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_an_embedding_bundle_is_a_tagger_without_thresholds(track: Path, tmp_path: Path) -> None:
    ears = save_toy_ears(tmp_path / "ears.onnx")
    answer = Classifier(str(ears)).classify(track)
    assert answer.names_tags and answer.chosen == () and len(answer.tags) == 2
    with pytest.raises(BundleError, match="no classifier"):
        ClassifierListener(load_bundle(ears))


def test_an_absent_published_tagger_names_its_command(
    track: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from musicgenre.bundle import store

    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "empty"))

    def nowhere(*_: object, **__: object) -> list[Path]:
        raise BundleError("the weights are not here", next_step="Look elsewhere")

    monkeypatch.setattr(store, "get_bundles", nowhere)
    with pytest.raises(BundleError, match="musicgenre bundles get mtt-vgg"):
        Classifier("mtt-vgg")


@pytest.mark.parametrize(
    "values",
    [
        {"task": "many"},
        {"thresholds": (0.5,)},
        {"tag_scales": (1.0, "x")},
        {"tag_biases": (1.0, 2.0, 3.0)},
    ],
)
def test_cards_of_taggers_are_checked(tmp_path: Path, values: dict) -> None:
    with pytest.raises(BundleError, match="the card of 'toy'"):
        save_toy(tmp_path / "toy.onnx", **values)


def test_cards_apply_the_calibration_of_every_tag(tmp_path: Path) -> None:
    path = save_toy(tmp_path / "t.onnx", thresholds=(0.5, 0.5), tag_scales=(2.0, 1.0), tag_biases=(0.0, -1.0))
    card = BundleCard.from_json(read_card(path).to_json(), "t.onnx")
    assert (card.thresholds, card.tag_scales, card.names_tags) == ((0.5, 0.5), (2.0, 1.0), True)
    wanted = 1 / (1 + np.exp([[-2.0, 0.0]]))
    np.testing.assert_allclose(card.probabilities(np.array([[1.0, 1.0]])), wanted)
    assert read_card(save_toy(tmp_path / "old.onnx")).names_tags is False


def test_calibration_finds_scale_and_bias_again() -> None:
    random = np.random.default_rng(8)
    logits = random.normal(scale=2.0, size=(4_000, 3))
    scales, biases = np.array([0.5, 1.0, 2.0]), np.array([-1.0, 0.0, 0.7])
    truth = (random.random(logits.shape) < 1 / (1 + np.exp(-(logits * scales + biases)))).astype(float)
    truth[::5, 1] = np.nan
    segments = replace(
        make_tag_predictions(0, n_tracks=2_000),
        truth=np.repeat(truth[::2], 2, axis=0),
        scores=1 / (1 + np.exp(-logits)),
    )
    found = fit_scales(replace(segments, truth=truth, track_ids=tuple(map(str, range(4_000)))))
    np.testing.assert_allclose(found[0], scales, rtol=0.15)
    np.testing.assert_allclose(found[1], biases, atol=0.15)
    never = replace(segments, truth=np.zeros_like(truth))
    assert (fit_scales(never)[0] > 0).all() and np.isfinite(fit_scales(never)).all()


def test_too_few_validation_tracks_calibrate_nothing(tmp_path: Path) -> None:
    few = calibrate_tags(open_run(make_tag_run(tmp_path / "few", n_validation=20)))
    assert (few.scales, few.biases) == ((), ()) and len(few.thresholds) == 3
    assert "fewer than 50" in few.note and "20 validation tracks" in few.note
    enough = calibrate_tags(open_run(make_tag_run(tmp_path / "enough", n_validation=80)))
    assert len(enough.scales) == len(enough.biases) == len(enough.thresholds) == 3
    assert enough.thresholds != tuple(fitted_thresholds(open_run(tmp_path / "enough").tag_predictions("validation")))
    soft = calibrate_tags(open_run(make_tag_run(tmp_path / "soft", soft=True)))
    assert "the teacher's 1 top tags" in soft.note


def test_a_trained_tagger_travels_as_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))
    data = make_tagged(tmp_path, n_tracks=16, duration_s=2.0)
    run = train("mfcc-cnn-distil-musicnn", data, output=tmp_path / "run", overrides=[
        "data.targets=labels", "training.epochs=6", "training.batch_size=4", "training.learning_rate=0.003",
        "representation.options.segment_s=1.0", "protocol.options={test_size: 0.25, validation_size: 0.25}",
    ])  # fmt: skip
    exported = export_run(run, licence="CC0")
    card = exported.card
    assert (card.task, card.activation, card.labels) == ("multi_label", "sigmoid", TAGS)
    assert card.thresholds == tuple(
        float(f"{value:.6g}") for value in fitted_thresholds(open_run(run).tag_predictions("validation").by_track())
    )
    assert [score["metric"] for score in card.scores] == ["mean ROC-AUC over tags", "mean PR-AUC over tags"]
    tested = open_run(run).tag_predictions("test").by_track()
    classifier = Classifier(str(exported.path), coverage="full", threads=1)
    for track_id, scores in zip(tested.track_ids, tested.scores, strict=True):
        answer = classifier.classify(tmp_path / "tagged" / f"{track_id}.wav")
        np.testing.assert_allclose([answer.tags[tag] for tag in TAGS], scores, atol=1e-3)
        above = {tag for tag, score, limit in zip(TAGS, scores, card.thresholds, strict=True) if score >= limit + 1e-3}
        assert above <= set(answer.chosen)
