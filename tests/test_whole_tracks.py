"""Models that learnt from whole tracks are exported so that they hear whole tracks, short and long."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musicgenre import Classifier
from musicgenre._numbers import log_probabilities, softmax
from musicgenre.audio import load
from musicgenre.bundle.container import read_sealed, save_bundle
from musicgenre.bundle.load import load_bundle
from musicgenre.data.index import index_folder
from musicgenre.data.manifest import Manifest, Track
from musicgenre.errors import BundleError, UsageError
from musicgenre.evaluation.ensemble import ensemble
from musicgenre.exporting import export
from musicgenre.exporting.export import Exported, export_run
from musicgenre.exporting.exportable import RunModel
from musicgenre.exporting.network_graph import probabilities
from musicgenre.features.prepare import prepare
from musicgenre.listening.framing import Framing
from musicgenre.runs.folder import open_run
from musicgenre.runs.predictions import read_predictions
from musicgenre.training.train import train
from tests.labelled_music import LABELS, make_collection

SPLIT = ["data.labels=[]", "protocol.name=track", "protocol.options={test_size: 0.34, validation_size: 0.17}"]
RUNS = {
    "forest": ("table-random-forest-30s", "model.options.n_trees=10"),
    "regression": ("table-logistic-regression-30s",),
    "musicnn": ("musicnn-svm", "representation.options.weights=none"),
}
QUICK = ["training.epochs=1", "training.batch_size=8"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of three models, each of which learnt from clips of 3.4 s."""
    folder = tmp_path_factory.mktemp("runs")
    collection = make_collection(folder / "music", duration_s=3.4)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MUSICGENRE_CACHE", str(folder / "cache"))
        for name, (recipe, *settings) in RUNS.items():
            train(recipe, collection, output=folder / name, overrides=[*SPLIT, *settings])
    return folder


@pytest.fixture(scope="module")
def exports(runs: Path) -> dict[str, Exported]:
    return {name: export_run(runs / name, runs / f"{name}.onnx") for name in RUNS}


@pytest.mark.parametrize("name", RUNS)
def test_the_file_answers_as_the_run_did_on_its_own_short_clips(
    runs: Path, exports: dict[str, Exported], name: str
) -> None:
    """Through the door of a user's file: sound in, answer out."""
    exported = exports[name]
    assert exported.card.hears == "whole" and list(exported.by_length) == [5.0, 20.0, 29.0, 30.0, 90.0]
    assert max(exported.by_length.values()) <= 1e-3
    assert "heard whole at 5, 20, 29, 30, 90 s" in exported.to_text()

    classifier = Classifier(str(exported.path))
    predictions = read_predictions(runs / name / "predictions_test.csv")
    files = {track.track_id: track.path for track in open_run(runs / name).manifest().tracks}
    for track_id, scores in zip(predictions.track_ids, predictions.scores, strict=True):
        answer = classifier.classify(files[track_id])
        said = softmax(log_probabilities(scores[None]) / exported.card.temperature)[0]
        assert [answer.scores[label] for label in LABELS] == pytest.approx(said.tolist(), abs=2e-3)
        assert not any("padded" in warning or "repeated" in warning for warning in answer.warnings)


def test_what_pads_short_tracks_is_refused(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle that heard zeros where training heard none: the check meets it at the first length that shows it."""
    monkeypatch.setattr(RunModel, "of_run", _padding(RunModel.of_run))
    with pytest.raises(BundleError, match=r"differs .* on a track of 5 s\. Valid: at most 0\.001"):
        export_run(runs / "forest", tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_segments_are_held_against_the_run_on_tracks_shorter_and_longer_than_one(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = train("mfcc-cnn", runs / "music" / "music.csv", output=tmp_path / "run", overrides=[*SPLIT, *QUICK])
    exported = export_run(folder, tmp_path / "model.onnx")
    segment_s = exported.card.segment_samples / exported.card.sample_rate_hz
    assert list(exported.by_length) == [segment_s / 2, 5.0, 20.0] and max(exported.by_length.values()) <= 1e-3

    # A Classifier that repeats short tracks is no door to a run that padded them, though its segments are all right.
    monkeypatch.setattr(Framing, "of", _repeating(Framing.of))
    with pytest.raises(BundleError, match=f"on a track of {segment_s / 2:g} s"):
        export_run(folder, tmp_path / "other.onnx")


def _repeating(of):  # type: ignore[no-untyped-def]
    return lambda card: dataclasses.replace(of(card), repeat_short=True)


@pytest.mark.parametrize(
    ("segment_s", "lengths_s"), [(3.0, [1.5, 5.0, 20.0]), (10.0, [5.0, 20.0]), (30.0, [5.0, 20.0, 45.0])]
)
def test_some_length_is_shorter_and_some_is_longer_than_a_segment(
    exports: dict[str, Exported], segment_s: float, lengths_s: list[float]
) -> None:
    whole = exports["forest"].card
    card = dataclasses.replace(whole, hears="segments", segment_samples=round(segment_s * whole.sample_rate_hz))
    assert export._lengths_to_hear_s(card) == lengths_s


def _padding(of_run):  # type: ignore[no-untyped-def]
    def made(*arguments, **keywords):  # type: ignore[no-untyped-def]
        model = of_run(*arguments, **keywords)
        return dataclasses.replace(model, card=dataclasses.replace(model.card, hears="segments"))

    return made


def test_an_ensemble_is_held_against_its_runs_at_every_length(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ensemble([runs / "forest", runs / "regression"], tmp_path / "both").folder
    exported = export_run(made, tmp_path / "both.onnx")
    assert list(exported.by_length) == [5.0, 20.0, 29.0, 30.0, 90.0] and max(exported.by_length.values()) <= 1e-3
    monkeypatch.setattr(RunModel, "of_run", _padding(RunModel.of_run))
    monkeypatch.setattr(export, "_SEGMENTS_S", (5.0,))
    with pytest.raises(BundleError, match="on a track of 5 s"):
        export_run(made, tmp_path / "padded.onnx")


def test_a_card_from_before_is_heard_as_before(exports: dict[str, Exported], tmp_path: Path) -> None:
    """Whoever exported with an earlier version has a card that does not say `whole`: zeros fill its 30 s."""
    content, card = read_sealed(exports["regression"].path)
    old = dataclasses.replace(card, hears="segments", sha256="")
    save_bundle(tmp_path / "old.onnx", content, old)
    assert '"hears"' not in old.to_json() and '"format_version": 1' in old.to_json()
    assert '"hears": "whole"' in card.to_json() and '"format_version": 3' in card.to_json()

    sound = np.random.default_rng(3).normal(0, 0.1, 5 * card.sample_rate_hz).astype(np.float32)
    soundfile.write(tmp_path / "short.wav", sound, card.sample_rate_hz)
    answer = Classifier(str(tmp_path / "old.onnx")).classify(tmp_path / "short.wav")
    assert any("zero-padded to the 30.00 s" in warning for warning in answer.warnings)
    padded = np.pad(sound, (0, 25 * card.sample_rate_hz))
    logits = load_bundle(tmp_path / "old.onnx").run(padded[None])["logits"]
    assert [answer.scores[label] for label in LABELS] == pytest.approx(
        card.probabilities(logits)[0].tolist(), abs=1e-3
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["forest", "regression"])
def test_on_clips_of_real_tracks_the_file_is_right_as_often_as_the_run(
    shared_data: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """20 test tracks, cut: the run prepares the clips as it prepares any tracks, the Classifier hears the files."""
    folder = tmp_path_factory.mktemp(name)
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    music = index_folder(shared_data / "gtzan-mini" / "genres").manifest
    split = [*SPLIT[:-1], "protocol.options={test_size: 0.2, validation_size: 0.1}"]
    run = open_run(train(RUNS[name][0], music, output=folder / "run", overrides=split, jobs=2))
    model = RunModel.of_run(run)
    classifier = Classifier(str(export_run(run.folder, folder / "model.onnx").path))

    tested = set(run.predictions("test").track_ids)
    for length_s in (5.0, 20.0):
        (folder / f"{length_s:g}").mkdir()
        clips = []
        for track in music.tracks:
            if track.track_id in tested:
                clip = folder / f"{length_s:g}" / f"{track.track_id}.wav"
                soundfile.write(clip, load(track.path, 22_050).waveform[: round(length_s * 22_050)], 22_050)
                clips.append(Track(track.track_id, clip, track.label))
        assert len(clips) == 20

        store = folder / f"store-{length_s:g}"
        rows = prepare(Manifest(None, tuple(clips)), model.representation, store).open().everything
        said = probabilities(model.network, rows.features[:])
        answers = {clip.track_id: classifier.classify(clip.path).scores for clip in clips}
        given = np.array([[answers[track_id][label] for label in run.labels] for track_id in rows.track_ids])
        assert np.abs(given - said).max() < 1e-3

        truth = np.array([run.labels.index(track_id.split(".")[0]) for track_id in rows.track_ids])
        n_right = int((said.argmax(1) == truth).sum())
        assert int((given.argmax(1) == truth).sum()) == n_right and n_right >= 8


def test_rows_of_any_length_and_none(exports: dict[str, Exported]) -> None:
    bundle = load_bundle(exports["musicnn"].path)
    assert bundle.run(np.zeros((2, 70_000), np.float32))["logits"].shape == (2, len(LABELS))
    with pytest.raises(UsageError, match="do not fit"):
        bundle.run(np.zeros((1, 0), np.float32))


@pytest.mark.parametrize(("hop_samples", "n_samples", "starts"), [(2.5, 12, [0, 2, 5, 8]), (4, 12, [0, 4, 8])])
def test_a_hop_need_not_be_whole(hop_samples: float, n_samples: int, starts: list[int]) -> None:
    """Starts are rounded one by one, in memory and in a stream alike."""
    framing = Framing(1_000, 4, hop_samples)
    waveform = np.arange(n_samples, dtype=np.float32)
    assert framing.n_segments(n_samples) == len(starts)
    assert [framing.span(index, n_samples)[0] for index in range(len(starts))] == starts
    streamed = [(index, row[0]) for index, row in framing.rows(np.array_split(waveform, 5))]
    assert streamed == list(enumerate(starts))
