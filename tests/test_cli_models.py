"""`musicgenre models`: what there is, whose weights, also where torch is missing."""

from __future__ import annotations

import json
from pathlib import Path

from musicgenre.models.registry import list_models, names_in_files
from tests.cli import run
from tests.fresh import run_python


def test_lists_models_and_cards() -> None:
    done = run("models")
    text = done.stdout.decode()
    assert done.returncode == 0
    assert "resnet34  " in text and "models/resnet.py" in text and "resnet34/imagenet" in text
    assert "msd-musicnn" in text and "ISC" in text


def test_one_model_comes_with_its_cards_and_a_card_alone() -> None:
    done = run("models", "musicnn", "--format", "json")
    found = json.loads(done.stdout)
    assert [model["name"] for model in found["models"]] == ["musicnn"]
    assert found["models"][0]["options"]["weights"] == "none"
    assert [card["name"] for card in found["weights"]] == ["msd-musicnn", "mtt-musicnn"]
    card = run("models", "msd-vgg").stdout.decode()
    assert "sha256: 9683d756b8311146534f333502ebf4a2a78a3e320c54ab0411dff6186d8375fc" in card
    assert "licence: ISC. Copyright (c) Music Technology Group" in card and "options:" not in card


def test_says_whether_weights_are_at_hand_and_how_to_get_them(tmp_path: Path) -> None:
    kept = tmp_path / "weights" / "resnet18-f37072fd.pth"
    kept.parent.mkdir()
    kept.write_bytes(b"")
    (tmp_path / "models" / "wav2vec2-base").mkdir(parents=True)
    env = {"MUSICGENRE_CACHE": str(tmp_path), "HF_HOME": str(tmp_path / "hub")}
    cards = {card["name"]: card for card in json.loads(run("models", "--format", "json", env=env).stdout)["weights"]}
    assert cards["resnet18/imagenet"]["at_hand"] == str(kept) and cards["resnet34/imagenet"]["at_hand"] == ""
    assert str(kept.parent) in cards["resnet34/imagenet"]["get"]
    assert cards["facebook/wav2vec2-base"]["at_hand"] and not cards["facebook/hubert-base-ls960"]["at_hand"]
    assert "representation.options.model=FOLDER" in cards["facebook/hubert-base-ls960"]["get"]
    assert cards["msd-vgg"]["at_hand"] == "" and "musicgenre bundles get msd-vgg" in cards["msd-vgg"]["get"]
    assert "representation.options.pca=FILE" in cards["vggish-pca/published"]["get"]
    listed = {line.split()[0]: line.split()[1] for line in run("models", env=env).stdout.decode().splitlines() if line}
    assert listed["resnet18/imagenet"] == "yes" and listed["resnet34/imagenet"] == "no"


def test_unknown_names_name_the_nearest() -> None:
    done = run("models", "resnet35")
    assert done.returncode == 2
    assert b"no model or card named 'resnet35'. Nearest: resnet" in done.stderr


def test_the_cards_need_neither_torch_nor_scikit_learn() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'sklearn', 'scipy', 'transformers')))\n"
        "sys.argv = ['musicgenre', 'models']\n"
        "from musicgenre.cli import main\n"
        "main()"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert "msd-musicnn" in done.stdout and "vgg19/imagenet" in done.stdout
    assert "no models here" in done.stderr and "musicgenre[train]" in done.stderr


def test_the_names_in_the_files_are_those_of_the_registry() -> None:
    assert names_in_files() == set(list_models())
