"""Training taggers: unknown values count for nothing, the task and the manifest must fit, runs are whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score
from torch.nn import functional

from musicgenre.augment.online import Mixup
from musicgenre.data.manifest import Manifest, Track, read_manifest
from musicgenre.errors import DataError, MusicgenreError, RecipeError
from musicgenre.evaluation.evaluate import evaluate
from musicgenre.features.representations.table import COLUMNS
from musicgenre.models.registry import create_model
from musicgenre.runs.folder import open_run, read_description
from musicgenre.training.module import MultiLabelModule, SingleLabelModule, balanced_positive_weights, mean_areas
from musicgenre.training.recipes import TrainingSection, load_recipe
from musicgenre.training.train import train
from tests.labelled_music import TAGS, make_table, make_tag_table

QUICK = [
    "training.epochs=12",
    "training.learning_rate=0.01",
    "protocol.options={test_size: 0.3, validation_size: 0.2}",
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def tags(tmp_path: Path) -> Manifest:
    return make_tag_table(tmp_path / "tags.csv", COLUMNS)


def module(**changes: object) -> MultiLabelModule:
    return MultiLabelModule(create_model("table-mlp", (4,), 3), TrainingSection(**changes))  # type: ignore[arg-type]


@given(seed=st.integers(0, 500), unknown=st.floats(0, 0.9))
def test_unknown_tags_count_for_nothing(seed: int, unknown: float) -> None:
    random = np.random.default_rng(seed)
    targets = torch.from_numpy(random.random((6, 3)).astype(np.float32))
    hidden = torch.from_numpy(random.random((6, 3)) < unknown)
    logits = torch.from_numpy(random.normal(size=(6, 3)).astype(np.float32)).requires_grad_()
    loss = module().loss(logits, targets.masked_fill(hidden, torch.nan))
    loss.backward()
    assert logits.grad is not None and (logits.grad[hidden] == 0).all() and torch.isfinite(logits.grad).all()
    if not hidden.all():
        wanted = functional.binary_cross_entropy_with_logits(logits[~hidden], targets[~hidden])
        torch.testing.assert_close(loss, wanted)


def test_softmax_in_loss_is_the_reports_cross_entropy_of_shares() -> None:
    logits, targets = torch.randn(5, 3), torch.rand(5, 3).round()
    wanted = functional.binary_cross_entropy(logits.softmax(dim=1), targets)
    torch.testing.assert_close(module(softmax_in_loss=True).loss(logits, targets), wanted)


def test_positive_weights_are_absent_by_present_within_the_cap() -> None:
    targets = np.array([[1, 0, np.nan], [0, 0, 1], [0, 1, 1], [0, 0, 1]], np.float32)
    assert balanced_positive_weights(targets, 20.0).tolist() == pytest.approx([3.0, 3.0, 0.05])
    assert balanced_positive_weights(targets, 2.0).tolist() == [2.0, 2.0, 0.5]
    weighted = MultiLabelModule(create_model("table-mlp", (4,), 3), TrainingSection(), torch.tensor([3.0, 3.0, 1.0]))
    logits = torch.zeros(1, 3)
    assert weighted.loss(logits, torch.tensor([[1.0, 0.0, 0.0]])) == pytest.approx(5 / 3 * np.log(2))


def test_mixup_blends_tags_and_keeps_the_unknown_unknown() -> None:
    x, targets = torch.arange(4.0)[:, None, None].expand(4, 2, 2), torch.eye(4)
    targets[0, 1] = torch.nan
    _, mixed = Mixup(alpha=1.0)(x, targets, torch.Generator().manual_seed(1))
    known = ~torch.isnan(mixed)
    assert (~known[:, 1]).sum() >= 1 and known[:, [0, 2, 3]].all()
    assert ((mixed >= 0) & (mixed <= 1))[known].all()
    assert torch.isfinite(
        MultiLabelModule(create_model("table-mlp", (4,), 4), TrainingSection()).loss(torch.randn(4, 4), mixed)
    )


def test_areas_that_choose_the_weights_leave_out_what_cannot_be_measured() -> None:
    random = np.random.default_rng(4)
    targets = (random.random((30, 3)) < 0.4).astype(np.float32)
    scores = random.random((30, 3)).astype(np.float32)
    targets[:, 2], targets[3, 0] = 0.0, np.nan
    known = ~np.isnan(targets[:, 0])
    pairs = [(targets[known, 0], scores[known, 0]), (targets[:, 1], scores[:, 1])]
    assert mean_areas(targets, scores) == {
        "validation_roc_auc": pytest.approx(np.mean([roc_auc_score(*pair) for pair in pairs])),
        "validation_pr_auc": pytest.approx(np.mean([average_precision_score(*pair) for pair in pairs])),
    }
    assert set(mean_areas(targets[:, 2:], scores[:, 2:]).values()) == {0.0}


def test_a_networks_penalty_is_part_of_what_is_learnt() -> None:
    for made in (module(), SingleLabelModule(create_model("table-mlp", (4,), 3), TrainingSection())):
        batch = (torch.randn(4, 4), torch.tensor([0, 1, 2, 0]))
        if isinstance(made, MultiLabelModule):
            batch = (batch[0], torch.rand(4, 3))
        made.eval()
        plain = made.training_step(batch, 0).item()
        made.network.penalty = lambda: torch.tensor(2.5)  # type: ignore[method-assign]
        assert made.training_step(batch, 0).item() == pytest.approx(plain + 2.5)


def test_from_a_manifest_of_tags_to_a_report(tmp_path: Path, tags: Manifest) -> None:
    run = train("table-mlp-tags", tags, output=tmp_path / "run", overrides=QUICK)
    facts = read_description(run)
    assert (facts["task"], facts["activation"], facts["labels"]) == ("multi_label", "sigmoid", list(TAGS))
    report = evaluate(run)
    assert report.roc_auc.value > 0.8 and report.n_tracks == 18
    predictions = open_run(run).tag_predictions("test")
    assert np.isnan(predictions.truth).any() and not predictions.soft
    curve = open_run(run).curves()
    assert None not in curve["validation_pr_auc"] and set(curve["train_accuracy"]) == {None}
    assert facts["best_epoch"] == int(np.argmax(curve["validation_pr_auc"]))
    again = train("table-mlp-tags", tags, output=tmp_path / "again", overrides=QUICK)
    assert np.array_equal(open_run(again).tag_predictions().scores, predictions.scores)


def test_settings_of_tagging(tmp_path: Path, tags: Manifest) -> None:
    chosen = [*QUICK, "data.labels=[loud, dark]", "training.positive_weights=balanced", "scoring=max"]
    run = train("table-mlp-tags", tags, output=tmp_path / "run", overrides=chosen)
    assert open_run(run).labels == ("loud", "dark")
    assert evaluate(run).pooling == "max"
    soft = train("table-mlp-tags", tags, output=tmp_path / "soft", overrides=[
        *QUICK, "data.targets=columns", "training.monitor=validation_loss", "training.softmax_in_loss=true",
    ])  # fmt: skip
    predictions = open_run(soft).tag_predictions()
    np.testing.assert_allclose(predictions.scores.sum(axis=1), 1.0, atol=1e-5)
    report = evaluate(soft)
    assert report.agreement is not None and "AGREEMENT" in report.to_text()


def test_folds_of_tags(tmp_path: Path, tags: Manifest) -> None:
    group = train("table-mlp-tags", tags, output=tmp_path / "run", overrides=["training.epochs=2"], folds=2)
    report = evaluate(group)
    assert (report.n_tracks, report.n_folds, report.protocol) == (60, 2, "kfold")


@pytest.mark.parametrize(
    "settings",
    [
        ["training.monitor=validation_accuracy"],
        ["training.class_weights=true"],
        ["scoring=vote"],
        ["protocol.name=segment-leaky"],
        ["data.targets=columns"],
    ],
)
def test_settings_without_a_meaning_are_refused(settings: list[str]) -> None:
    with pytest.raises(RecipeError, match="means nothing with task: multi_label"):
        load_recipe("table-mlp-tags", settings)


@pytest.mark.parametrize(
    "setting", ["training.monitor=validation_roc_auc", "training.positive_weights=balanced", "data.targets=columns"]
)
def test_settings_of_tagging_are_refused_elsewhere(setting: str) -> None:
    with pytest.raises(RecipeError, match="means nothing with task: single_label"):
        load_recipe("mfcc-cnn", [setting])


def test_the_task_and_the_manifest_must_fit(tmp_path: Path, tags: Manifest) -> None:
    table = make_table(tmp_path / "table.csv", COLUMNS)
    rare = tags.with_tracks(
        replace(track, labels=(*track.labels, "rare") if track.track_id == "track000" else track.labels,
                split=("test", "train", "validation")[number % 3])
        for number, track in enumerate(tags.tracks)
    )  # fmt: skip
    for name, manifest, overrides, message in [
        ("table-mlp-standardised", tags, [], "60 tracks of the manifest have tags and no label"),
        ("table-mlp-tags", table, [], "every track of the manifest has one label"),
        ("table-mlp-tags", tags, ["data.labels=[loud, soft]"], "no track has the tag 'soft'"),
        ("table-mlp-tags", rare, [], "no track of the training part has the tag rare"),
        ("table-mlp-tags", tags, ["model={name: svm, options: {}}"], "fitted to one label per track, not to tags"),
        ("table-mlp-tags", tags.with_tracks(tags.tracks[:0]), [], "no tag on any track"),
    ]:
        with pytest.raises(MusicgenreError, match=message):
            train(name, manifest, output=tmp_path / message[:9], overrides=[*QUICK, *overrides])


def test_tags_that_a_part_cannot_measure_are_told(tmp_path: Path, tags: Manifest) -> None:
    told: list[str] = []
    parts = ("train", "train", "train", "validation", "test")
    manifest = tags.with_tracks(
        replace(track, split=parts[n % 5], labels=tuple(t for t in track.labels if n % 5 != 4 or t != "loud"))
        for n, track in enumerate(tags.tracks)
    )
    run = train(
        "table-mlp-tags", manifest, output=tmp_path / "run", overrides=["training.epochs=1"], report=told.append
    )
    assert any(line.startswith("the test part tells nothing about 1 tag: loud") for line in told)
    assert evaluate(run).left_out == ("loud",)


def test_all_zero_rows_train(tmp_path: Path, tags: Manifest) -> None:
    assert any(not track.labels for track in tags.tracks)
    assert isinstance(read_manifest(tmp_path / "tags.csv").tracks[0], Track)
    with pytest.raises(DataError, match="a label"):
        (tmp_path / "none.csv").write_text("path,label,labels\na.wav,,\nb.wav,,\n")
        read_manifest(tmp_path / "none.csv")


def test_a_recipe_may_split_by_song_as_the_taggers_of_clips_do(tags: Manifest, tmp_path: Path) -> None:
    clips = []
    for number, track in enumerate(tags.tracks):  # three clips a song
        clips.append(replace(track, columns={**track.columns, "parent": f"song{number // 3}"}))
    few = ["representation.name=columns", "training.epochs=1", "protocol.name=song"]
    run = train("table-mlp-tags", tags.with_tracks(clips), output=tmp_path / "run", overrides=few)
    manifest = open_run(run).manifest()
    assert manifest is not None
    songs: dict[str, set[str]] = {}
    for track in manifest.tracks:
        songs.setdefault(track.columns["parent"], set()).add(track.split)
    assert all(len(parts) == 1 for parts in songs.values())
    n_test, n_validation = len(manifest.part("test")), len(manifest.part("validation"))
    assert n_test == len(tags) // 4 and 0 < n_validation < n_test
    with pytest.raises(DataError, match=r"names the song of no clip.*--set protocol\.name=track"):
        train("table-mlp-tags", tags, output=tmp_path / "none", overrides=few)
