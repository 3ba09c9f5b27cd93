"""Exported bundles agree with the training-time model, carry their card, and are refused where they do not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from musicgenre import Classifier
from musicgenre.bundle.load import PythonFrontEnd, load_bundle, read_card
from musicgenre.cli import app
from musicgenre.data.manifest import read_manifest
from musicgenre.errors import AudioError, BundleError, DataError, MissingExtraError, RunError, UsageError
from musicgenre.evaluation.calibration import calibrate
from musicgenre.exporting import network_graph
from musicgenre.exporting.export import export_run
from musicgenre.exporting.network_graph import probabilities, write_graph
from musicgenre.features.published.musicnn.published import published
from musicgenre.features.published.musicnn.weights import read_variables
from musicgenre.features.registry import create_representation
from musicgenre.features.representations import musicnn
from musicgenre.features.representations.mfcc import Mfcc
from musicgenre.judging.elsewhere import evaluate_elsewhere
from musicgenre.models.cards import find_card
from musicgenre.models.pooling import Pooling
from musicgenre.runs.folder import open_run
from musicgenre.runs.predictions import read_predictions
from musicgenre.training.train import train
from tests.labelled_music import LABELS, make_collection
from tests.make_run import make_run, random_answers
from tests.published_weights import publish, random_variables

pytestmark = pytest.mark.usefixtures("checked_on_short_tracks")

FRONT_ENDS = {
    "melspectrogram-a5": ("melspectrogram", {"preset": "a5", "segment_s": 2.0}),
    "melspectrogram-b1": ("melspectrogram", {"preset": "b1", "segment_s": 1.0}),
    "mfcc": ("mfcc", {"segment_s": 1.0}),
    "waveform": ("waveform", {"segment_s": 0.5}),
    "waveform-peak": ("waveform", {"segment_s": 0.5, "scale": "peak"}),
    "waveform-standard": ("waveform", {"segment_s": 0.5, "scale": "standard"}),
    "picture": ("picture", {"size": 32, "segment_s": 2.0}),
    "picture-last": ("picture", {"size": 16, "segment_s": 1.0, "channels_first": False}),
    "musicnn": ("musicnn", {"weights": "none", "segment_s": 3.0}),
    "musicnn-repeated": ("musicnn", {"weights": "none", "segment_s": 1.1, "output": "max"}),
    "musicnn-two-patches": ("musicnn", {"weights": "none", "segment_s": 6.5, "model": "mtt-vgg", "output": "tags"}),
}


def _sounds(n_samples: int, rate_hz: int) -> np.ndarray:
    """Noise, a quiet tone, a click and silence, shape (4, n_samples)."""
    random = np.random.default_rng(5)
    tone = 0.01 * np.sin(2 * np.pi * 440 * np.arange(n_samples) / rate_hz)
    click = np.zeros(n_samples)
    click[n_samples // 3] = 1.0
    return np.stack([random.normal(0, 0.2, n_samples), tone, click, np.zeros(n_samples)]).astype(np.float32)


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_front_ends_inside_the_graph_agree(name: str) -> None:
    import onnxruntime

    kind, options = FRONT_ENDS[name]
    representation = create_representation(kind, **options)
    assert representation.graph_front_end
    content = write_graph(torch.nn.Flatten(), representation)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    rows = _sounds(entry.shape[1], representation.sample_rate_hz)
    (found,) = session.run(["logits"], {"waveform": rows})
    expected = np.stack([representation.compute(row).ravel() for row in rows])
    scale = max(1.0, float(np.abs(expected).max()))
    assert np.abs(found - expected).max() <= 1e-3 * scale


def test_probabilities_are_softmax() -> None:
    found = probabilities(torch.nn.Identity(), np.array([[0.0, np.log(3.0)]], dtype=np.float32))
    assert np.allclose(found, [[0.25, 0.75]])


QUICK = ["protocol.options={test_size: 0.34, validation_size: 0.17}", "training.epochs=2", "data.labels=[]"]


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collection(tmp_path_factory.mktemp("music"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))


def _train(recipe: str, collection: Path, folder: Path, *settings: str, folds: int = 0) -> Path:
    overrides = [*QUICK, *settings]
    return train(recipe, collection, output=folder, overrides=overrides, folds=folds)


def _heard(bundle: Path, track: Path) -> dict[str, float]:
    return dict(Classifier(str(bundle), coverage="full").classify(track).scores)


def test_a_bundle_names_the_weights_it_was_trained_from(
    collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    variables = random_variables("musicnn", np.random.default_rng(1), 0.95)
    wheel = publish(monkeypatch, tmp_path, "msd-musicnn", variables)
    read_variables([published("msd-musicnn")], source=wheel)
    musicnn._session.cache_clear()
    request.addfinalizer(musicnn._session.cache_clear)
    run = _train("musicnn-mlp-eight-genres", collection, tmp_path / "run", "representation.options.segment_s=3.0")
    exported = export_run(run)
    (card,) = read_card(exported.path).weights
    assert card == find_card("msd-musicnn").as_dict()
    assert "made with the weights msd-musicnn (Jordi Pons, musicnn 0.1.0" in exported.to_text()


@pytest.mark.parametrize(
    ("recipe", "extra"), [("mfcc-cnn", ""), ("mfcc-gru", ""), ("table-random-forest-3s", "features")]
)
def test_a_bundle_hears_what_the_run_heard(recipe: str, extra: str, collection: Path, tmp_path: Path) -> None:
    run = _train(recipe, collection, tmp_path / "run")
    exported = export_run(run, licence="CC0-1.0", citation="us")
    assert exported.path == run / f"{recipe}.onnx" and exported.largest_difference <= 1e-3
    assert len(exported.checked_on) == 5 and exported.n_segments == 5
    card = exported.card
    assert card.labels == LABELS and card.extra == extra and (card.licence, card.citation) == ("CC0-1.0", "us")
    assert card.weights == () and "made with the weights" not in exported.to_text()
    assert card.front_end["name"] in ("mfcc", "table") and "not calibrated" in card.notes
    (score,) = card.scores
    assert score["n_tracks"] == 6 and score["protocol"] == "track" and score["low"] < score["high"]
    predictions = read_predictions(run / "predictions_test.csv").by_track()
    for track_id, expected in zip(predictions.track_ids, predictions.scores, strict=True):
        heard = _heard(exported.path, collection.parent / track_id.split(".")[0] / f"{track_id}.wav")
        assert [heard[label] for label in LABELS] == pytest.approx(expected.tolist(), abs=1e-3)
    assert "track-level accuracy" in exported.to_text() and "musicgenre classify" in exported.to_text()


def test_a_front_end_that_stays_in_python_may_need_no_extra(
    collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _train("e2", collection, tmp_path / "run")
    monkeypatch.setattr(Mfcc, "graph_front_end", False)
    monkeypatch.setattr(Mfcc, "extra", "")
    exported = export_run(run)
    assert exported.largest_difference <= 1e-3 and exported.card.extra == ""
    assert "which Python computes" in exported.card.notes and "needs musicgenre[" not in exported.to_text()
    track = collection.parent / "jazz" / "jazz.00001.wav"
    assert sum(_heard(exported.path, track).values()) == pytest.approx(1.0)


@pytest.mark.parametrize("scoring", ["max", "vote"])
def test_a_bundle_lets_segments_score_together_as_the_run_does(
    scoring: Pooling, collection: Path, tmp_path: Path
) -> None:
    settings = (f"scoring={scoring}", "representation.options.segment_s=0.5")
    run = _train("table-random-forest-3s", collection, tmp_path / "run", *settings)
    exported = export_run(run)
    assert exported.card.scoring == scoring
    predictions = read_predictions(run / "predictions_test.csv")
    tracks, means = predictions.by_track(scoring), predictions.by_track("mean")
    assert len(predictions) > len(tracks) and np.abs(tracks.scores - means.scores).max() > 1e-2
    for track_id, expected in zip(tracks.track_ids, tracks.scores, strict=True):
        heard = _heard(exported.path, collection.parent / track_id.split(".")[0] / f"{track_id}.wav")
        assert [heard[label] for label in LABELS] == pytest.approx(expected.tolist(), abs=1e-3)


def test_command_export_and_its_refusals(collection: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    options = "protocol.options={validation_size: 0.25}"
    group = _train("table-naive-bayes-3s", collection, tmp_path / "group", options, folds=3)
    result = runner.invoke(app, ["export", str(group)])
    assert isinstance(result.exception, UsageError)
    assert "holds 3 runs" in str(result.exception) and "musicgenre export" in str(result.exception)
    track = collection.parent / "jazz" / "jazz.00001.wav"
    wanted = tmp_path / "out" / "mine.onnx"
    arguments = ["export", str(group / "fold-1"), "-o", str(wanted), "--check", str(track)]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0 and "checked on 1 track, 1 segment:" in result.output
    assert read_card(wanted).scores[0]["fold"] == 1
    with pytest.raises(UsageError, match="cannot be the name of a bundle"):
        export_run(group / "fold-1", tmp_path / "mine.bin")
    with pytest.raises(AudioError):
        export_run(group / "fold-1", wanted, check=[tmp_path / "absent.wav"], overwrite=True)
    with pytest.raises(UsageError, match="exists already"):
        export_run(group / "fold-1", wanted)
    with pytest.raises(RunError, match="no run folder"):
        export_run(tmp_path / "nothing")
    with pytest.raises(UsageError, match="cannot be written"):
        export_run(group / "fold-1", wanted / "inside.onnx")


def test_a_bundle_that_disagrees_is_not_written(
    collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _train("mfcc-mlp", collection, tmp_path / "run")
    wanted = tmp_path / "mine.onnx"
    with monkeypatch.context() as patched:
        halved = lambda graph, waveform, spec: graph.op("Mul", add(graph, waveform, spec), graph.floats(0.5))  # noqa: E731
        add = network_graph.add_melspectrogram
        patched.setattr(network_graph, "add_melspectrogram", halved)
        with pytest.raises(BundleError, match=r"differs from the training-time model.*at most 0.001"):
            export_run(run, wanted)
    assert not wanted.exists()
    assert export_run(run, wanted).path == wanted


def test_without_tracks_at_hand_noise_is_used_and_said(collection: Path, tmp_path: Path) -> None:
    run = _train("table-logistic-regression-3s", collection, tmp_path / "run")
    manifest = run / "manifest.csv"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace(".wav", ".gone.wav"), encoding="utf-8")
    exported = export_run(run)
    assert exported.checked_on == () and "noise" in exported.to_text()


def test_a_bundle_is_never_scored_on_what_its_run_learnt_from(collection: Path, tmp_path: Path) -> None:
    run = _train("mfcc-mlp", collection, tmp_path / "run", "representation.options.segment_s=1.0")
    bundle = export_run(run, tmp_path / "one.onnx").path
    by_run = evaluate_elsewhere(str(run), collection)
    by_bundle = evaluate_elsewhere(str(bundle), collection, coverage="full")
    tested = open_run(run).predictions("test").by_track()
    assert by_bundle.n_tracks == by_run.n_tracks == len(tested)
    assert by_bundle.learnt_from == by_run.learnt_from
    assert by_bundle.accuracy == by_run.accuracy
    assert by_run.accuracy.value == pytest.approx((tested.predicted == tested.truth).mean())


@pytest.mark.filterwarnings("ignore:segment-leaky")
def test_a_bundle_of_a_leaky_run_says_so_with_every_answer(collection: Path, tmp_path: Path) -> None:
    settings = ("training.epochs=2", "data.labels=[]", "representation.options.segment_s=1.0")
    run = train("mfcc-mlp-leaky", collection, output=tmp_path / "run", overrides=settings)
    exported = export_run(run, tmp_path / "leaky.onnx")
    assert exported.card.notes.startswith("LEAKY: ") and "not calibrated" in exported.card.notes
    track = next(track.path for track in read_manifest(collection).tracks)
    warnings = Classifier(str(exported.path)).classify(track).warnings
    assert any(warning.startswith("LEAKY MODEL") for warning in warnings)
    assert any("not calibrated" in warning for warning in warnings)
    with pytest.raises(DataError, match="nothing is left to score"):
        evaluate_elsewhere(str(exported.path), collection)


def test_runs_on_picture_files_are_refused(collection: Path, tmp_path: Path) -> None:
    run = _train("table-naive-bayes-3s", collection, tmp_path / "run")
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    info["representation"] = {"name": "picture", "version": 1, "source": "file"}
    (run / "run.json").write_text(json.dumps(info), encoding="utf-8")
    with pytest.raises(UsageError, match="trained on picture files"):
        export_run(run)


def test_a_bundle_on_the_table_asks_for_its_extra(
    collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = export_run(_train("table-naive-bayes-3s", collection, tmp_path / "run"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"musicgenre\[features\]"):
        load_bundle(exported.path)


def test_features_of_a_newer_version_are_refused() -> None:
    with pytest.raises(BundleError, match="features that this musicgenre does not compute"):
        PythonFrontEnd({"name": "table", "version": 99}, "mine")
    with pytest.raises(BundleError, match="does not compute"):
        PythonFrontEnd({}, "mine")
    with pytest.raises(BundleError, match="the bundle mine reads features that this musicgenre does not compute"):
        PythonFrontEnd({"name": "columns", "names": 5}, "mine")


def test_calibration_needs_enough_honest_tracks(tmp_path: Path) -> None:
    few = calibrate(open_run(make_run(tmp_path / "few", random_answers(1, n_tracks=30))))
    assert (few.temperature, few.unsure_threshold) == (1.0, 0.0) and "30 validation tracks" in few.note
    leaky = make_run(tmp_path / "leaky", random_answers(1, n_tracks=90), protocol="segment-leaky")
    assert "no honest validation part" in calibrate(open_run(leaky)).note
    good = calibrate(open_run(make_run(tmp_path / "good", random_answers(1, n_tracks=200, right=0.95))))
    assert 0.1 < good.temperature < 5 and 0 < good.unsure_threshold < 1 and "200 validation tracks" in good.note
    poor = calibrate(open_run(make_run(tmp_path / "poor", random_answers(1, n_tracks=200, n_segments=1, right=0.0))))
    assert poor.unsure_threshold == 0.0 and "no threshold" in poor.note
