"""What MusiCNN hears, as a representation: values, tails, weights and the cache."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from musicgenre.bundle import load_bundle
from musicgenre.data.index import index_folder
from musicgenre.errors import BundleError, UsageError
from musicgenre.features.prepare import prepare
from musicgenre.features.published.musicnn.published import HOP_SAMPLES, published
from musicgenre.features.published.musicnn.weights import random_variables, read_variables, variables_path
from musicgenre.features.registry import create_representation, representation_from_settings
from musicgenre.features.representations import musicnn
from musicgenre.features.representations.musicnn import SHORTEST_SAMPLES, MusiCnn
from tests import musicnn_reference
from tests.published_weights import publish
from tests.published_weights import random_variables as lively_variables

WIDTHS = {"embedding": 200, "tags": 50, "mean": 753, "max": 753, "dense": 200}


def noise(n_samples: int, seed: int = 3) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (0.2 * rng.standard_normal(n_samples) * np.linspace(0.1, 1.0, n_samples)).astype(np.float32)


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A published wheel with random weights, an empty cache, and no session from another test."""
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("musicgenre.features.published.musicnn.weights.installed_copy", lambda: None)
    musicnn._session.cache_clear()
    yield publish(monkeypatch, tmp_path, "msd-musicnn", lively_variables("musicnn", np.random.default_rng(4), 0.9))
    musicnn._session.cache_clear()


@pytest.mark.parametrize("output", WIDTHS)
def test_every_output_is_the_mean_over_the_patches(output: str) -> None:
    waveform = noise(2 * HOP_SAMPLES + 5_000)
    heard = MusiCnn(output=output, weights="none")
    assert heard.shape() == (WIDTHS[output],)
    read = random_variables("musicnn").__getitem__
    patches = musicnn_reference.patches(waveform)
    assert len(patches) == 2
    expected = np.mean([musicnn_reference.outputs(patch, read)[output] for patch in patches], axis=0)
    np.testing.assert_allclose(heard.compute(waveform), expected, rtol=1e-3, atol=2e-4)


def test_constant_channels_keep_their_place_in_the_pools(wheel: Path) -> None:
    """Nine in ten filters of the first layer are zero, as published; the graph leaves them out, the pools do not."""
    variables = read_variables([published("msd-musicnn")], source=wheel)["msd-musicnn"]
    waveform = noise(HOP_SAMPLES + 600)
    expected = musicnn_reference.outputs(musicnn_reference.patches(waveform)[0], variables.__getitem__)
    for output in ("mean", "max"):
        heard = MusiCnn(output=output).compute(waveform)
        np.testing.assert_allclose(heard, expected[output], rtol=1e-3, atol=2e-4)


def test_vgg_has_no_pools() -> None:
    heard = MusiCnn(model="mtt-vgg", weights="none")
    assert heard.shape() == heard.compute(noise(SHORTEST_SAMPLES)).shape == (256,)
    with pytest.raises(UsageError, match=r"output of mtt-vgg named 'mean'. Valid: embedding, tags"):
        MusiCnn(model="mtt-vgg", output="mean")


def test_a_partial_tail_is_left_out_and_a_short_waveform_repeated() -> None:
    heard = MusiCnn(weights="none")
    whole = noise(SHORTEST_SAMPLES + HOP_SAMPLES + 600)
    np.testing.assert_array_equal(heard.compute(np.append(whole, noise(7_000))), heard.compute(whole))
    short = whole[:20_000]
    np.testing.assert_array_equal(heard.compute(short), heard.compute(np.resize(short, SHORTEST_SAMPLES)))
    assert not np.array_equal(heard.compute(short), heard.compute(np.pad(short, (0, SHORTEST_SAMPLES - len(short)))))


def test_segments_of_a_chosen_length() -> None:
    heard = MusiCnn(segment_s=6.0, weights="none")
    waveform = noise(8 * 16_000)
    np.testing.assert_array_equal(heard.compute(waveform), MusiCnn(weights="none").compute(waveform[:96_000]))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "msd-musicn"}, "Nearest: 'msd-musicnn'"),
        ({"output": "penultimate"}, "Valid: embedding, tags, mean, max"),
        ({"weights": "imagenet"}, "Valid: published, none"),
        ({"segment_s": 0.0}, "segment_s=0.0 is not positive"),
    ],
)
def test_options_that_do_not_exist(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        create_representation("musicnn", **options)


def test_settings_name_the_weights_and_other_weights_are_refused() -> None:
    heard = create_representation("musicnn")
    settings = heard.settings()
    assert settings["weights_sha256"] == published("msd-musicnn").data_sha256
    assert representation_from_settings(settings).settings() == settings
    with pytest.raises(UsageError, match="made with other weights of msd-musicnn"):
        representation_from_settings({**settings, "weights_sha256": "0" * 64})
    assert create_representation("musicnn", weights="none").settings() != settings
    assert len(pickle.dumps(heard)) < 500, "workers are sent its options alone"


def test_weights_are_kept_and_read_again(wheel: Path) -> None:
    model = published("msd-musicnn")
    with pytest.raises(BundleError, match="Three ways"):
        read_variables([model], allow_network=False)
    first = read_variables([model], source=wheel)["msd-musicnn"]
    wheel.unlink()
    again = read_variables([model], allow_network=False)["msd-musicnn"]
    assert all(np.array_equal(first[name], again[name]) for name in first | again)
    content = variables_path(model).read_bytes()
    for damaged in (content[:-2_000], b"", content[:40_000] + b"\0" * 40 + content[40_040:]):
        variables_path(model).write_bytes(damaged)
        with pytest.raises(BundleError, match="not on this machine"):
            read_variables([model], allow_network=False)


def test_prepared_once_per_track_in_several_threads(tmp_path: Path) -> None:
    for number in range(3):
        path = tmp_path / "music" / "rock" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise(20_000, number), 16_000)
    manifest = index_folder(tmp_path / "music").manifest
    heard = MusiCnn(weights="none")
    made = prepare(manifest, heard, tmp_path / "one", jobs=2, cache=tmp_path / "cache")
    assert (made.computed, made.reused, made.n_rows) == (3, 0, 3)
    again = prepare(manifest, heard, tmp_path / "two", cache=tmp_path / "cache")
    assert (again.computed, again.reused) == (0, 3)
    tags = prepare(manifest, MusiCnn(weights="none", output="tags"), tmp_path / "tags", cache=tmp_path / "cache")
    assert tags.computed == 3
    stored = np.asarray(made.open().everything.features[:])
    np.testing.assert_array_equal(
        stored[0], heard.compute(soundfile.read(manifest.tracks[0].path, dtype="float32")[0])
    )


@pytest.mark.real_data
@pytest.mark.default_model
@pytest.mark.parametrize("output", ["embedding", "tags"])
def test_agrees_with_the_default_bundle_on_a_real_track(
    output: str, shared_data: Path, default_bundle_cache: Path
) -> None:
    from musicgenre.audio import load
    from tests.test_bundle_musicnn import cut

    try:
        read_variables([published("msd-musicnn")])
    except BundleError as error:
        pytest.skip(f"no published MusiCNN weights: {error}")
    waveform = load(shared_data / "gtzan-mini/genres/blues/blues.00000.wav", 16_000).waveform
    bundle = load_bundle(default_bundle_cache / "bundles" / "msd-musicnn.onnx", threads=1)
    expected = bundle.run(cut(waveform))[output].mean(axis=0)
    np.testing.assert_allclose(MusiCnn(output=output).compute(waveform), expected, atol=1e-5)
