"""Training: a run folder that is whole, the same again for the same seed, resumed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from musicgenre.data.manifest import Manifest, read_manifest
from musicgenre.data.splits import split
from musicgenre.features.representations.table import COLUMNS
from musicgenre.runs.folder import METRICS, RunFolder, open_run, open_runs, read_description
from musicgenre.runs.predictions import read_predictions
from musicgenre.training import _lightning
from musicgenre.training.train import train
from musicgenre.training.trained import load_trained
from tests.labelled_music import LABELS, make_collection
from tests.table_runs import SPLIT, TABLE, curves, losses, same_weights, table, weights

__all__ = ["table"]
pytestmark = pytest.mark.usefixtures("own_cache")


def test_from_sound_to_a_run_that_evaluates(tmp_path: Path) -> None:
    data = make_collection(tmp_path / "music", duration_s=6.0)
    overrides = [*SPLIT, "training.epochs=12", "training.learning_rate=0.002"]
    run = train("mfcc-cnn", data, output=tmp_path / "run", overrides=overrides)
    opened = open_run(run)
    assert opened.labels == LABELS
    predictions = opened.predictions("test")
    assert len(predictions) == 2 * predictions.n_tracks  # two segments of 3 s a track
    assert (predictions.by_track().predicted == predictions.by_track().truth).mean() == 1.0
    np.testing.assert_allclose(predictions.scores.sum(axis=1), 1.0, atol=1e-6)
    assert opened.predictions("validation").n_tracks == 3


def test_run_folder_holds_what_repeats_it(tmp_path: Path, table: Manifest) -> None:
    run = train("table-mlp-standardised", table, output=tmp_path / "run", overrides=TABLE)
    facts = read_description(run)
    assert {
        "format_version": 1, "recipe": "table-mlp-standardised", "systems": ["C2"], "labels": list(LABELS), "seed": 0,
        "fold": None, "protocol": "track", "status": "finished", "scoring": "mean",
    }.items() <= facts.items()  # fmt: skip
    assert facts["parameters"] == 57 * 512 + 512 + 1024 + 512 * 128 + 128 + 256 + 128 * 3 + 3
    assert facts["representation"]["name"] == "columns"
    assert facts["versions"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]  # "+cpu" names a build
    assert facts["command"].startswith("musicgenre train table-mlp-standardised --data table.csv --set")
    assert {track.split for track in read_manifest(run / "manifest.csv").tracks} == {"train", "validation", "test"}
    assert len(json.loads((run / "normalisation.json").read_text("utf-8"))["mean"]) == 57
    assert tuple(curves(run)[0]) == METRICS
    assert len(curves(run)) == 8
    assert [path.name for path in (run / "logs" / "tensorboard").glob("events*")]
    assert (run / "resume.ckpt").is_file()  # for more epochs


def test_normalisation_is_of_the_training_part_alone(tmp_path: Path, table: Manifest) -> None:
    run = train("table-mlp-standardised", table, output=tmp_path / "run", overrides=TABLE)
    rows = np.array(
        [
            [float(t.columns[name]) for name in COLUMNS]
            for t in read_manifest(run / "manifest.csv").part("train").tracks
        ]
    )
    stored = json.loads((run / "normalisation.json").read_text("utf-8"))
    np.testing.assert_allclose(stored["mean"], rows.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(stored["std"], rows.std(axis=0), rtol=1e-5)


def test_kept_weights_are_those_of_the_best_validation_epoch(tmp_path: Path, table: Manifest) -> None:
    run = train("table-mlp-standardised", table, output=tmp_path / "run", overrides=TABLE)
    validation = [float(row["validation_loss"]) for row in curves(run)]
    assert read_description(run)["best_epoch"] == int(np.argmin(validation))
    predictions = read_predictions(run / "predictions_validation.csv")
    own = predictions.scores[np.arange(len(predictions)), predictions.truth]
    assert -np.log(own).mean() == pytest.approx(min(validation), rel=1e-4)


def test_trained_model_loads_and_repeats_its_predictions(tmp_path: Path, table: Manifest) -> None:
    run = train("table-mlp-standardised", table, output=tmp_path / "run", overrides=TABLE)
    trained = load_trained(run)
    predictions = read_predictions(run / "predictions_test.csv")
    by_id = {track.track_id: track for track in table.tracks}
    raw = [[float(by_id[track_id].columns[name]) for name in COLUMNS] for track_id in predictions.track_ids]
    with torch.no_grad():
        scores = trained.whole()(torch.tensor(raw)).softmax(dim=1).numpy()
    np.testing.assert_allclose(scores, predictions.scores, atol=1e-6)
    assert trained.labels == LABELS


def test_same_seed_gives_the_same_bits_and_another_seed_does_not(tmp_path: Path, table: Manifest) -> None:
    runs = [
        train("table-mlp-standardised", table, output=tmp_path / name, overrides=[*TABLE, f"training.seed={seed}"])
        for name, seed in (("one", 4), ("two", 4), ("other", 5))
    ]
    assert same_weights(runs[0], runs[1])
    assert losses(runs[0]) == losses(runs[1])
    assert not same_weights(runs[0], runs[2])


def test_who_watches_sees_loss_and_score_of_every_epoch_and_how_it_ended(tmp_path: Path, table: Manifest) -> None:
    said: list[str] = []
    lines: list[str] = []
    counts: dict[str, list[tuple[int, int]]] = {}
    run = train(
        "table-mlp-standardised",
        table,
        output=tmp_path / "run",
        overrides=[*TABLE, "training.batch_size=8"],
        report=said.append,
        progress=lambda what, done, total: counts.setdefault(what, []).append((done, total)),
        scores=lines.append,
    )
    metrics = curves(run)
    best = read_description(run)["best_epoch"]
    assert counts["training run"] == [(number + 1, 8) for number in range(8)]
    n_batches = counts["  within the epoch"][0][1]
    assert n_batches > 1
    assert counts["  within the epoch"] == [(number + 1, n_batches) for number in range(n_batches)] * 8
    assert len(lines) == 8 and lines[0].startswith(f"epoch 1: loss {float(metrics[0]['train_loss']):.3f}, validation ")
    kept = float(metrics[best]["validation_loss"])
    assert lines[-1].endswith(f"best validation loss {kept:.3f} at {best + 1}")
    ended = next(line for line in said if "best" in line)
    assert ended.startswith(f"run: all 8 epochs, best {best + 1} (validation loss {kept:.3f})")

    said.clear()
    hasty = [*TABLE, "training.patience=1", "training.epochs=500", "training.learning_rate=0.3"]
    run = train("table-mlp-standardised", table, output=tmp_path / "hasty", overrides=hasty, report=said.append)
    facts = read_description(run)
    assert any(f"hasty: stopped at {facts['epochs']}, best {facts['best_epoch'] + 1} (" in line for line in said)


def test_only_a_model_with_epochs_is_said_to_choose_weights(tmp_path: Path, table: Manifest) -> None:
    halves = table.with_tracks(
        replace(track, split=("train", "train", "test")[number % 3]) for number, track in enumerate(table.tracks)
    )
    for recipe, does in (
        ("table-naive-bayes-30s", "are held out for it"),
        ("table-mlp-standardised", "choose the weights"),
    ):
        said: list[str] = []
        settings = ["training.epochs=1"] if "mlp" in recipe else []
        train(recipe, halves, output=tmp_path / recipe, overrides=["data.labels=[]", *settings], report=said.append)
        told = next(line for line in said if "no validation part" in line)
        assert f"training tracks {does}" in told


def test_training_leaves_the_random_state_alone(tmp_path: Path, table: Manifest) -> None:
    torch.manual_seed(3)
    train("table-mlp-standardised", table, output=tmp_path / "run", overrides=[*TABLE, "training.epochs=1"])
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(1))


class _PowerCut(BaseException):
    """What no code of ours catches."""


def cut_power_after(epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """End a training at once when ``epochs`` are done, with a state to resume from at every epoch."""
    monkeypatch.setattr("musicgenre.training.bookkeeper.RESUME_EVERY_S", 0.0)
    original = RunFolder.write_metrics

    def write(self: RunFolder, rows: Any) -> None:
        if len(rows) > epochs:
            raise _PowerCut
        original(self, rows)

    monkeypatch.setattr(RunFolder, "write_metrics", write)


@pytest.mark.parametrize("cut_at", [1, 4])
def test_a_resumed_run_equals_one_that_never_stopped(
    tmp_path: Path, table: Manifest, monkeypatch: pytest.MonkeyPatch, cut_at: int
) -> None:
    whole = train("table-mlp-standardised", table, output=tmp_path / "whole", overrides=TABLE)
    with monkeypatch.context() as patch, pytest.raises(_PowerCut):
        cut_power_after(cut_at, patch)
        train("table-mlp-standardised", table, output=tmp_path / "cut", overrides=TABLE)
    assert read_description(tmp_path / "cut")["status"] == "running"
    assert (tmp_path / "cut" / "resume.ckpt").is_file()
    train("table-mlp-standardised", table, output=tmp_path / "cut", overrides=TABLE, resume=True)
    assert losses(tmp_path / "cut") == losses(whole)
    assert same_weights(tmp_path / "cut", whole)


def test_interrupted_runs_say_so(tmp_path: Path, table: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(self: RunFolder, rows: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "write_metrics", write)
    told: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        train("table-mlp-standardised", table, output=tmp_path / "a run", overrides=TABLE, report=told.append)
    assert read_description(tmp_path / "a run")["status"] == "interrupted"
    assert told[-1].endswith(f"Go on with the same command and: --output '{tmp_path / 'a run'}' --resume")


def test_a_run_cut_off_at_its_very_end_is_not_trained_again(
    tmp_path: Path, table: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("musicgenre.training.bookkeeper.RESUME_EVERY_S", 0.0)
    with monkeypatch.context() as patch, pytest.raises(_PowerCut):
        patch.setattr(Path, "unlink", _cut_at_the_state)
        train("table-mlp-standardised", table, output=tmp_path / "run", overrides=TABLE, keep_state=False)
    assert read_description(tmp_path / "run")["status"] == "finished"
    train("table-mlp-standardised", table, output=tmp_path / "run", overrides=TABLE, resume=True, keep_state=False)
    assert not (tmp_path / "run" / "resume.ckpt").exists()


_unlink = Path.unlink


def _cut_at_the_state(path: Path, missing_ok: bool = False) -> None:
    if path.name == "resume.ckpt":
        raise _PowerCut
    _unlink(path, missing_ok=missing_ok)


def test_seeds_and_folds_make_a_group(tmp_path: Path, table: Manifest) -> None:
    told: list[str] = []
    overrides = ["training.epochs=2", "training.seed=7"]
    group = train("table-mlp-standardised", table, output=tmp_path / "g", overrides=overrides, seeds=2, folds=3)
    runs = open_runs(group)
    assert [(run.seed, run.fold) for run in runs] == [(s, f) for s in (7, 8) for f in range(3)]
    assert {run.protocol for run in runs} == {"kfold"}
    tested = [track for run in runs[:3] for track in run.predictions("test").track_ids]
    assert sorted(tested) == sorted(track.track_id for track in table.tracks)
    shutil.rmtree(group / "seed-1" / "fold-2")
    before = (group / "seed-0" / "fold-0" / "run.json").read_text("utf-8")
    train(
        "table-mlp-standardised",
        table,
        output=group,
        overrides=overrides,
        seeds=2,
        folds=3,
        resume=True,
        report=told.append,
    )
    assert sum("finished already" in text for text in told) == 5
    assert (group / "seed-0" / "fold-0" / "run.json").read_text("utf-8") == before


def test_early_stopping_watches_the_validation_part(tmp_path: Path, table: Manifest) -> None:
    overrides = [*TABLE, "training.epochs=200", "training.patience=3", "training.learning_rate=0.05"]
    run = train("table-mlp-standardised", table, output=tmp_path / "run", overrides=overrides)
    facts, rows = read_description(run), curves(run)
    assert facts["epochs"] == len(rows) == facts["best_epoch"] + 3 + 1 < 200


def test_accuracy_can_choose_the_weights(tmp_path: Path, table: Manifest) -> None:
    overrides = [*TABLE, "training.monitor=validation_accuracy"]
    run = train("table-mlp-standardised", table, output=tmp_path / "run", overrides=overrides)
    accuracy = [float(row["validation_accuracy"]) for row in curves(run)]
    assert read_description(run)["best_epoch"] == int(np.argmax(accuracy))


def test_the_manifests_own_split_is_kept(tmp_path: Path, table: Manifest) -> None:
    parts = split(table, "track", seed=9, test_size=0.25, validation_size=0.25)
    run = train("table-mlp-standardised", parts, output=tmp_path / "run", overrides=TABLE)
    wanted = {track.track_id: track.split for track in parts.tracks}
    assert {track.track_id: track.split for track in read_manifest(run / "manifest.csv").tracks} == wanted


def test_leaky_protocol_warns_and_lets_the_test_part_choose(tmp_path: Path) -> None:
    data = make_collection(tmp_path / "music", tracks_a_label=2, duration_s=9.0)
    with pytest.warns(UserWarning, match="segment-leaky"):
        run = train("mfcc-cnn-leaky", data, output=tmp_path / "run", overrides=["training.epochs=1"])
    both = [(run / f"predictions_{part}.csv").read_text("utf-8") for part in ("validation", "test")]
    assert both[0] == both[1]
    test = read_predictions(run / "predictions_test.csv")
    assert len(test) == round(0.3 * 18)
    assert read_description(run)["segments"] == {"train": 13, "validation": 5, "test": 5}
    assert open_run(run).protocol == "segment-leaky"


def test_softmax_in_the_loss_slows_learning(tmp_path: Path, table: Manifest) -> None:
    plain = train("table-mlp-row-l2", table, output=tmp_path / "a", overrides=TABLE)
    slow = train("table-mlp-softmax-in-loss", table, output=tmp_path / "b", overrides=TABLE)
    assert float(curves(slow)[-1]["train_loss"]) > float(curves(plain)[-1]["train_loss"]) + 0.1
    assert float(curves(slow)[-1]["train_loss"]) > 0.55  # softmax of a softmax cannot come below it


def test_class_weights_enter_the_loss(tmp_path: Path, table: Manifest) -> None:
    rare = table.with_tracks(t for t in table.tracks if t.label != "jazz" or int(t.track_id[-2:]) < 6)
    runs = [
        train(
            "table-mlp-standardised",
            rare,
            output=tmp_path / str(on),
            overrides=[*TABLE, f"training.class_weights={on}"],
        )
        for on in (True, False)
    ]
    assert losses(runs[0]) != losses(runs[1])


def test_sgd_trains(tmp_path: Path, table: Manifest) -> None:
    run = train("table-mlp-standardised", table, output=tmp_path / "run", overrides=[*TABLE, "training.optimiser=sgd"])
    rows = curves(run)
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])


def test_classical_models_train_and_load_alike(tmp_path: Path, table: Manifest) -> None:
    run = train("table-svm-30s", table, output=tmp_path / "run", overrides=SPLIT)
    predictions = open_run(run).predictions("test")
    assert (predictions.predicted == predictions.truth).mean() == 1.0
    assert not any(type(value).__name__ == "object" for value in weights(run).values())
    trained = load_trained(run)
    with torch.no_grad():
        logits = trained.whole()(torch.zeros(2, 57))
    assert logits.shape == (2, 3)


def test_fitting_on_validation_too_is_another_model(tmp_path: Path, table: Manifest) -> None:
    runs = [
        train("table-knn-30s", table, output=tmp_path / on, overrides=[*SPLIT, f"training.fit_on={on}"])
        for on in ("train", "train+validation")
    ]
    sizes = [len(weights(run)["points"]) for run in runs]
    facts = read_description(runs[0])["segments"]
    assert sizes == [facts["train"], facts["train"] + facts["validation"]]


def test_study_leaves_one_run_a_variant(tmp_path: Path, table: Manifest) -> None:
    recipe = tmp_path / "rates.yaml"
    recipe.write_text(
        "base: table-mlp-standardised\nsummary: Two rates\n"
        "study: {variants: {slow: {training.learning_rate: 0.0001}, fast: {training.learning_rate: 0.01}}}\n"
    )
    folder = train(recipe, table, output=tmp_path / "study", overrides=[*SPLIT, "training.epochs=2"])
    assert json.loads((folder / "study.json").read_text("utf-8"))["children"] == ["slow", "fast"]
    assert open_run(folder / "fast").recipe == "rates.fast"


def test_offline_copies_stand_in_the_training_part_alone(tmp_path: Path) -> None:
    data = make_collection(tmp_path / "music", tracks_a_label=5)
    overrides = [*SPLIT, "training.epochs=1", "augmentation.offline={chain: noise, copies: 1}"]
    run = train("mfcc-cnn", data, output=tmp_path / "run", overrides=overrides)
    tracks = read_manifest(run / "manifest.csv").tracks
    copies = [track for track in tracks if track.augmented]
    assert {track.split for track in copies} == {"train"}
    assert len(copies) == len([t for t in tracks if t.split == "train"]) / 2
    assert not any("noise" in track_id for track_id in read_predictions(run / "predictions_test.csv").track_ids)


@pytest.mark.parametrize(
    "online",
    ["{spectrogram: {specaugment: {}, mixup: {alpha: 0.3}}}", "{waveform: noise}"],
)
def test_online_augmentation_changes_the_training_alone_and_repeats(tmp_path: Path, online: str) -> None:
    data = make_collection(tmp_path / "music", tracks_a_label=6)
    overrides = [*SPLIT, "training.epochs=2"]
    plain = train("mfcc-cnn", data, output=tmp_path / "plain", overrides=overrides)
    runs = [
        train("mfcc-cnn", data, output=tmp_path / name, overrides=[*overrides, f"augmentation.online={online}"])
        for name in ("one", "two")
    ]
    assert losses(runs[0]) == losses(runs[1])
    assert losses(runs[0]) != losses(plain)


def test_lightning_loads_no_package_that_it_merely_looks_for() -> None:
    import torchmetrics.functional.text
    from lightning_utilities.core.imports import RequirementCache

    assert not hasattr(torchmetrics.functional.text, "bert_score"), "it loads transformers"
    with _lightning._overlooking("scipy"):
        assert not RequirementCache("scipy>=1.0") and not RequirementCache("scipy")
        assert RequirementCache("numpy>=1.0")
    assert RequirementCache("scipy>=1.0")
