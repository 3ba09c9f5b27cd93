"""Recipes: merging, checking, overriding, and that every one of the package is whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from musicgenre.errors import RecipeError
from musicgenre.models.registry import check_options
from musicgenre.training.recipe_names import RECIPE_FOLDER, current_name, former_names, list_recipes, recipe_lines
from musicgenre.training.recipes import Recipe, load_recipe
from tests.test_ground_yaml import BOMB

NAMES_BEFORE = (Path(__file__).parent / "data" / "recipe_names_before.txt").read_text("utf-8").split()
"""What the recipes and their parts were called when they were named after row codes."""
ISSUE_ROWS = {"A3", "A4", "A5", "A6", "A7", "A8", "B4", "B5", "B6", "B8", "B9", "B10", "B11", "C2", "C4", "C5", "C7",
              "C8", "D2", "D4", "D5", "E2", "E3", "E4", "E5", "E6", "E8", "E9"}  # fmt: skip


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def recipes() -> dict[str, Recipe]:
    """All of the package, by name."""
    return {name: load_recipe(name) for name in list_recipes()}


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_is_whole(name: str, recipes: dict[str, Recipe]) -> None:
    recipe = recipes[name]
    assert recipe.systems
    assert recipe.summary[0].isupper() or recipe.summary.startswith("E")
    check_options(recipe.model.name, recipe.model.options)


def test_every_system_has_a_recipe(recipes: dict[str, Recipe]) -> None:
    covered = {system for recipe in recipes.values() for system in recipe.systems}
    assert covered >= ISSUE_ROWS


def test_softmax_in_loss_is_never_the_default(recipes: dict[str, Recipe]) -> None:
    assert {name for name, recipe in recipes.items() if recipe.training.softmax_in_loss} == {
        "table-mlp-softmax-in-loss", "picture-cnn-softmax-in-loss", "wav2vec2-finetune-softmax-in-loss",
        "mfcc-mlp-leaky", "mfcc-cnn-softmax-in-loss", "mfcc-gru-leaky", "mfcc-lstm-leaky",
    }  # fmt: skip


def test_only_leaky_recipes_leak(recipes: dict[str, Recipe]) -> None:
    leaky = {name for name, recipe in recipes.items() if recipe.protocol.name == "segment-leaky"}
    assert leaky == {name for name in recipes if name.endswith("-leaky")}
    assert len(leaky) == 4


@pytest.mark.parametrize(
    ("name", "epochs", "batch", "rate"),
    [
        ("mel-cnn", 50, 20, 1e-3),
        ("mel-cnn2d-segments-augmented", 100, 32, 1e-4),
        ("picture-cnn", 100, 16, 1e-4),
        ("mfcc-lstm", 500, 32, 1e-4),
        ("wav2vec2-finetune", 30, 8, 5e-5),
        ("distilhubert-finetune", 10, 8, 5e-5),
    ],
)
def test_settings_of_the_reports(name: str, epochs: int, batch: int, rate: float) -> None:
    training = load_recipe(name).training
    assert (training.epochs, training.batch_size, training.learning_rate) == (epochs, batch, rate)


def test_the_taggers_of_clips_split_as_their_report_and_by_song() -> None:
    names = [name for name in list_recipes() if name.startswith("vggish-tagger")]
    assert {load_recipe(name).protocol.name for name in names} == {"song"} and len(names) == 6
    streams = [load_recipe(f"vggish-tagger-stream{which}").training.stream for which in ("", "-whole")]
    assert [(one.active, one.epoch_examples) for one in streams] == [(20, None), (20, 25_863 * 3 // 4)]


def test_networks_of_eight_genres_have_one_budget() -> None:
    names = [name for name in list_recipes() if name.startswith(("mel-cnn1d", "mel-cnn2d", "fusion-cnn"))]
    sections = [load_recipe(name).training for name in names if "B10" in load_recipe(name).systems]
    budgets = {(one.epochs, one.patience, one.learning_rate, one.monitor) for one in sections}
    assert budgets == {(100, None, 1e-4, "validation_accuracy")} and len(sections) == 18


def test_difference_files_are_small() -> None:
    assert max(len(path.read_text("utf-8").splitlines()) for path in RECIPE_FOLDER.glob("*.yaml")) <= 20


def test_later_parents_and_the_recipe_itself_win() -> None:
    both = load_recipe("mel-cnn2d-segments-augmented")
    assert both.representation.options == {"preset": "b1", "segment_s": 4.0}
    assert both.augmentation.offline.copies == 1
    assert both.model.name == "cnn2d"


def test_a_recipe_of_ones_own_builds_on_ours(tmp_path: Path) -> None:
    path = write(tmp_path, "mine", "base: mfcc-cnn\nsummary: Mine\ntraining: {batch_size: 8}\n")
    recipe = load_recipe(path)
    assert (recipe.name, recipe.training.batch_size, recipe.training.epochs) == ("mine", 8, 100)


def test_overrides_win_and_are_typed() -> None:
    recipe = load_recipe("mfcc-cnn", ["training.epochs=3", "training.learning_rate=1e-4", "data.labels=[a, b]"])
    assert recipe.training.epochs == 3
    assert recipe.training.learning_rate == 1e-4
    assert recipe.data.labels == ("a", "b")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.learnin_rate=1", "Nearest: 'training.learning_rate'"),
        ("trainin.epochs=1", "Nearest: 'training'"),
        ("augmentation.online.wavefrom=a3", "Nearest: 'augmentation.online.waveform'"),
        ("training.epochs=many", "valid integer"),
        ("training.epochs=0", "greater than or equal to 1"),
        ("representation.hop_s=1e-5", r"greater than or equal to 0\.01"),
        ("training.optimiser=adan", "'adam' or 'sgd'"),
        ("model=3", "ModelSection"),
        ("training.epochs", "section.key=value"),
        ("training.epochs=[1", "in YAML"),
        ("zzz=1", "Valid here: augmentation"),
    ],
)
def test_wrong_overrides_say_what_would_be_right(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message.replace("[", r"\[")):
        load_recipe("mfcc-cnn", [override])


def test_the_list_says_what_the_recipes_say() -> None:
    """It reads lines in place of YAML, without the packages of training."""
    for line in recipe_lines():
        whole = load_recipe(line.name)
        assert (line.name, line.systems, line.summary) == (whole.name, whole.systems, whole.summary)
    assert [line.name for line in recipe_lines()] == list_recipes()


def test_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="Nearest: mfcc-cnn"):
        load_recipe("e33")
    with pytest.raises(RecipeError, match="Nearest: picture-squeezenet, picture-squeezenet-scratch"):
        load_recipe("SqueezeNet")
    with pytest.raises(RecipeError, match=r"Nearest: (\S+, ){4}\S+ and \d+ more\. "):
        load_recipe("musicnn")
    with pytest.raises(RecipeError, match="no recipe file"):
        load_recipe("nowhere/mine.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: eee3\nsummary: x", "does not exist"),
        ("base: own\nsummary: x", "its own parent"),
        ("summary: x\nsystems: []\nmodel: {name: svm}", "lacks the key 'representation'"),
        ("- a\n- b", "holds no recipe"),
        ("a: [", "is no YAML"),
        ("base: 5", r"base=5\. Valid: the name of a recipe, or a list of names\. Name the recipes"),
        ("base: [mfcc-cnn, [mfcc-cnn]]", "has base="),
        ("base:", "has base=None"),
        ("base: 2001-99-99", "2001-99-99 is a date"),
        (f"base: {'a' * 5_000}", r"names the base 'a{199}\[\.\.\.\], which does not exist"),
        ("base: mfcc-cnn\nnotes: 2001-99-99", r"is no YAML .*line 2: 2001-99-99 is a date .* quotes"),
        ("base: mfcc-cnn\nmodel: {options: {a: " + "[" * 5_000, "within each other"),
        ("base: mfcc-cnn\nmodel: &m\n  options: *m", "holds itself"),
        (f"base: mfcc-cnn\nmodel:\n  options: {{{BOMB.replace(chr(10), ', ')}}}", "aliases stand for more"),
        ("base: mfcc-cnn\nmodel: 5", "has model=5"),
        ("base: mfcc-cnn\nstudy: {variants: {a: 5}}", r"study\.variants\.a=5"),
        (f"base: mfcc-cnn\nmodel: [{'x,' * 50_000}]", r"has model=\['x', .{1,200}\[\.\.\.\]\. Input"),
        (f"base: mfcc-cnn\n{'a' * 900}: 5", r"unknown key 'a{199}\[\.\.\.\]\. Valid"),
    ],
)
def test_broken_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(write(tmp_path, "own", text))


@pytest.mark.parametrize(
    "setting",
    [
        "notes=2001-99-99",
        f"model.options.a={'[' * 5_000}",
        f"model.options.a={'9' * 5_000}",
        "model.options.a=&a [*a]",
        "model.options.a={5: 6}",
        "a." * 5_000 + "a=1",
        "model.options." + "a." * 5_000 + "a=1",
    ],
)
def test_settings_that_are_no_values(setting: str) -> None:
    with pytest.raises(RecipeError, match=r"cannot read the (setting|value of) .*\. Valid: ") as caught:
        load_recipe("mfcc-cnn", [setting])
    assert len(str(caught.value)) < 600


def test_parents_of_parents_end(tmp_path: Path) -> None:
    write(tmp_path, "r0", "base: mfcc-cnn")
    for number in range(1, 40):
        path = write(tmp_path, f"r{number}", f"base: r{number - 1}")
    with pytest.raises(RecipeError, match="through more than 20 files"):
        load_recipe(path)


def test_a_broken_study_is_found_when_it_is_read(tmp_path: Path) -> None:
    text = "base: mfcc-cnn\nsummary: x\nstudy: {variants: {slow: {training.learnig_rate: 1}}}"
    with pytest.raises(RecipeError, match="learning_rate"):
        load_recipe(write(tmp_path, "own", text))


def test_study_variants_differ_in_their_keys_alone() -> None:
    study = load_recipe("mel-cnn-augmentation-study")
    variants = study.variants()
    assert set(variants) == {"none", "noise", "time-stretch", "pitch-shift", "shift", "all"}
    assert variants["none"].augmentation.offline.copies == 0
    assert variants["noise"].augmentation.offline.only == ("AddGaussianNoise",)
    assert variants["noise"].name == "mel-cnn-augmentation-study.noise"
    assert all(variant.model == study.model and not variant.study.variants for variant in variants.values())


@pytest.mark.parametrize("old", NAMES_BEFORE)
def test_every_name_that_a_recipe_had_finds_it(old: str, tmp_path: Path) -> None:
    name = current_name(old)
    assert (RECIPE_FOLDER / f"{name}.yaml").is_file()
    assert current_name(f"{old}.noise") == f"{name}.noise"
    told: list[str] = []
    own = write(
        tmp_path,
        "own",
        f"base: [base, {old}, {old}]\nsummary: x\nrepresentation: {{name: mfcc}}\nmodel: {{name: svm}}",
    )
    load_recipe(own, report=told.append)
    assert told == ([] if name == old else [f"{old} is called {name} now"])
    if not old.startswith("_") and old != "base":
        told.clear()
        recipe = load_recipe(old, report=told.append)
        assert recipe == load_recipe(name) and recipe.name == name
        assert told == ([] if name == old else [f"{old} is called {name} now"])


def test_names_that_recipes_had_are_not_those_of_others() -> None:
    assert not set(former_names()) & {path.stem for path in RECIPE_FOLDER.glob("*.yaml")}
    assert set(former_names()) <= set(NAMES_BEFORE)


def test_a_recipe_beside_ones_own_comes_before_what_a_name_once_meant(tmp_path: Path) -> None:
    write(tmp_path, "e3", "base: mfcc-mlp\nsummary: Mine")
    told: list[str] = []
    recipe = load_recipe(write(tmp_path, "own", "base: e3\nsummary: x"), report=told.append)
    assert recipe.model.name == "mfcc-mlp" and not told


def test_words_of_a_recipe_may_be_mended_and_its_settings_not() -> None:
    recipe = load_recipe("mfcc-cnn")
    before = {**yaml.safe_load(recipe.as_yaml()), "summary": "As it was said before", "systems": ["E3"], "notes": "No"}
    assert recipe.trains_like(yaml.safe_dump(before))
    assert not load_recipe("mfcc-cnn", ["training.epochs=7"]).trains_like(yaml.safe_dump(before))
    for damaged in ("a: [", "- a", ""):
        assert not recipe.trains_like(damaged)


@given(st.sampled_from(list_recipes()), st.integers(0, 10**6), st.floats(1e-8, 10.0))
def test_yaml_of_a_recipe_reads_back_the_same(name: str, seed: int, rate: float) -> None:
    recipe = load_recipe(name, [f"training.seed={seed}", f"training.learning_rate={rate!r}"])
    again = Recipe.model_validate({**yaml.safe_load(recipe.as_yaml()), "name": name})
    assert again == recipe
