"""The code of docs/extending.md is a plugin: installed beside the package, it goes from a list to an answer."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musicgenre.data.manifest import read_manifest
from tests.fresh import run_fresh
from tests.limits import GUARD_S

PAGE = Path(__file__).resolve().parents[1] / "docs" / "extending.md"
RATE_HZ = 8_000
PITCH_HZ = {"low": 150.0, "middle": 700.0, "high": 2_500.0}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's package, installed as pip would leave it, and nine records of three artists a genre."""
    folder = tmp_path_factory.mktemp("extending")
    page = PAGE.read_text(encoding="utf-8")
    for name, code in re.findall(r"```(?:python|yaml)\n# (crate/\S+)\n(.*?)```", page, re.DOTALL):
        file = folder / "site" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code, encoding="utf-8")

    entry_point = re.search(r'entry-points\."(musicgenre\.plugins)"\]\n(.*?)\n', page)
    assert entry_point is not None
    about = folder / "site" / "crate-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: crate\nVersion: 1.0\n", encoding="utf-8")
    words = entry_point[2].replace('"', "")
    (about / "entry_points.txt").write_text(f"[{entry_point[1]}]\n{words}\n", encoding="utf-8")

    random = np.random.default_rng(3)
    lines = ["file\tgenre\tartist"]
    (folder / "records").mkdir()
    for genre, pitch_hz in PITCH_HZ.items():
        for number in range(9):
            seconds = np.arange(6 * RATE_HZ) / RATE_HZ
            tone = np.sin(2 * np.pi * pitch_hz * random.uniform(0.9, 1.1) * seconds)
            name = f"{genre}{number}.wav"
            soundfile.write(folder / "records" / name, 0.3 * tone + 0.01 * random.standard_normal(len(tone)), RATE_HZ)
            lines.append(f"{name}\t{genre}\t{genre} artist {number % 3}")
    (folder / "records" / "shelf.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    shutil.copy(folder / "records" / "high0.wav", folder / "records" / "a.wav")
    return folder


def run(
    place: Path, *words: str, with_plugin: bool = True, python: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own: plugins are loaded once a process."""
    site = place / "site" if with_plugin else None
    path = [str(site)] if site else []
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*path, *filter(None, [os.environ.get("PYTHONPATH")])]),
        "MUSICGENRE_CACHE": str(place / "cache"),
        "COLUMNS": "200",
        "NO_COLOR": "1",
    }
    if not python:
        done = run_fresh(words, cwd=place, env=environment, site=site)
    else:
        done = subprocess.run(
            [sys.executable, *python, *words],
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=GUARD_S,
            check=False,
        )
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture(scope="module")
def outcome(place: Path) -> dict[str, subprocess.CompletedProcess[str]]:
    """Run the commands at the end of the page, one after another."""
    commands = re.search(r"```sh\n(musicgenre data index.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert commands is not None
    found = {}
    for line in commands[1].splitlines():
        words = line.split()[1:]
        found[words[0] if words[0] != "data" else words[1]] = run(place, *words)
    return found


def test_every_command_of_the_page_works(outcome: dict[str, subprocess.CompletedProcess[str]]) -> None:
    assert list(outcome) == ["index", "split", "train", "evaluate", "export", "classify"]
    assert {name: done.returncode for name, done in outcome.items()} == dict.fromkeys(outcome, 0), outcome


def test_the_protocol_takes_its_option(place: Path, outcome: dict[str, subprocess.CompletedProcess[str]]) -> None:
    assert outcome["split"].returncode == 0
    tested = {track.track_id for track in read_manifest(place / "split.csv").tracks if track.split == "test"}
    assert tested == {f"{genre}{number}" for genre in PITCH_HZ for number in (1, 4, 7)}
    refused = run(place, "data", "split", "records.csv", "--protocol", "one-artist-out", "--set", "last=1")
    assert refused.returncode == 2 and "last" in refused.stderr


def test_the_score_and_the_caveat_are_reported(outcome: dict[str, subprocess.CompletedProcess[str]]) -> None:
    said = outcome["evaluate"].stdout
    accuracy = re.search(r"track-level accuracy\s+([\d.]+)", said)
    assert accuracy is not None and float(accuracy[1]) > 0.6  # a third by chance; the genres differ in pitch
    assert "the test part is one artist a genre" in said


def test_the_bundle_answers_with_the_plugin_and_names_it_without(
    place: Path, outcome: dict[str, subprocess.CompletedProcess[str]]
) -> None:
    assert outcome["classify"].returncode == 0
    answer = run(place, "classify", "records/a.wav", "--model", "steps.onnx", "--format", "json")
    assert max(json.loads(answer.stdout)["scores"].items(), key=lambda item: item[1])[0] == "high"
    refused = run(place, "classify", "records/a.wav", "--model", "steps.onnx", with_plugin=False)
    assert refused.returncode == 2
    assert "loudness-steps" in refused.stderr
    assert "Install the plugin that brings them, the Python package crate" in refused.stderr


def test_the_bundle_answers_in_the_light_install(
    place: Path, outcome: dict[str, subprocess.CompletedProcess[str]]
) -> None:
    assert outcome["export"].returncode == 0
    hidden = ("torch", "scipy", "sklearn", "numba", "yaml", "lightning", "librosa")
    code = f"import sys; sys.modules.update(dict.fromkeys({hidden!r})); from musicgenre.__main__ import main; main()"
    done = run(place, "classify", "records/a.wav", "--model", "steps.onnx", python=("-c", code))
    assert done.returncode == 0 and "high" in done.stdout
    assert done.stderr.count("warning") == 0


def test_what_a_plugin_brings_is_listed(place: Path) -> None:
    assert "steps-net" in run(place, "models").stdout
    assert "one hidden layer on steps of loudness" in run(place, "recipes", "steps").stdout
    assert "steps " in run(place, "recipes").stdout
    about = run(place, "data", "info").stdout
    assert "The records on my shelf" in about and "one-artist-out" in about


def test_a_plugin_that_fails_is_named_and_the_rest_works(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "site", tmp_path / "site")
    shutil.copytree(place / "records", tmp_path / "records")
    (tmp_path / "site" / "crate" / "shelf.py").write_text("raise RuntimeError('the shelf fell over')\n", "utf-8")
    listed = run(tmp_path, "models")
    assert listed.returncode == 0 and "mfcc-cnn" in listed.stdout
    assert "crate" in listed.stderr and "the shelf fell over" in listed.stderr


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"base: nowhere\nsummary: lost\n", "names the base 'nowhere', which does not exist"),
        (b"base: odd\nsummary: round and round\n", "odd.yaml is its own parent"),
        (b"base: base\nsummary: \xff\n", "odd.yaml is no text in UTF-8"),
    ],
)
def test_a_recipe_that_cannot_be_read_is_named_and_the_others_are_listed(
    place: Path, tmp_path: Path, content: bytes, reason: str
) -> None:
    shutil.copytree(place / "site", tmp_path / "site")
    (tmp_path / "site" / "crate" / "recipes" / "odd.yaml").write_bytes(content)
    listed = run(tmp_path, "recipes")
    assert listed.returncode == 0 and "\nmfcc-cnn " in listed.stdout and "\nsteps " in listed.stdout
    assert listed.stderr.count("warning: ") == 1 and reason in listed.stderr


def test_a_recipe_may_not_take_a_name_of_ours(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "site", tmp_path / "site")
    for name in ("mfcc-cnn", "e3"):  # of today and of before
        file = tmp_path / "site" / "crate" / "recipes" / f"{name}.yaml"
        file.write_text("base: base\nsummary: not ours\n", "utf-8")
        listed = run(tmp_path, "recipes")
        assert "not ours" not in listed.stdout and "\nmfcc-cnn " in listed.stdout
        assert listed.stderr.count("warning: ") == 1 and f"the recipe name {name!r}" in listed.stderr
        file.unlink()


def test_a_data_set_that_cannot_tell_what_it_reads_stops_no_other(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "site", tmp_path / "site")
    shutil.copytree(place / "records", tmp_path / "records")
    shelf = tmp_path / "site" / "crate" / "shelf.py"
    shelf.write_text(shelf.read_text("utf-8").replace('path.name == "shelf.tsv"', "path.shelf"), "utf-8")
    (tmp_path / "own.csv").write_text("path,label\nrecords/high0.wav,high\nrecords/low0.wav,low\n", "utf-8")
    done = run(tmp_path, "data", "index", "own.csv", "--output", "listed.csv")
    assert done.returncode == 0 and len(read_manifest(tmp_path / "listed.csv")) == 2
    assert "the data set shelf cannot tell whether it reads own.csv" in done.stderr


def test_a_list_of_entry_points_that_cannot_be_read_stops_nothing(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "site", tmp_path / "site")
    with (tmp_path / "site" / "crate-1.0.dist-info" / "entry_points.txt").open("a", encoding="utf-8") as stream:
        stream.write("nonsense\n")
    listed = run(tmp_path, "recipes", "mfcc-cnn*")
    assert listed.returncode == 0 and "mfcc-cnn" in listed.stdout
    assert "an entry_points.txt cannot be read" in listed.stderr


def test_help_loads_no_plugin(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "site", tmp_path / "site")
    (tmp_path / "site" / "crate" / "__init__.py").write_text("raise RuntimeError('loaded')\n", "utf-8")
    helped = run(tmp_path, "train", "--help")
    assert helped.returncode == 0 and "loaded" not in helped.stderr
