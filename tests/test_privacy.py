"""Nothing leaves the machine, and nothing is written but what was asked for and what docs/privacy.md lists."""

from __future__ import annotations

import ast
import fnmatch
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer

from musicgenre._privacy import TELEMETRY_OFF
from musicgenre.bundle.container import save_bundle
from musicgenre.bundle.musicnn import convert
from musicgenre.cli import app
from musicgenre.features.published.musicnn.published import published
from tests.labelled_music import make_collection
from tests.make_run import make_run, random_answers
from tests.outward import watch, watching_library
from tests.published_effnet import write_effnet
from tests.published_weights import random_variables
from tests.toy import save_toy

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "musicgenre"

# What may be left in the home folder, as docs/privacy.md lists it; `*` stands for checksums and the like.
BUNDLES = "~/.cache/musicgenre/bundles/*.onnx"
HEARD = "~/.cache/musicgenre/heard/*.npz"
FEATURES = "~/.cache/musicgenre/features/*.rows"
CONTENT = "~/.cache/musicgenre/features/content.sqlite"
PUBLISHED = "~/.cache/musicgenre/weights/essentia/*"
STORES = "~/.cache/musicgenre/stores/*"
TAUGHT = "~/.config/musicgenre/heads/*.json"
KEPT = "~/.config/musicgenre/heads/*.heard.npz"
SOUNDS = "~/.cache/musicgenre/heard.sqlite"
JOURNAL = "~/.local/share/musicgenre/library.sqlite"
FONTS = "~/.cache/matplotlib/fontlist-*.json"

# Command lines, and what each leaves there beside the bundle that was there before.
JOBS: dict[str, tuple[str, ...]] = {
    "classify music/jazz --output answers.jsonl": (),
    "classify music/jazz/jazz.00000.wav --plot answer.png": (FONTS,),
    "classify music/jazz --model toy.onnx --format csv": (),
    "classify music --model msd-musicnn --top 1000 --output tags.jsonl --jobs 2": (),
    "embed music --output music.npz --jobs 2": (),
    "embed music --output music.parquet": (),
    "similar jazz.00000.wav --index music.npz": (),
    "serve --model toy.onnx --check": (),
    "teach lessons --name mine --jobs 2": (TAUGHT, KEPT, HEARD),
    "bundles get msd-musicnn": (),
    "bundles get --from discogs-effnet-bsdynamic-1.onnx --accept-licence --unverified": (PUBLISHED,),
    "bundles list": (),
    "bundles verify": (),
    "bundles remove msd-musicnn": (),
    "data index music --output indexed.csv": (),
    "data get gtzan-mini --from music --folder gtzan": (),
    "data validate music/music.csv": (),
    "data targets music/music.csv tags.jsonl --output targets.csv": (),
    "data split music/music.csv --protocol track --test-size 0.34 --validation-size 0.17 --output split.csv": (),
    "data audit music/music.csv": (),
    "data info": (),
    "recipes": (),
    "recipes mfcc-cnn": (),
    "augment split.csv --chain noise --output copies --jobs 2": (),
    "prepare split.csv --representation mfcc --segment 1 --output store --jobs 2": (FEATURES, CONTENT),
    "shard store --output shards": (),
    "show music/jazz/jazz.00000.wav --augment noise --output shown.png": (FONTS,),
    "train mfcc-cnn --data split.csv --output trained --set training.epochs=1 --jobs 2": (
        FEATURES,
        CONTENT,
        STORES,
        FONTS,
    ),
    "search mfcc-cnn --data split.csv --output searched --set training.epochs=1 --trials 2 --seeds 0": (
        FEATURES,
        CONTENT,
        STORES,
        FONTS,
    ),
    "evaluate one --output report.html": (),
    "cache": (),
    "cache clear checksums --yes": (),
    "evaluate toy.onnx --data music/music.csv --labels-map map.toml --jobs 2": (),
    "leak-report mfcc-cnn --data music/music.csv --output leaks --set training.epochs=1 --set data.labels=[]": (
        FEATURES,
        CONTENT,
        STORES,
        FONTS,
    ),
    "compare one other": (),
    "ensemble one other --output both": (),
    "export trained": (FONTS,),
    "pipeline pipeline.yaml": (FEATURES, CONTENT, STORES, FONTS),
    "models": (),
    "doctor": (),
    "library plan lessons --model toy.onnx --output plan.jsonl": (SOUNDS, JOURNAL),
    "library show plan.jsonl": (),
    "library review plan.jsonl": (),
    "library export plan.jsonl --output lists": (),
    "library apply plan.jsonl --yes": (JOURNAL,),
    "library history": (JOURNAL,),
    "library undo --last --yes": (JOURNAL,),
    "library watch lessons --model toy.onnx --output watched.jsonl --once --settle 0": (SOUNDS, JOURNAL),
    "library map init --model toy.onnx --output genres.toml": (),
}
# those that import torch, some seconds each
LONG = {"augment", "export", "leak-report", "pipeline", "search", "show", "train"}
PIPELINE = """
recipe: mfcc-mlp
set: {training.epochs: 2}
data: {folder: music}
split: {protocol: track, options: {test_size: 0.34, validation_size: 0.17}}
overfit: {tracks_a_label: 0}
gate: {accuracy: 0}
deploy: {models: served}
"""
# It asks a server of its own, on this machine; under watch none can listen, and the model is refused: exit code 1.
ASKS_ITSELF = "pipeline"
MISSES_TRACKS = "data get gtzan-mini"  # whose copy is not all of it: exit code 1


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return watching_library(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which all jobs run, one after another: later ones read what earlier ones wrote."""
    folder = tmp_path_factory.mktemp("desk")
    make_collection(folder / "music")
    write_lessons(folder / "lessons")
    variables = random_variables("musicnn", np.random.default_rng(2), 0.0)
    for name, values in variables.items():
        if name.endswith("moving_variance"):  # of next to nothing, which would make every value huge
            variables[name] = np.maximum(values, 0.5)
    save_bundle(folder / "msd-musicnn.onnx", *convert(published("msd-musicnn"), variables.__getitem__))
    save_toy(folder / "toy.onnx")
    (folder / "map.toml").write_text('jazz = "loud"\nclassical = "quiet"\n', encoding="utf-8")
    write_effnet(folder)
    (folder / "pipeline.yaml").write_text(PIPELINE)
    make_run(folder / "one", random_answers(1))
    make_run(folder / "other", random_answers(2))
    return folder


def write_lessons(folder: Path) -> None:
    """Two genres of four tracks, so different that a network of random weights tells them apart."""
    rng = np.random.default_rng(1)
    time_s = np.arange(3 * 16_000) / 16_000
    for number in range(8):
        tone = np.sin(2 * np.pi * 100 * 2 ** (0.8 * number) * time_s)
        noise = rng.standard_normal(len(time_s)) if number % 2 else 0
        path = folder / ("pure" if number % 2 == 0 else "noisy") / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.5 * 10 ** (-(number % 4) / 2) * tone + 0.1 * noise, 16_000)


def jobs() -> list[object]:
    marks = {True: [pytest.mark.slow], False: []}
    return [pytest.param(job, marks=marks[job.split()[0] in LONG]) for job in JOBS]


@pytest.mark.parametrize("job", jobs())
def test_a_command_tries_no_look_up_and_leaves_what_the_page_lists(
    job: str, library: Path, desk: Path, tmp_path: Path
) -> None:
    if job.startswith("search "):
        pytest.importorskip("optuna", reason="searching needs the extra musicgenre[search]")
    home = tmp_path / "home"
    bundles = home / ".cache" / "musicgenre" / "bundles"
    bundles.mkdir(parents=True)
    shutil.copy(desk / "msd-musicnn.onnx", bundles)

    done = watch(library, home, desk, "-m", "musicgenre", *job.split())

    assert done.code == job.startswith((MISSES_TRACKS, ASKS_ITSELF)), done.output
    assert set(done.outward) == ({"getaddrinfo 127.0.0.1"} if job.startswith(ASKS_ITSELF) else set()), done.output
    expected = list(JOBS[job])
    if not job.startswith("bundles remove"):
        expected.append(BUNDLES)
    for pattern in expected:
        assert fnmatch.filter(done.files, pattern), f"no {pattern} among {done.files}"
    assert [file for file in done.files if not any(fnmatch.fnmatch(file, pattern) for pattern in expected)] == []


def test_every_command_is_watched() -> None:
    commands = set()
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        below = getattr(command, "commands", {})
        commands |= {f"{name} {sub}" for sub in below} or {name}
    watched = {name for name in commands for job in JOBS if f"{job} ".startswith(f"{name} ")}
    assert watched == commands


def test_a_transformer_is_heard_without_asking_its_hub(library: Path, desk: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from tests.tiny_transformers import make_model

    model = make_model(tmp_path, "hubert")
    settings = ("--set", f"model={model}", "--output", "heard.npz", "--overwrite")
    done = watch(
        library, tmp_path / "home", desk, "-m", "musicgenre", "embed", "music", "--model", "transformer", *settings
    )
    assert (done.code, done.outward, done.files) == (0, (), ()), done.output


def test_a_server_asks_nobody_and_keeps_nothing(library: Path, desk: Path, tmp_path: Path) -> None:
    code = (
        "import tempfile\n"
        "from pathlib import Path\n"
        "from starlette.testclient import TestClient\n"
        "from musicgenre._files import temporary_folder\n"
        "from musicgenre.server.app import create_app\n"
        "from musicgenre.server.service import Service\n"
        "from musicgenre.server.settings import Settings\n"
        "settings = Settings(models=('toy.onnx',))\n"
        "with temporary_folder(Path(tempfile.gettempdir(), 'uploads')) as folder:\n"
        "    client = TestClient(create_app(settings, Service(settings), folder), base_url='http://127.0.0.1')\n"
        "    print(client.post('/v1/classify', content=Path('music/jazz/jazz.00000.wav').read_bytes()).status_code)\n"
        "    print(client.get('/docs').status_code, client.get('/openapi.json').status_code)\n"
    )
    done = watch(library, tmp_path / "home", desk, "-c", code)
    assert (done.output.split(), done.outward) == (["200"] * 3, ()), done.output
    assert done.files == ()


@pytest.mark.parametrize("first", ["import musicgenre", "import onnxruntime, musicgenre"])
def test_the_library_turns_telemetry_off(first: str, library: Path, tmp_path: Path) -> None:
    code = f"{first}; from musicgenre import _onnxruntime; import os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = watch(library, tmp_path / "home", tmp_path, "-c", code)
    assert (done.code, done.output.strip(), done.outward) == (0, "1", ()), done.output
    if "onnxruntime," not in first:
        assert done.files == ()


def test_a_variable_that_allows_telemetry_is_overruled() -> None:
    names = sorted(TELEMETRY_OFF)
    code = f"import os, musicgenre; print([os.environ[name] for name in {names}])"
    allowed = {name: "0" if value == "1" else "1" for name, value in TELEMETRY_OFF.items()}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **allowed}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str([TELEMETRY_OFF[name] for name in names])


def test_one_file_alone_imports_onnxruntime() -> None:
    importers = []
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text("utf-8")
        if "onnxruntime" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            if any(name.split(".")[0] == "onnxruntime" for name in names):
                importers.append(path.name)
    assert set(importers) == {"_onnxruntime.py"}


def test_the_page_lists_every_file_and_variable() -> None:
    page = (ROOT / "docs" / "privacy.md").read_text("utf-8")
    for pattern in (BUNDLES, HEARD, FEATURES, CONTENT, STORES, TAUGHT, KEPT, SOUNDS, JOURNAL, FONTS):
        assert f"`{pattern}`" in page
    for name, value in TELEMETRY_OFF.items():
        assert f"`{name}={value}`" in page
