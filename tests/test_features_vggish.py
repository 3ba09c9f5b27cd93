"""VGGish's front end against its formula, its embedding against the layers, its files against tampering."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from musicgenre.audio import load
from musicgenre.errors import BundleError, UsageError
from musicgenre.features.base import cut
from musicgenre.features.mel import reference
from musicgenre.features.published.vggish import network as _vggish
from musicgenre.features.published.vggish.files import PCA, WEIGHTS
from musicgenre.features.registry import create_representation, representation_from_settings
from musicgenre.features.representations import vggish as representation
from musicgenre.features.representations.melspectrogram import VGGISH
from musicgenre.features.representations.vggish import HOP_S, Vggish, examples_of, samples_of
from musicgenre.models.cards import cards_in_use
from tests.published_vggish import write_network, write_pca


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network."""

    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", refuse)


@pytest.fixture
def small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quick stand-in for the network: the mean of every example in each of 128 values."""

    def means(network: object, examples: np.ndarray) -> np.ndarray:
        return np.repeat(examples.mean(axis=(1, 2))[:, None], 128, axis=1)

    monkeypatch.setattr(_vggish, "embed", means)
    monkeypatch.setattr(_vggish, "network_of", lambda *_: None)


def noise(seconds: float, seed: int = 3) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(round(seconds * 16_000)) * 0.2).astype(np.float32)


def examples_by_formula(waveform: np.ndarray) -> np.ndarray:
    """The published front end in float64, frame by frame and band by band."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi / 400 * np.arange(400))
    n_frames = 1 + (len(waveform) - 400) // 160
    frames = np.stack([waveform[160 * t : 160 * t + 400] * hann for t in range(n_frames)])
    magnitude = np.abs(np.fft.rfft(frames, 512))

    def mel(hz: float) -> float:
        return 1127.0 * float(np.log(1.0 + hz / 700.0))

    edges = np.linspace(mel(125.0), mel(7500.0), 66)
    weights = np.zeros((257, 64))
    for band in range(64):
        low, middle, high = edges[band : band + 3]
        for k in range(1, 257):  # HTK leaves the lowest bin out
            height = mel(k * 8000 / 256)
            weights[k, band] = max(0.0, min((height - low) / (middle - low), (high - height) / (high - middle)))
    log_mel = np.log(magnitude @ weights + 0.01)
    whole = n_frames // 96
    return log_mel[: 96 * whole].reshape(whole, 96, 64)


def test_front_end_is_the_published_formula() -> None:
    waveform = noise(3.0)
    expected = examples_by_formula(waveform.astype(np.float64))
    exact = reference.melspectrogram(waveform, VGGISH).T[: 3 * 96].reshape(3, 96, 64)
    assert expected.shape == (3, 96, 64)
    np.testing.assert_allclose(exact, expected, atol=1e-12, rtol=1e-12)
    np.testing.assert_allclose(examples_of(waveform), expected, atol=2e-5)


def test_front_end_on_a_real_track(shared_data: Path) -> None:
    waveform = load(shared_data / "gtzan-mini" / "genres" / "blues" / "blues.00000.wav", 16_000).waveform
    examples = examples_of(waveform)
    assert examples.shape == (31, 96, 64)
    np.testing.assert_allclose(examples, examples_by_formula(waveform.astype(np.float64)), atol=1e-4)


def test_filters_have_no_unit_area_and_leave_the_lowest_bin_out() -> None:
    filters = reference.mel_filters(VGGISH)
    assert filters.shape == (64, 257)
    assert not filters[:, 0].any()
    assert 0.9 < filters.max() <= 1.0


def test_a_magnatagatune_clip_holds_thirty_examples() -> None:
    clip = noise(29.12)
    assert len(examples_of(clip)) == 30
    made = create_representation("vggish", output="examples", n_examples=30)
    assert made.shape() == (30, 96, 64) and made.segment_s == pytest.approx(28.815)
    values = made.compute(clip)
    assert np.array_equal(values, examples_of(clip))
    last = clip[round(29 * HOP_S * 16_000) :]
    assert np.array_equal(values[29], examples_of(last)[0]), "the thirtieth spans 27.84 to 28.815 s"


def test_segments_cut_every_hop_are_the_examples() -> None:
    clip = noise(5.0)
    starts_s, segments = cut(clip, 16_000, samples_of(1) / 16_000, HOP_S)
    one = Vggish(output="examples", n_examples=1)
    mel = create_representation("melspectrogram", preset="vggish")
    rows = np.concatenate([one.compute(segment) for segment in segments])
    assert np.array_equal(rows, examples_of(clip)) and len(rows) == 5
    assert starts_s.tolist() == pytest.approx([0.0, 0.96, 1.92, 2.88, 3.84])
    assert np.array_equal(mel.compute(segments[2]).T, rows[2])


def test_short_sounds_get_zeros_behind_them() -> None:
    assert examples_of(noise(0.5)).shape == (1, 96, 64)
    np.testing.assert_allclose(examples_of(np.zeros(0, np.float32)), np.log(0.01), rtol=1e-5)


def test_embedding_is_that_of_the_layers_flattened_channels_last(tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    values = write_network(path)
    generator = torch.Generator().manual_seed(2)  # channels, rows and columns differ, so that their order counts
    values["features.13.weight"] = torch.randn(512, 512, 3, 3, generator=generator) * 0.02
    values["embeddings.0.weight"] = (torch.randn(1, 12288, generator=generator) * 0.01).expand(4096, 12288)
    torch.save(values, path)
    waveform = noise(2.0)
    x = torch.from_numpy(examples_of(waveform))[:, None]  # (2, 1, 96, 64)
    for layer, pooled in ((0, True), (3, True), (6, False), (8, True), (11, False), (13, True)):
        x = functional.conv2d(
            x, values[f"features.{layer}.weight"], values[f"features.{layer}.bias"], padding=1
        ).relu()
        x = functional.max_pool2d(x, 2) if pooled else x
    assert x.shape == (2, 512, 6, 4)
    x = torch.from_numpy(np.ascontiguousarray(x.numpy().transpose(0, 2, 3, 1)).reshape(2, 12288))
    for layer in (0, 2, 4):
        x = functional.linear(x, values[f"embeddings.{layer}.weight"], values[f"embeddings.{layer}.bias"])
        x = x.relu() if layer < 4 else x
    got = Vggish(n_examples=2, pool="none", weights=str(path)).compute(waveform)
    np.testing.assert_allclose(got, x.numpy(), rtol=1e-3)
    pooled_over_track = Vggish(weights=str(path)).compute(waveform)
    np.testing.assert_allclose(pooled_over_track, got.mean(axis=0), rtol=1e-5)


def test_quantised_is_pca_clipped_and_rounded_down(tmp_path: Path) -> None:
    vectors, means = write_pca(tmp_path / "pca.npz")
    embeddings = np.random.default_rng(1).normal(scale=3.0, size=(5, 128)).astype(np.float32)
    got = _vggish.quantised(embeddings, _vggish.read_pca(tmp_path / "pca.npz"))
    expected = np.empty((5, 128))
    for row in range(5):
        for column in range(128):
            value = sum(
                float(vectors[column, k]) * (float(embeddings[row, k]) - float(means[k, 0])) for k in range(128)
            )
            expected[row, column] = int((min(2.0, max(-2.0, value)) + 2.0) * 255.0 / 4.0)
    assert np.array_equal(got, expected)
    assert got.min() == 0 and got.max() == 255


@pytest.mark.usefixtures("small_network")
def test_quantised_output_and_its_settings(tmp_path: Path) -> None:
    write_pca(tmp_path / "pca.npz")
    made = Vggish(output="quantised", n_examples=3, pool="none", weights="none", pca=str(tmp_path / "pca.npz"))
    values = made.compute(noise(3.0))
    assert values.shape == made.shape() == (3, 128) and values.dtype == np.float32
    assert np.array_equal(values, np.floor(values)) and values.min() >= 0 and values.max() <= 255
    settings = made.settings()
    assert settings["pca_sha256"] == hashlib.sha256((tmp_path / "pca.npz").read_bytes()).hexdigest()
    assert representation_from_settings(settings).settings() == settings


@pytest.mark.parametrize("content", ["rubbish", "pickle", "other names", "other shapes"])
def test_files_that_are_no_pca_are_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "pca.npz"
    if content == "rubbish":
        path.write_bytes(b"rubbish")
    elif content == "pickle":
        np.savez(path, pca_eigen_vectors=np.array([{}], dtype=object), pca_means=np.zeros(128))
    elif content == "other names":
        np.savez(path, vectors=np.eye(128))
    else:
        np.savez(path, pca_eigen_vectors=np.eye(64), pca_means=np.zeros(64))
    with pytest.raises(BundleError, match="cannot be read as PCA"):
        _vggish.read_pca(path)


def test_settings_carry_the_checksum_of_the_weights(tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    write_network(path)
    made = Vggish(weights=str(path))
    settings = json.loads(json.dumps(made.settings()))
    assert settings["weights_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    again = representation_from_settings(settings)
    assert again.settings() == settings
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(BundleError, match="another SHA-256 than expected"):
        again.compute(noise(1.0))
    assert pickle.loads(pickle.dumps(made)).settings()["weights_sha256"] != settings["weights_sha256"]


@pytest.mark.usefixtures("offline", "cache")
def test_missing_weights_say_how_to_get_them(tmp_path: Path) -> None:
    made = Vggish()
    assert made.settings()["weights_sha256"] == WEIGHTS.sha256 == "10086976", "known without the file"
    with pytest.raises(BundleError, match=r"no network.*Fetch https://.*--set representation.options.weights=FILE"):
        made.compute(noise(1.0))
    with pytest.raises(BundleError, match=r"no file .*published.*Fetch https://"):
        Vggish(weights=str(tmp_path / "nowhere.pth")).compute(noise(1.0))
    with pytest.raises(BundleError, match=r"vggish_pca_params.npz .*representation.options.pca=FILE"):
        Vggish(output="quantised").settings()


@pytest.mark.usefixtures("offline", "small_network")
def test_a_path_of_another_machine_gives_way_to_the_published_file(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = cache / "weights" / WEIGHTS.file
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"weights")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    elsewhere = Vggish(weights=str(tmp_path / "gone.pth"), weights_sha256=sha256)
    with pytest.raises(BundleError, match="no file"):
        elsewhere.compute(noise(1.0))
    published = type(WEIGHTS)(WEIGHTS.file, WEIGHTS.url, sha256[:8])
    monkeypatch.setattr(representation, "WEIGHTS", published)
    assert elsewhere.compute(noise(1.0)).shape == (128,)


@pytest.mark.usefixtures("cache")
def test_a_damaged_published_file_is_refused(cache: Path) -> None:
    kept = cache / "weights" / WEIGHTS.file
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"something else")
    with pytest.raises(BundleError, match="should begin with 10086976"):
        Vggish().compute(noise(1.0))


def test_cards_name_the_published_files_in_use(tmp_path: Path) -> None:
    assert [card.file for card in cards_in_use(Vggish(output="quantised"))] == [WEIGHTS.file, PCA.file]
    assert [card.sha256 for card in cards_in_use(Vggish(weights=str(tmp_path / WEIGHTS.file)))] == ["10086976"]
    for without in ({"weights": "none"}, {"output": "examples", "n_examples": 1}):
        assert not cards_in_use(Vggish(**without))  # type: ignore[arg-type]


@pytest.mark.usefixtures("offline", "cache")
def test_files_are_asked_for_before_the_work_begins() -> None:
    with pytest.raises(BundleError, match=r"vggish-10086976.pth are not in"):
        Vggish().make_ready()
    with pytest.raises(BundleError, match=r"vggish_pca_params.npz are not in"):
        Vggish(output="quantised", weights="none").make_ready()
    Vggish(output="examples", n_examples=1).make_ready()


def test_wrong_options_say_what_would_be_right() -> None:
    with pytest.raises(UsageError, match="Nearest: 'embedding'"):
        Vggish(output="embeding")
    with pytest.raises(UsageError, match="Valid: mean, none"):
        Vggish(pool="median")
    with pytest.raises(UsageError, match="1 or more"):
        Vggish(n_examples=0)
    for wrong in ({"output": "examples"}, {"pool": "none"}):
        with pytest.raises(UsageError, match="n_examples is not given"):
            Vggish(**wrong)  # type: ignore[arg-type]


def test_the_published_files_pass_the_published_check() -> None:
    """The authors' own check: mean and deviation of the embedding of a 1 kHz tone, within a tenth."""
    folder = os.environ.get("MUSICGENRE_TEST_WEIGHTS")
    if folder is None or not (Path(folder) / WEIGHTS.file).is_file() or not (Path(folder) / PCA.file).is_file():
        pytest.skip("set MUSICGENRE_TEST_WEIGHTS to a folder with the published VGGish files")
    tone = np.sin(2 * np.pi * 1000 * np.arange(48_000) / 16_000).astype(np.float32)
    raw = Vggish(n_examples=3, pool="none", weights=str(Path(folder) / WEIGHTS.file))
    assert float(raw.compute(tone).std()) == pytest.approx(0.343, rel=0.1)
    files = {"weights": str(Path(folder) / WEIGHTS.file), "pca": str(Path(folder) / PCA.file)}
    values = Vggish(output="quantised", n_examples=3, pool="none", **files).compute(tone)  # type: ignore[arg-type]
    assert (float(values.mean()), float(values.std())) == pytest.approx((126.0, 89.3), rel=0.1)
