"""Files that an earlier version wrote open unchanged and give the numbers they gave.

They lie in `tests/data/before`, beside `answers.json`, which holds what the version that wrote them answered (commit
c3d9799), but that intervals of areas under curves end at 0, below which they reached there. They were made from the
sounds of `make_music`, which are not kept but written again, equal to the bit, and from a made-up table of numbers,
`table.csv`.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from musicgenre import Classifier
from musicgenre.bundle import read_card
from musicgenre.data.store import open_store
from tests.cli import run

pytestmark = pytest.mark.usefixtures("checked_on_short_tracks")

BEFORE = Path(__file__).parent / "data" / "before"
ANSWERS: dict[str, Any] = json.loads((BEFORE / "answers.json").read_text(encoding="utf-8"))

RATE_HZ = 8_000
PERIODS = {"classical": 40, "jazz": 16, "metal": 5}
"""Samples of one turn of each label's square wave."""

MODIFIED_NS = 1_700_000_000_000_000_000
"""When the sounds were written, as the result files have it."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of all the files with the sounds they were made from; not to be changed."""
    folder = tmp_path_factory.mktemp("whole") / "before"
    shutil.copytree(BEFORE, folder)
    make_music(folder / "music")
    write_sound(folder / "new.wav", 11, 5_000, seed=99)
    return folder


@pytest.fixture
def before(whole: Path, tmp_path: Path) -> Path:
    """A copy of its own for a test that writes."""
    return shutil.copytree(whole, tmp_path / "before")


@pytest.mark.parametrize("name", ["mel", "mfcc", "table", "tags", "degrees", "group", "study", "ensemble"])
def test_runs_score_as_they_did(whole: Path, name: str) -> None:
    report = json.loads(command(whole, "evaluate", name, "--format", "json"))
    agree(report, ANSWERS[f"evaluate {name}"])


@pytest.mark.parametrize("name", ["tags", "ensemble"])
def test_validation_parts_score_as_they_did(whole: Path, name: str) -> None:
    report = json.loads(command(whole, "evaluate", name, "--part", "validation", "--format", "json"))
    agree(report, ANSWERS[f"validation {name}"])


@pytest.mark.parametrize(
    ("first", "second"), [("mel", "ensemble"), ("mel", "mfcc"), ("study/plain", "study/standard")]
)
def test_runs_compare_as_they_did(whole: Path, first: str, second: str) -> None:
    agree(json.loads(command(whole, "compare", first, second, "--json")), ANSWERS[f"compare {first} {second}"])


@pytest.mark.parametrize("name", ["mel", "tags", "table", "ensemble"])
def test_bundles_answer_as_they_did(whole: Path, name: str) -> None:
    agree(heard(whole / f"{name}.onnx"), ANSWERS[f"bundle {name}"], within=1e-5 if name == "table" else 1e-6)


@pytest.mark.parametrize("name", ["mel", "tags", "table", "ensemble"])
def test_runs_are_exported_to_the_bundles_they_were(whole: Path, tmp_path: Path, name: str) -> None:
    command(whole, "export", name, "--output", tmp_path / "again.onnx")
    agree(heard(tmp_path / "again.onnx"), ANSWERS[f"bundle {name}"], within=1e-5 if name == "table" else 1e-6)


def test_a_taught_head_answers_as_it_did(default_bundle_cache: Path) -> None:
    assert default_bundle_cache.is_dir()
    agree(heard(BEFORE / "head.json"), ANSWERS["head"], within=1e-5)


@pytest.mark.parametrize(("file", "model"), [("results.jsonl", "mel"), ("results.csv", "mel"), ("tags.jsonl", "tags")])
def test_results_are_gone_on_with_and_no_track_is_heard_again(before: Path, file: str, model: str) -> None:
    hear = ("classify", "--exclude", "metal", "--model", f"{model}.onnx", "--coverage", "full", "--output", file)
    kind = ("--format", "csv") if file.endswith(".csv") else ()
    written = (before / file).read_bytes()

    # A line is written for every track that is heard: with nothing new the file stays as it is.
    command(before, *hear, "music", *kind, "--resume")
    assert (before / file).read_bytes() == written

    command(before, *hear, "music", "new.wav", *kind, "--resume")
    now = (before / file).read_bytes()
    assert now.startswith(written)
    assert now[len(written) :].count(b"\n") == 1
    line = now[len(written) :].decode().replace('"reason": "low confidence", ', "").replace('"reason": null, ', "")
    (caveat,) = read_card(before / f"{model}.onnx").caveats  # which answers did not say then
    line = line.replace(f'"{caveat}"', "").replace(caveat, "")
    agree(line.split('"size_bytes"')[0].split(",48044,")[0], ANSWERS[f"new line of {file}"])


def test_embeddings_are_gone_on_with_and_no_track_is_heard_again(before: Path) -> None:
    index = before / "embeddings.npz"
    written = index.read_bytes()
    words = ("--model", "ears.onnx", "--coverage", "full", "--output", index.name, "--resume", "--format", "json")
    summary = json.loads(command(before, "embed", "music", *words))
    assert (summary["embedded"], summary["reused"]) == (0, 24)
    assert index.read_bytes() == written
    summary = json.loads(command(before, "embed", "music", "new.wav", *words))
    assert (summary["embedded"], summary["reused"]) == (1, 24)


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
@pytest.mark.parametrize("track", ["music/jazz/jazz-0.wav", "metal-7.wav", "new.wav"])
def test_the_same_tracks_are_similar(whole: Path, suffix: str, track: str) -> None:
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    words = ("--index", f"embeddings.{suffix}", "--model", "ears.onnx", "--top", "5", "--format", "json")
    found = [json.loads(line) for line in command(whole, "similar", track, *words).splitlines()]
    agree(found, ANSWERS[f"similar {track}"], within=1e-4)


def test_a_store_holds_what_it_held() -> None:
    store = open_store(BEFORE / "store")
    parts = {}
    for name in store.parts:
        part = store.part(name)
        values = np.asarray(part.features[np.arange(len(part))], np.float64)
        parts[name] = {
            "shape": list(values.shape),
            "sum": values.sum(),
            "sum_of_squares": (values**2).sum(),
            "labels": part.labels.tolist(),
            "track_ids": part.track_ids.tolist(),
            "starts_s": part.starts_s.tolist(),
        }
    facts = {
        "labels": list(store.labels),
        "segment_s": store.segment_s,
        "hop_s": store.hop_s,
        "dtype": str(store.dtype),
    }
    agree({**facts, "representation": store.representation, "parts": parts}, ANSWERS["store"])


def test_a_store_becomes_the_shards_it_became(whole: Path, tmp_path: Path) -> None:
    command(whole, "shard", "store", "--output", tmp_path / "shards", "--shard-mb", "0.05", "-q")
    for path in sorted((BEFORE / "shards").iterdir()):
        assert (tmp_path / "shards" / path.name).read_bytes() == path.read_bytes(), path.name


def test_shards_train_as_they_did(whole: Path, tmp_path: Path) -> None:
    command(whole, "train", "tiny-shards.yaml", "--data", "shards", "--output", tmp_path / "run", "-q")
    agree(curves(tmp_path / "run"), ANSWERS["trained on shards"], within=5e-3)


def test_an_interrupted_training_goes_on(before: Path) -> None:
    def epochs() -> list[dict[str, str]]:
        return list(csv.DictReader((before / "interrupted" / "logs" / "metrics.csv").open(encoding="utf-8")))

    written = epochs()
    words = ("--data", "table.csv", "--set", "training.epochs=5", "--output", "interrupted", "--resume", "-q")
    command(before, "train", "tiny-columns.yaml", *words)
    for row, now in zip(written, epochs(), strict=False):  # columns that came since are empty there
        assert now == {**dict.fromkeys(now, ""), **row}
    assert len(epochs()) == 5 > len(written) > 0
    assert (before / "interrupted" / "resume.ckpt").is_file()  # for more epochs
    # other numbers of threads add in another order; a training from the start would differ in the first digit
    agree(curves(before / "interrupted"), ANSWERS["trained without a stop"], within=5e-3)


def test_finished_trainings_are_not_repeated(before: Path) -> None:
    files = {path: path.read_bytes() for path in (before / "group").rglob("*") if path.is_file()}
    words = ("--seeds", "2", "--folds", "2", "--output", "group", "--resume", "-q")
    command(before, "train", "tiny-columns.yaml", "--data", "table.csv", *words)
    assert {path: path.read_bytes() for path in files} == files


def test_a_manifest_is_split_as_it_was(before: Path) -> None:
    written = (before / "music.csv").read_bytes()
    command(before, "data", "validate", "music.csv")
    sizes = ("--test-size", "0.34", "--validation-size", "0.25")
    command(before, "data", "split", "music.csv", "--protocol", "track", *sizes, "-o", "again.csv")
    assert (before / "again.csv").read_bytes() == written


def make_music(folder: Path) -> None:
    """Write eight sounds of 3 s a label: square waves in noise, whole numbers throughout, so that no bit differs."""
    for place, (label, period) in enumerate(PERIODS.items()):
        for number in range(8):
            path = folder / label / f"{label}-{number}.wav"
            write_sound(path, period + number % 3, 2_000 + 800 * number, seed=10 * place + number)


def write_sound(path: Path, period: int, gain: int, *, seed: int) -> None:
    """Write one sound of 3 s; `period` in samples, `gain` in steps of 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(RATE_HZ)
        stream.writeframes(sound(period, gain, seed=seed).astype("<i2").tobytes())
    os.utime(path, ns=(MODIFIED_NS, MODIFIED_NS))


def sound(period: int, gain: int, *, seed: int) -> np.ndarray:
    """Make 3 s of a square wave in noise, shape (24000,), whole numbers."""
    time = np.arange(3 * RATE_HZ)
    tone = np.where(time % period * 2 < period, gain, -gain)
    return tone + np.random.default_rng(seed).integers(-900, 901, len(time))


def heard(model: Path) -> dict[str, Any]:
    """What a model says of 30 s of a made-up waveform: shorter ones are padded for the table, far from any music."""
    waveform = np.tile(sound(11, 5_000, seed=99) / 32_768, 10).astype(np.float32)
    answer = Classifier(str(model), coverage="full").classify(waveform, sample_rate_hz=RATE_HZ)
    return {"scores": dict(answer.scores), "tags": dict(answer.tags), "genre": answer.genre}


def curves(folder: Path) -> list[dict[str, float]]:
    """Learning curves of a run, without what depends on the machine's speed."""
    with (folder / "logs" / "metrics.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = ("epoch", "train_loss", "validation_loss")
    return [{name: float(row[name]) for name in names} for row in rows]


def command(folder: Path, *words: str | Path) -> str:
    """Run a command in `folder` and return what it printed; it must succeed."""
    done = run(*words, cwd=folder, env={"MUSICGENRE_CACHE": str(folder.parent / "cache")})
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    return done.stdout.decode("utf-8")


def agree(found: Any, expected: Any, *, within: float = 1e-9, where: str = "answer") -> None:
    """Demand everything that is expected; more may have been found."""
    if isinstance(expected, dict):
        for key, value in expected.items():
            assert key in found, f"{where} has no {key}"
            agree(found[key], value, within=within, where=f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for place, (one, other) in enumerate(zip(found, expected, strict=True)):
            agree(one, other, within=within, where=f"{where}[{place}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-9, abs=within), where
    else:
        assert found == expected, where
