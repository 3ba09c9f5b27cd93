"""`musicgenre models`: what there is, whose weights, also where torch is missing."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.cli import run


def test_lists_models_and_cards() -> None:
    done = run("models")
    text = done.stdout.decode()
    assert done.returncode == 0
    assert "resnet34  " in text and "models/imagenet.py" in text and "resnet34/imagenet" in text
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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "msd-musicnn" in done.stdout and "vgg19/imagenet" in done.stdout
    assert "no models here" in done.stderr and "musicgenre[train]" in done.stderr
