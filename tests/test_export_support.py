"""Exported bundles tell what is unlike their training music, and say why they are unsure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from musicgenre import Classifier
from musicgenre.bundle import BundleCard, load_bundle, read_card, save_bundle
from musicgenre.bundle.ensemble import join
from musicgenre.data.manifest import Manifest
from musicgenre.errors import BundleError
from musicgenre.evaluation.ensemble import ensemble
from musicgenre.exporting import network_graph
from musicgenre.exporting.export import export_run
from musicgenre.models.registry import create_model
from musicgenre.models.support import RIGHT_ANSWERS_LOST, fit_support
from musicgenre.runs.folder import open_run
from musicgenre.training.train import train
from tests.cli import run
from tests.labelled_music import make_collection
from tests.toy import RATE_HZ, save_toy

pytestmark = pytest.mark.usefixtures("checked_on_short_tracks")

SPLIT = ["protocol.options={test_size: 0.17, validation_size: 0.4}", "data.labels=[]", "training.epochs=3"]
SHORT_SEGMENTS = ("representation.options.segment_s=0.5", "representation.hop_s=0.5")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs on tones that 24 validation tracks are enough for."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MUSICGENRE_CACHE", str(folder / "cache"))
        collection = make_collection(folder / "music", tracks_a_label=20, duration_s=1.0)
        for name, seed in (("mfcc-mlp", 0), ("again", 1)):
            overrides = [*SPLIT, *SHORT_SEGMENTS, f"training.seed={seed}"]
            train("mfcc-mlp", collection, output=folder / name, overrides=overrides)
    return folder


@pytest.fixture(scope="module")
def bundle(runs: Path) -> Path:
    return export_run(runs / "mfcc-mlp").path


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))


def manifest_of(folder: Path) -> Manifest:
    manifest = open_run(folder).manifest()
    assert manifest is not None
    return manifest


def noise(duration_s: float = 3.0) -> np.ndarray:
    return np.random.default_rng(8).normal(0.0, 0.2, round(duration_s * 22_050)).astype(np.float32)


def test_the_statistics_travel_in_the_card_and_the_graph_gives_what_they_are_of(bundle: Path) -> None:
    card = read_card(bundle)
    assert card.format_version == 4
    assert card.support["reads"] == "embedding" and card.known_music is not None
    assert "What is unlike" in card.notes and "validation tracks, which set it" in card.notes

    model = onnx.load(bundle)
    onnx.checker.check_model(model, full_check=True)
    assert [output.name for output in model.graph.output] == ["logits", "embedding"]
    outputs = load_bundle(bundle).run(np.zeros((2, card.segment_samples)))
    assert outputs["embedding"].shape == (2, card.known_music.centre.size)


def test_what_is_unlike_the_training_music_is_unsure(runs: Path, bundle: Path) -> None:
    classifier = Classifier(str(bundle))
    answer = classifier.classify(noise(), sample_rate_hz=22_050)
    assert (answer.genre, answer.reason) == ("unsure", "unlike the training music")

    plain = Classifier(str(bundle), reject="none").classify(noise(), sample_rate_hz=22_050)
    assert plain.genre == next(iter(answer.scores)) and plain.reason is None and plain.scores == answer.scores

    tracks = [track for track in manifest_of(runs / "mfcc-mlp").tracks if track.split == "validation"]
    named = [classifier.classify(track.path) for track in tracks]
    n_right = sum(next(iter(answer.scores)) == track.label for answer, track in zip(named, tracks, strict=True))
    n_lost = sum(answer.reason == "unlike the training music" for answer in named)
    assert n_right >= 20 and n_lost <= 1 + RIGHT_ANSWERS_LOST * n_right


def test_the_test_part_decides_nothing(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []

    def listen(segments: Any, **options: Any) -> Any:
        heard.append("fit")
        return fit_support(segments, **options)

    monkeypatch.setattr("musicgenre.exporting.support.fit_support", listen)
    first = export_run(runs / "mfcc-mlp", tmp_path / "first.onnx").card

    monkeypatch.setattr("musicgenre.exporting.support.tracks_at_hand", without_test_part)
    second = export_run(runs / "mfcc-mlp", tmp_path / "second.onnx").card
    assert heard == ["fit", "fit"]
    assert first.support == second.support and first.notes == second.notes


def without_test_part(run: Any) -> list[Any]:
    return [track for track in run.manifest().tracks if track.split != "test"]


def test_without_the_statistics_a_bundle_is_as_before(runs: Path, tmp_path: Path) -> None:
    done = run("export", runs / "mfcc-mlp", "--output", tmp_path / "plain.onnx", "--no-support", "--quiet")
    assert done.returncode == 0, done.stderr
    card = read_card(tmp_path / "plain.onnx")
    assert card.support == {} and card.format_version == 1 and "unlike" not in card.notes
    answer = Classifier(str(tmp_path / "plain.onnx")).classify(noise(), sample_rate_hz=22_050)
    assert answer.reason != "unlike the training music"


def test_a_network_that_reads_a_vector_gives_that(runs: Path) -> None:
    normalise, network = torch.nn.BatchNorm1d(7).eval(), create_model("table-mlp", (7,), 3).eval()
    telling = network_graph.with_embedding(normalise, network)
    assert telling is not None
    x = torch.randn(5, 7)
    logits, embedding = telling(x)
    torch.testing.assert_close(embedding, normalise(x))
    torch.testing.assert_close(logits, network(normalise(x)))

    # Of what has a time axis, it is what the last layer reads.
    network = create_model("mfcc-mlp", (4, 7), 3).eval()
    telling = network_graph.with_embedding(torch.nn.Identity(), network)
    assert telling is not None
    x = torch.randn(5, 4, 7)
    torch.testing.assert_close(telling(x)[1], network.forward_features(x))


def test_too_wide_an_embedding_leaves_the_logits(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_graph, "WIDEST_EMBEDDING", 3)
    card = export_run(runs / "mfcc-mlp", tmp_path / "narrow.onnx").card
    assert card.support["reads"] == "logits" and card.known_music is not None
    assert card.known_music.centre.size == 3
    assert [output.name for output in onnx.load(tmp_path / "narrow.onnx").graph.output] == ["logits"]
    answer = Classifier(str(tmp_path / "narrow.onnx")).classify(noise(), sample_rate_hz=22_050)
    assert np.isfinite(answer.confidence)


def test_a_bundle_that_cannot_tell_says_why(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def note(name: str) -> str:
        card = export_run(runs / "mfcc-mlp", tmp_path / f"{name}.onnx").card
        assert card.support == {}
        return card.notes

    tracks = manifest_of(runs / "mfcc-mlp").tracks
    with monkeypatch.context() as patched:
        patched.setattr("musicgenre.exporting.support.tracks_at_hand", lambda run: [])
        assert "0 training and 0 validation tracks are at hand" in note("gone")
        wrong = [replace(track, label="metal") for track in tracks]
        patched.setattr("musicgenre.exporting.support.tracks_at_hand", lambda run: wrong)
        assert "are answered rightly, and 20 are needed" in note("wrong")
    monkeypatch.setattr("musicgenre.exporting.support.is_leaky", lambda protocol: True)
    assert "there is no honest validation part" in note("leaky")


def test_each_model_of_an_ensemble_knows_its_music(runs: Path, tmp_path: Path) -> None:
    made = ensemble([runs / "mfcc-mlp", runs / "again"], tmp_path / "both").folder
    exported = export_run(made)
    card = exported.card
    assert card.format_version == 4, card.notes
    assert [member["support"]["reads"] for member in card.members] == ["embedding"] * 2
    answer = Classifier(str(exported.path)).classify(noise(), sample_rate_hz=22_050)
    assert (answer.genre, answer.reason) == ("unsure", "unlike the training music")


SUPPORT = {
    "reads": "logits",
    "limit": 1.0,
    "least_tags": 0.0,
    "ceilings": {},
    "centre": [0.0, 0.0],
    "scale": [1.0, 1.0],
    "axes": [[0.6, -0.8]],
}


def test_a_track_of_logits_beyond_the_limit(tmp_path: Path) -> None:
    toy = save_toy(tmp_path / "toy.onnx", support=SUPPORT)
    classifier = Classifier(str(toy))
    # Logits are (20 m - 2, 2 - 20 m) for an amplitude m: near 0 at 0.1, far at 0.9.
    near, far = (np.full(4 * RATE_HZ, level, np.float32) for level in (0.1, 0.9))
    assert classifier.classify(near, sample_rate_hz=RATE_HZ).reason is None
    assert classifier.classify(far, sample_rate_hz=RATE_HZ).reason == "unlike the training music"


@pytest.mark.parametrize(
    "changes",
    [
        {"reads": "tags"},
        {"reads": None},
        {"centre": [0.0] * 3, "scale": [1.0] * 3},
        {"ceilings": {"loud": [0.5, 0.5]}},
        {"scale": [0.0, 1.0]},
        {"limit": float("1e400")},
        {"axes": [[1.0]]},
    ],
)
def test_a_damaged_support_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="support"):
        save_toy(tmp_path / "toy.onnx", support={**SUPPORT, **changes})


def test_a_tagger_has_none(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="of a classifier"):
        save_toy(tmp_path / "toy.onnx", support=SUPPORT, thresholds=(0.5, 0.5))


def test_a_graph_that_does_not_give_what_is_read_is_refused(bundle: Path, tmp_path: Path) -> None:
    toy = save_toy(tmp_path / "toy.onnx", support={**SUPPORT, "reads": "embedding"})
    with pytest.raises(BundleError, match=r"does not do what its card says.*embedding \(rows, 2\)"):
        load_bundle(toy)

    card = read_card(bundle)
    narrow = {name: values[:2] for name, values in card.support.items() if name in ("centre", "scale")}
    cut = {**card.support, **narrow, "axes": [axis[:2] for axis in card.support["axes"]]}
    save_bundle(tmp_path / "cut.onnx", bundle.read_bytes(), BundleCard(**{**card.as_values(), "support": cut}))
    with pytest.raises(BundleError, match="does not do what its card says"):
        load_bundle(tmp_path / "cut.onnx")


@pytest.mark.parametrize(
    ("duration_s", "rate_hz", "level", "reason"),
    [
        (4.0, 16_000, 0.1, "low confidence"),
        (2.0, 16_000, 0.1, "too short"),
        (4.0, 4_000, 0.1, "low sample rate"),
        (2.0, 4_000, 0.1, "too short"),
        (2.0, 4_000, 0.5, None),  # sure all the same: the warning alone
    ],
)
def test_what_a_track_lacks_is_the_reason(
    duration_s: float, rate_hz: int, level: float, reason: str | None, tmp_path: Path
) -> None:
    classifier = Classifier(str(save_toy(tmp_path / "toy.onnx", unsure_threshold=0.9)))
    samples = np.full(round(duration_s * rate_hz), level, np.float32)
    answer = classifier.classify(samples, sample_rate_hz=rate_hz)
    assert answer.reason == reason
    if reason not in (None, "low confidence"):
        assert any(str(reason) in warning for warning in answer.warnings)


def test_with_statistics_less_than_a_segment_is_too_short(tmp_path: Path) -> None:
    toys = [save_toy(tmp_path / "a.onnx"), save_toy(tmp_path / "b.onnx", support={**SUPPORT, "limit": 1e6})]
    click = np.full(RATE_HZ // 2, 0.5, np.float32)
    before, now = (Classifier(str(toy)).classify(click, sample_rate_hz=RATE_HZ) for toy in toys)
    assert before.reason is None, "as it was"
    assert (now.genre, now.reason) == ("unsure", "too short")


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ((1.0, 9e5, 9e5), None),
        ((1.0, 1.0, 9e5), "unlike the training music"),
        ((1.0, None, 9e5), "unlike the training music"),
        ((None, None, None), None),
    ],
)
def test_half_of_those_that_know_decides(limits: tuple[float | None, ...], reason: str | None, tmp_path: Path) -> None:
    toy = save_toy(tmp_path / "toy.onnx", labels=("loud", "quiet"))
    card = read_card(toy)
    members = []
    for limit in limits:
        support = {} if limit is None else {**SUPPORT, "limit": limit}
        members.append(replace(card, support=support).as_values())
    mixture = {"weights": [1 / 3] * 3}
    together = replace(card, name="toys", kind="ensemble", members=tuple(members), mixture=mixture)
    save_bundle(tmp_path / "toys.onnx", join([toy.read_bytes()] * 3), together)
    loud = np.full(4 * RATE_HZ, 0.9, np.float32)
    assert Classifier(str(tmp_path / "toys.onnx")).classify(loud, sample_rate_hz=RATE_HZ).reason == reason
