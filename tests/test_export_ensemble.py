"""An exported ensemble: one file that answers as its runs do together, with members that hear in different ways."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from musicgenre import Classifier
from musicgenre.bundle import BundleCard, load_bundle, load_ensemble, read_card, save_bundle
from musicgenre.bundle.ensemble import join, taken_out
from musicgenre.data.manifest import read_manifest
from musicgenre.errors import BundleError, RunError, UsageError
from musicgenre.evaluation.ensemble import ensemble
from musicgenre.exporting.export import export_run
from musicgenre.runs.predictions import read_predictions
from musicgenre.training.train import train
from tests.labelled_music import LABELS, make_collection
from tests.test_bundle_load import CARD, N_SAMPLES, tiny_model

pytestmark = pytest.mark.usefixtures("checked_on_short_tracks")

SPLIT = ["protocol.options={test_size: 0.34, validation_size: 0.17}", "data.labels=[]"]
RECIPES = {
    "short": ("mfcc-cnn", "training.epochs=2", "representation.options.segment_s=0.5", "representation.hop_s=0.25"),
    "whole": ("table-random-forest-3s",),
    "votes": ("mfcc-mlp", "training.epochs=2", "scoring=vote", "representation.options.segment_s=1.0"),
}


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a collection and three runs on it that cut tracks in different ways."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MUSICGENRE_CACHE", str(folder / "cache"))
        collection = make_collection(folder / "music")
        for name, (recipe, *settings) in RECIPES.items():
            train(recipe, collection, output=folder / name, overrides=[*SPLIT, *settings])
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))


def tracks_of(run: Path) -> dict[str, Path]:
    manifest = read_manifest(run / "manifest.csv")
    return {track.track_id: track.path for track in manifest.tracks if track.split == "test"}


@pytest.mark.parametrize("how", ["mean", "weighted", "stacking"])
def test_a_bundle_answers_as_the_ensemble_did(how: Any, music: Path, tmp_path: Path) -> None:
    made = ensemble([music / name for name in RECIPES], tmp_path / "all", mixture=how).folder
    exported = export_run(made, licence="CC0-1.0")
    assert exported.path == made / f"ensemble-{how}.onnx" and exported.largest_difference <= 1e-3
    assert len(exported.checked_on) == 5 and exported.n_segments > 15
    card = exported.card
    assert (card.kind, card.licence, card.extra, len(card.members)) == ("ensemble", "CC0-1.0", "features", 3)
    assert [member.name for member in card.member_cards] == ["mfcc-cnn", "table-random-forest-3s", "mfcc-mlp"]
    assert [member.scoring for member in card.member_cards] == ["mean", "mean", "vote"]
    assert card.scores[0]["n_tracks"] == 6 and "not calibrated" in card.notes and how in card.origin
    predictions, tracks = read_predictions(made / "predictions_test.csv"), tracks_of(music / "short")
    listener = Classifier(str(exported.path), coverage="full")
    for track_id, expected in zip(predictions.track_ids, predictions.scores, strict=True):
        answer = listener.classify(tracks[track_id])
        assert [answer.scores[label] for label in LABELS] == pytest.approx(expected.tolist(), abs=1e-3)
        assert len(answer.timeline) == 1 and answer.model == f"ensemble-{how}"


def test_a_timeline_has_the_longest_steps_of_a_member(music: Path, tmp_path: Path) -> None:
    made = ensemble([music / "short", music / "votes"], tmp_path / "both").folder
    path = export_run(made).path
    track = next(iter(tracks_of(music / "short").values()))
    answer = Classifier(str(path), coverage="full").classify(track)
    assert [segment.end_s - segment.start_s for segment in answer.timeline] == pytest.approx([1.0] * 3)
    short, votes = (export_run(music / name, tmp_path / f"{name}.onnx").path for name in ("short", "votes"))
    by_short = Classifier(str(short), coverage="full").classify(track).timeline
    by_votes = Classifier(str(votes), coverage="full").classify(track).timeline
    assert len(by_short) > len(by_votes) == 3
    first = load_ensemble(path)
    assert [bundle.card.name for bundle in first.members] == ["mfcc-cnn", "mfcc-mlp"]
    assert Classifier(str(path), coverage=1.0).classify(track).heard_s == pytest.approx(1.0)


def test_other_sources_of_sound(music: Path, tmp_path: Path) -> None:
    path = export_run(ensemble([music / "short", music / "whole"], tmp_path / "both").folder).path
    track, listener = next(iter(tracks_of(music / "short").values())), Classifier(str(path), coverage="full")
    expected = listener.classify(track).scores
    with track.open("rb") as stream:
        assert listener.classify(stream).scores == expected
    assert listener.classify(io.BytesIO(track.read_bytes())).scores == expected
    silence = listener.classify(np.zeros(8_000, np.float32), sample_rate_hz=16_000)
    assert sum(silence.scores.values()) == pytest.approx(1.0) and silence.warnings


def test_labels_may_stand_in_another_order(music: Path, tmp_path: Path) -> None:
    path = export_run(ensemble([music / "short", music / "votes"], tmp_path / "both").folder).path
    content, card = path.read_bytes(), read_card(path)
    members = [dict(member) for member in card.members]
    members[1]["labels"] = list(reversed(members[1]["labels"]))
    save_bundle(tmp_path / "turned.onnx", content, BundleCard(**{**card.as_values(), "members": tuple(members)}))
    said = np.array([[[0.7, 0.2, 0.1]], [[0.1, 0.2, 0.7]]])
    assert load_ensemble(tmp_path / "turned.onnx").probabilities(said) == pytest.approx(np.array([[0.7, 0.2, 0.1]]))


def change(run: Path, **facts: Any) -> None:
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    info["ensemble"] |= facts
    (run / "run.json").write_text(json.dumps(info), encoding="utf-8")


def test_an_ensemble_whose_runs_changed_is_refused(music: Path, tmp_path: Path) -> None:
    for name in ("short", "votes"):
        shutil.copytree(music / name, tmp_path / name)
    made = ensemble([tmp_path / "short", tmp_path / "votes"], tmp_path / "both").folder
    nested = ensemble([made, music / "whole"], tmp_path / "nested").folder
    with pytest.raises(RunError, match=r"both, a member of .*nested, is an ensemble itself.*one ensemble of all"):
        export_run(nested)
    change(made, weights=[])
    with pytest.raises(RunError, match="does not say how its runs answer together"):
        export_run(made)
    change(made, weights=[0.9, 0.1])
    with pytest.raises(RunError, match="do not answer as they did when it was made"):
        export_run(made)
    change(made, weights=["a"])
    with pytest.raises(RunError, match=r"run.json is damaged: it says ensemble="):
        export_run(made)
    change(made, weights=[0.5, 0.5])
    shutil.rmtree(tmp_path / "votes")
    with pytest.raises(RunError, match=r"votes, run 2 of the ensemble .*both, is not there"):
        export_run(made)


def test_folds_are_exported_one_by_one(music: Path, tmp_path: Path) -> None:
    groups = [
        train(recipe, music / "music" / "music.csv", output=tmp_path / recipe, overrides=["data.labels=[]"], folds=2)
        for recipe in ("table-naive-bayes-3s", "table-random-forest-3s")
    ]
    made = ensemble(groups, tmp_path / "both").folder
    with pytest.raises(UsageError, match=r"holds 2 runs.*musicgenre export .*fold-0"):
        export_run(made)
    assert export_run(made / "fold-1").card.scores[0]["fold"] == 1


def joined_card(**changes: Any) -> BundleCard:
    member = CARD.as_values()
    values: Mapping[str, Any] = {"members": (member, {**member, "name": "other"}), "mixture": {"weights": [0.5, 0.5]}}
    return BundleCard(**{**member, "kind": "ensemble", **values, **changes})


def test_models_are_joined_and_taken_out_again(tmp_path: Path) -> None:
    joined = join([tiny_model(), tiny_model()])
    whole = onnx.load_from_string(joined)
    assert [entry.name for entry in whole.graph.input] == ["0/waveform", "1/waveform"]
    for number in (0, 1):
        part = onnx.load_from_string(taken_out(joined, number, "here"))
        onnx.checker.check_model(part, full_check=True)
        assert [entry.name for entry in part.graph.output] == [f"{number}/logits"]
        assert len(part.graph.node) * 2 == len(whole.graph.node)
    save_bundle(tmp_path / "both.onnx", joined, joined_card())
    rows = np.full((2, N_SAMPLES), 0.5, np.float32)
    loaded = load_ensemble(tmp_path / "both.onnx")
    assert [bundle.run(rows)["logits"].tolist() for bundle in loaded.members] == [[[-0.5, 0.5]] * 2] * 2


def test_the_mixture_is_calibrated_as_the_card_says(tmp_path: Path) -> None:
    stacked = {"coefficients": [[0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]], "intercepts": [0.5, 0.0]}
    members = np.array([[[0.2, 0.8]], [[0.4, 0.6]]])
    found = {}
    for name, changes in {"plain": {}, "warm": {"temperature": 2.0}, "stacked": {"mixture": stacked}}.items():
        save_bundle(tmp_path / f"{name}.onnx", join([tiny_model(), tiny_model()]), joined_card(**changes))
        found[name] = load_ensemble(tmp_path / f"{name}.onnx").probabilities(members)[0]
    assert found["plain"] == pytest.approx([0.3, 0.7])
    assert found["warm"] == pytest.approx(np.sqrt([0.3, 0.7]) / np.sqrt([0.3, 0.7]).sum())
    logits = 0.5 * np.log(0.8 / 0.2) + 0.5 * np.log(0.6 / 0.4) + 0.5
    assert found["stacked"][0] == pytest.approx(1 / (1 + np.exp(-logits)))


def test_what_is_no_ensemble_is_refused(tmp_path: Path) -> None:
    save_bundle(tmp_path / "one.onnx", tiny_model(), CARD)
    with pytest.raises(BundleError, match="is no ensemble but one classifier"):
        load_ensemble(tmp_path / "one.onnx")
    save_bundle(tmp_path / "both.onnx", join([tiny_model(), tiny_model()]), joined_card())
    with pytest.raises(BundleError, match="is an ensemble of 2 models"):
        load_bundle(tmp_path / "both.onnx")
    three = (*joined_card().members, CARD.as_values())
    save_bundle(
        tmp_path / "lacks.onnx",
        join([tiny_model(), tiny_model()]),
        joined_card(members=three, mixture={"weights": [0.5, 0.25, 0.25]}),
    )
    with pytest.raises(BundleError, match=r"lacks.onnx is damaged \(it lacks the model 2/\)"):
        load_ensemble(tmp_path / "lacks.onnx")


def nested_card(depth: int) -> dict[str, Any]:
    card = CARD.as_values()
    for _ in range(depth):
        card = {**card, "kind": "ensemble", "members": [card, CARD.as_values()], "mixture": {"weights": [0.5, 0.5]}}
    return card


TAGGER = {**CARD.as_values(), "task": "multi_label", "activation": "sigmoid"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"members": ()}, "has 0 members"),
        ({"members": ({}, {})}, "no format version"),
        ({"members": ("a", "b")}, "not a JSON object"),
        ({"mixture": {"weights": [1.0]}}, "damaged mixture"),
        ({"mixture": {}}, "damaged mixture"),
        ({"mixture": "mean"}, "damaged mixture"),
        ({"mixture": {"weights": (10**400, 0)}}, r"weights \(1000.*\.\.\. are no table of numbers"),
        ({"members": (nested_card(300), CARD.as_values())}, "has an ensemble among its members"),
        ({"members": (CARD.as_values(), TAGGER)}, r"is a classifier of quiet, loud \(multi_label, sigmoid\)"),
        ({"task": "multi_label"}, "says task=multi_label"),
        ({"labels": ("quiet", "noisy")}, "is a classifier of quiet, loud"),
    ],
)
def test_damaged_cards_of_ensembles_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        joined_card(**changes)
