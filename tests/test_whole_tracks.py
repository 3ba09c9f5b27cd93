"""Models that learnt from whole tracks are exported so that they hear whole tracks, short and long."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musicgenre import Classifier
from musicgenre._numbers import log_probabilities, softmax
from musicgenre.bundle.container import read_sealed, save_bundle
from musicgenre.bundle.load import load_bundle
from musicgenre.errors import BundleError, UsageError
from musicgenre.evaluation.ensemble import ensemble
from musicgenre.exporting import export
from musicgenre.exporting.export import Exported, export_run
from musicgenre.exporting.exportable import RunModel
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
    monkeypatch.setattr(export, "_LENGTHS_S", {"segments": (5.0,), "whole": (5.0,)})
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
