"""Training on pictures as everybody has them: their border is found, told and kept in the run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from musicgenre.data.manifest import Manifest, Track
from musicgenre.data.shards import write_shards
from musicgenre.errors import DataError
from musicgenre.runs.folder import read_description
from musicgenre.training.material import gather_material, material_of_shards
from musicgenre.training.recipe_names import list_recipes
from musicgenre.training.recipes import load_recipe
from musicgenre.training.train import train

pytestmark = pytest.mark.usefixtures("own_cache")

BOX, SIZE = [54, 35, 389, 253], [432, 288]  # of the pictures of the Kaggle set
SMALL = [
    "representation.options.size=32",
    "training.epochs=1",
    "protocol.options={test_size: 0.34, validation_size: 0.17}",
]


@pytest.fixture
def pictures(tmp_path: Path, rng: np.random.Generator) -> Manifest:
    """Twelve pictures of 432 x 288 pixels, white around what they show."""
    tracks = []
    for number in range(12):
        pixels = np.full((SIZE[1], SIZE[0], 3), 255, np.uint8)
        pixels[BOX[1] : BOX[3], BOX[0] : BOX[2]] = rng.integers(0, 200, (BOX[3] - BOX[1], BOX[2] - BOX[0], 3))
        path = tmp_path / f"{number}.png"
        Image.fromarray(pixels).save(path)
        tracks.append(Track(path.stem, path, "rock" if number % 2 else "jazz"))
    return Manifest(None, tuple(tracks))


@pytest.mark.parametrize("recipe", ["picture-cnn", "picture-squeezenet-scratch"])
def test_the_border_is_found_and_kept_in_the_run(tmp_path: Path, pictures: Manifest, recipe: str) -> None:
    told: list[str] = []
    run = train(recipe, pictures, output=tmp_path / "run", overrides=[*SMALL, "data.labels=[]"], report=told.append)
    kept = read_description(run)["representation"]
    assert (kept["crop"], kept["picture_size"]) == (BOX, SIZE)
    assert f"the pictures are cropped to {BOX}, where their border ends" in told


def test_every_recipe_of_pictures_finds_the_border() -> None:
    of_pictures = [recipe for recipe in map(load_recipe, list_recipes()) if recipe.representation.name == "picture"]
    assert len(of_pictures) >= 7
    assert all(recipe.representation.options["crop"] == "auto" for recipe in of_pictures)


def test_pictures_that_disagree_name_the_option_that_helps(tmp_path: Path, pictures: Manifest) -> None:
    small = tmp_path / "0.png"
    Image.fromarray(np.zeros((100, 100, 3), np.uint8)).save(small)
    with pytest.raises(DataError, match=r"differ in size.*representation\.options\.crop=\[left,top,right,bottom\]"):
        train("picture-cnn", pictures, output=tmp_path / "run", overrides=SMALL)
    whole = [*SMALL, "representation.options.crop=null"]
    run = train("picture-cnn", pictures, output=tmp_path / "run", overrides=whole)
    assert read_description(run)["representation"]["crop"] is None


def test_shards_of_pictures_keep_what_was_found(tmp_path: Path, pictures: Manifest) -> None:
    recipe = load_recipe("picture-cnn", SMALL)
    material = gather_material(recipe, pictures)
    write_shards(material.store, material.manifest, tmp_path / "shards")
    for track in pictures.tracks:
        track.path.unlink()
    read = material_of_shards(recipe, tmp_path / "shards")
    assert read.representation.settings() == material.representation.settings()
