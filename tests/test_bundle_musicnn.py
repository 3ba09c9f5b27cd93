from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from musicgenre.bundle import Bundle, load_bundle, save_bundle
from musicgenre.bundle.musicnn import convert
from musicgenre.errors import BundleError, UsageError
from musicgenre.features.published.musicnn.published import (
    HOP_SAMPLES,
    LEAD_SAMPLES,
    PUBLISHED,
    SEGMENT_SAMPLES,
    published,
)
from musicgenre.features.published.musicnn.weights import read_variables
from tests import musicnn_reference
from tests.published_weights import Variables, random_variables

TOLERANCE = 1e-4
REFERENCES = {"musicnn": musicnn_reference.musicnn, "vgg": musicnn_reference.vgg}


def cut(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """All whole segments, by the framing rule of the card."""
    edge = np.zeros(LEAD_SAMPLES, dtype=np.float32)
    padded = np.concatenate([edge, waveform, edge])
    n = 1 + (len(padded) - SEGMENT_SAMPLES) // HOP_SAMPLES
    return np.stack([padded[k * HOP_SAMPLES : k * HOP_SAMPLES + SEGMENT_SAMPLES] for k in range(n)])


def assert_agrees(bundle: Bundle, waveform: NDArray[np.float32], variables: Variables, family: str) -> None:
    """The first and the last patch of a waveform agree with the reference."""
    rows = cut(waveform)
    patches = musicnn_reference.patches(waveform)
    assert len(rows) == len(patches)
    outputs = bundle.run(rows[[0, -1]])
    for index, patch in enumerate((patches[0], patches[-1])):
        tags, embedding = REFERENCES[family](patch, variables.__getitem__)
        np.testing.assert_allclose(outputs["tags"][index], tags, atol=TOLERANCE)
        np.testing.assert_allclose(outputs["embedding"][index], embedding, atol=1e-3, rtol=1e-3)


@pytest.fixture(scope="module")
def music() -> NDArray[np.float32]:
    rng = np.random.default_rng(5)
    seconds = np.arange(2 * HOP_SAMPLES + 700) / 16_000
    tones = sum(
        np.sin(2 * np.pi * f * seconds) * np.sin(2 * np.pi * beat * seconds) for f, beat in ((220, 2), (990, 5))
    )
    return (0.2 * tones + 0.02 * rng.standard_normal(len(seconds))).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "dead_share"), [("msd-musicnn", 0.9), ("mtt-musicnn", 0.0), ("msd-musicnn", 0.99), ("msd-vgg", 0.0)]
)
def test_graph_agrees_with_the_reference(
    name: str, dead_share: float, music: NDArray[np.float32], tmp_path: Path, rng: np.random.Generator
) -> None:
    model = published(name)
    variables = random_variables(model.family, rng, dead_share)
    save_bundle(tmp_path / "m.onnx", *convert(model, variables.__getitem__))
    assert_agrees(load_bundle(tmp_path / "m.onnx"), music, variables, model.family)


@pytest.fixture(scope="module")
def random_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "msd-musicnn.onnx"
    variables = random_variables("musicnn", np.random.default_rng(2), 0.9)
    save_bundle(path, *convert(published("msd-musicnn"), variables.__getitem__))
    return path


def test_the_file_alone_cuts_a_whole_waveform_into_the_published_patches(
    random_bundle: Path, music: NDArray[np.float32]
) -> None:
    session = onnxruntime.InferenceSession(random_bundle, providers=["CPUExecutionProvider"])
    tags, embedding = session.run(["tags", "embedding"], {"waveform": music[None]})
    by_rows = load_bundle(random_bundle).run(cut(music))
    assert tags.shape == (2, 50)
    np.testing.assert_allclose(tags, by_rows["tags"], atol=1e-6)
    np.testing.assert_allclose(embedding, by_rows["embedding"], atol=1e-4)


@pytest.mark.parametrize("n_samples", [1, 255, 16_000, SEGMENT_SAMPLES - 513])
def test_the_file_alone_pads_what_is_shorter_than_a_patch(
    random_bundle: Path, music: NDArray[np.float32], n_samples: int
) -> None:
    session = onnxruntime.InferenceSession(random_bundle, providers=["CPUExecutionProvider"])
    short = music[:n_samples]
    filled = np.pad(short, (0, SEGMENT_SAMPLES - n_samples))
    tags = session.run(["tags"], {"waveform": short[None]})[0]
    assert tags.shape == (1, 50)
    np.testing.assert_allclose(tags[0], session.run(["tags"], {"waveform": filled[None]})[0][0], atol=1e-6)


def test_silence_gives_finite_answers(random_bundle: Path) -> None:
    outputs = load_bundle(random_bundle).run(np.zeros((1, SEGMENT_SAMPLES)))
    assert all(np.isfinite(values).all() for values in outputs.values())


@pytest.mark.parametrize("name", PUBLISHED)
def test_fifty_different_tags(name: str) -> None:
    assert len(set(published(name).tags)) == 50


def test_card_tells_framing_licence_and_origin(random_bundle: Path) -> None:
    card = load_bundle(random_bundle).card
    assert (card.segment_samples, card.hop_samples, card.lead_samples) == (48_128, 47_872, 256)
    assert card.licence.startswith("ISC. Copyright (c) Music Technology Group")
    assert "MSD_musicnn" in card.origin
    assert card.front_end["n_mels"] == 96


def test_dead_filters_are_left_out(random_bundle: Path) -> None:
    variables = random_variables("musicnn", np.random.default_rng(2), 0.0)
    whole, _ = convert(published("msd-musicnn"), variables.__getitem__)
    assert random_bundle.stat().st_size < len(whole) / 2


def test_unknown_names() -> None:
    with pytest.raises(UsageError, match="msd-musicnn, mtt-musicnn"):
        published("musicnn")


@pytest.fixture(scope="session")
def published_variables() -> dict[str, Variables]:
    """The published weights themselves; skips where they cannot be had."""
    try:
        return read_variables([published(name) for name in ("msd-musicnn", "mtt-musicnn")])
    except BundleError as error:
        pytest.skip(f"no published MusiCNN weights: {error}")


def read_track(path: Path) -> NDArray[np.float32]:
    import soundfile
    import soxr

    samples, rate = soundfile.read(path, dtype="float32")
    return np.asarray(soxr.resample(samples, rate, 16_000, quality="HQ"))


@pytest.mark.real_data
@pytest.mark.default_model
@pytest.mark.parametrize("name", ["msd-musicnn", "mtt-musicnn"])
def test_published_models_agree_with_the_reference_on_real_tracks(
    name: str, shared_data: Path, default_bundle_cache: Path, published_variables: dict[str, Variables]
) -> None:
    bundle = load_bundle(default_bundle_cache / "bundles" / f"{name}.onnx")
    assert bundle.card.tags == published(name).tags
    for track in ("blues/blues.00000", "metal/metal.00001", "classical/classical.00002"):
        waveform = read_track(shared_data / "gtzan-mini" / "genres" / f"{track}.wav")
        assert_agrees(bundle, waveform, published_variables[name], "musicnn")


@pytest.mark.real_data
@pytest.mark.default_model
def test_tags_agree_with_the_published_tag_files(shared_data: Path, default_bundle_cache: Path) -> None:
    """Those came from an older resampler: track means differ by 0.02 (median of the largest tag), up to 0.07."""
    bundle = load_bundle(default_bundle_cache / "bundles" / "msd-musicnn.onnx")
    theirs = np.load(shared_data / "gtzan-musicnn-tags" / "train_filtered.npz")
    differences = []
    for path in sorted((shared_data / "gtzan-mini" / "genres").glob("*/*.wav")):
        rows = theirs["IDS"] == f"{path.parent.name}/{path.stem}.au"
        if rows.any() and len(differences) < 12:
            tags = bundle.run(cut(read_track(path)))["tags"].mean(axis=0)
            differences.append(np.abs(tags - theirs["X"][rows].mean(axis=0)).max())
    assert len(differences) == 12
    assert np.median(differences) < 0.035
    assert max(differences) < 0.1
