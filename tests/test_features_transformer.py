"""The representation ``transformer``: cached by its weights, sent to workers without them, made again."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from musicgenre.data.manifest import read_manifest
from musicgenre.errors import BundleError, UsageError
from musicgenre.features.prepare import prepare
from musicgenre.features.registry import create_representation, representation_from_settings
from tests.fresh import run_python
from tests.labelled_music import make_collection
from tests.tiny_transformers import LAYERS, WIDTH, make_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny DistilHuBERT."""
    return make_model(tmp_path_factory.mktemp("models"), "distilhubert")


def test_shapes_and_axes(model: Path) -> None:
    pooled = create_representation("transformer", model=model)
    assert (pooled.shape(), pooled.row_axis, pooled.segment_s) == ((WIDTH,), 0, 10.0)
    layers = create_representation("transformer", model=model, layers="all", segment_s=2.0)
    assert (layers.shape(), layers.row_axis, layers.segment_s) == ((LAYERS + 1, WIDTH), 1, 2.0)
    frames = create_representation("transformer", model=model, pool="none", segment_s=2.0)
    assert (frames.shape(), frames.row_axis) == ((62, WIDTH), 1)


def test_mean_over_time_is_the_mean_of_the_sequence(model: Path, rng: np.random.Generator) -> None:
    waveform = rng.normal(0, 0.1, 32_000).astype(np.float32)
    frames = create_representation("transformer", model=model, pool="none", segment_s=2.0).compute(waveform)
    pooled = create_representation("transformer", model=model, segment_s=2.0).compute(waveform)
    np.testing.assert_allclose(frames.mean(axis=0), pooled, atol=1e-5)


def test_only_the_recipe_travels_to_a_worker(model: Path) -> None:
    representation = create_representation("transformer", model=model, segment_s=1.0)
    before = len(pickle.dumps(representation))
    representation.compute(np.zeros(16_000, np.float32))
    assert len(pickle.dumps(representation)) == before < 5_000


def test_settings_name_the_weights(model: Path, tmp_path: Path) -> None:
    own = create_representation("transformer", model=model, segment_s=1.0).settings()
    moved = Path(shutil.copytree(model, tmp_path / "moved"))
    same = create_representation("transformer", model=moved, segment_s=1.0).settings()
    assert {**own, "model": ""} == {**same, "model": ""} and len(own["weights_sha256"]) == 64
    other = make_model(tmp_path, "distilhubert", seed=8)
    assert create_representation("transformer", model=other).settings()["weights_sha256"] != own["weights_sha256"]
    assert representation_from_settings(own).settings() == own


def test_another_configuration_over_the_same_weights_is_another_representation(model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    before = create_representation("transformer", model=str(copy), segment_s=1.0).settings()
    described = json.loads((copy / "preprocessor_config.json").read_text("utf-8"))
    described["do_normalize"] = not described["do_normalize"]
    (copy / "preprocessor_config.json").write_text(json.dumps(described), "utf-8")
    after = create_representation("transformer", model=str(copy), segment_s=1.0).settings()
    assert before["weights_sha256"] == after["weights_sha256"] and before != after
    with pytest.raises(BundleError, match=r"the configuration of .* not those that were used before"):
        representation_from_settings(before)


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_prepared_once_and_found_again(jobs: int, model: Path, tmp_path: Path) -> None:
    manifest = read_manifest(make_collection(tmp_path / "music", tracks_a_label=1, duration_s=2.0))
    representation = create_representation("transformer", model=model, segment_s=1.0)

    def run(name: str) -> tuple[int, int]:
        done = prepare(manifest, representation, tmp_path / name, cache=tmp_path / "rows", jobs=jobs)
        assert not done.skipped and done.n_rows == 6
        return done.computed, done.reused

    assert run("first") == (3, 0)
    assert run("second") == (0, 3)


def test_bad_wishes_are_said_before_anything_is_computed(model: Path) -> None:
    for options in ({"layers": "first"}, {"pool": "max"}, {"scale": "db"}, {"layers": 9}):
        with pytest.raises(UsageError):
            create_representation("transformer", model=model, **options)


@pytest.mark.parametrize("hidden", ["torch", "transformers"])
def test_without_the_packages_the_extra_is_named(hidden: str, model: Path) -> None:
    code = (
        f"import sys; sys.modules[{hidden!r}] = None\n"
        "from musicgenre.errors import MissingExtraError\n"
        "from musicgenre.features.registry import create_representation\n"
        f"try: create_representation('transformer', model={str(model)!r})\n"
        "except MissingExtraError as error: print(error.extra)\n"
    )
    done = run_python(code)
    assert (done.returncode, done.stdout.split()) == (0, ["pretrained"]), done.stderr
