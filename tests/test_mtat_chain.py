"""MagnaTagATune from its table to an answer: the parts of tagging, joined by the commands that a user types."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from musicgenre.cli import app
from musicgenre.data.manifest import read_manifest, write_manifest
from musicgenre.data.sets.magnatagatune import ALL_TAGS, TOP_50
from musicgenre.evaluation.evaluate import evaluate
from musicgenre.evaluation.metrics import fitted_thresholds
from musicgenre.runs.folder import open_run
from tests.narrow import narrow_vggish

RATE_HZ = 16_000
# every sixth example of a clip; one epoch
QUICK = ["--set", "training.epochs=1", "--set", "training.batch_size=8", "--set", "representation.hop_s=5.76", "-q"]
INFO = "clip_id track_number title artist album url segmentStart segmentEnd original_url mp3_path"


def say(*words: str | Path) -> str:
    """Run a command that must succeed; return what it printed."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, f"{words}: {done.output} {done.exception}"
    return done.output


def written(rows: list[list[str]]) -> str:
    """Rows in the original's form."""
    return "".join("\t".join(f'"{cell}"' for cell in row) + "\n" for row in rows)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of one song in each of the folders 0 to f, 29.12 s each, and their 188 tags and titles."""
    folder = tmp_path_factory.mktemp("mtat")
    rng = np.random.default_rng(3)
    rows, info = [["clip_id", *ALL_TAGS, "mp3_path"]], [INFO.split(" ")]
    time_s = np.arange(round(29.12 * RATE_HZ)) / RATE_HZ
    for number in range(32):
        song, start = f"artist{number // 4}-album-01-song{number // 2}", 29 * (number % 2)
        path = f"{number // 2:x}/{song}-{start}-{start + 29}.wav"
        kind = number % 4
        sound = 0.2 * np.sin(2 * np.pi * 200 * 2**kind * time_s) + 0.02 * rng.standard_normal(len(time_s))
        (folder / path).parent.mkdir(exist_ok=True)
        soundfile.write(folder / path, sound.astype(np.float32), RATE_HZ, subtype="PCM_16")
        rows.append([str(number), *(str(int(place % 4 == kind)) for place in range(188)), path])
        url = f"http://example/{song}.mp3"
        info.append([str(number), "1", song, path.split("-", maxsplit=1)[0], "album", "", str(start), "", url, path])
    (folder / "annotations_final.csv").write_text(written(rows))
    (folder / "clip_info_final.csv").write_text(written(info))
    return folder / "annotations_final.csv"


@pytest.fixture(autouse=True)
def small(own_cache: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep features apart, and let VGGish have few channels."""
    narrow_vggish(monkeypatch)


def parts_in(path: Path) -> dict[str, str]:
    """The part of every clip."""
    return {track.track_id: track.split for track in read_manifest(path).tracks}


@pytest.mark.slow
def test_song_split_streamed_to_an_answer(table: Path, tmp_path: Path) -> None:
    manifest, split, run, bundle = (tmp_path / name for name in ("all.csv", "song.csv", "run", "vggish-tagger.onnx"))
    say("data", "index", table, "--tags", "all", "--output", manifest)
    say("data", "split", manifest, "--protocol", "song", "--output", split)
    said = say(
        "train", "vggish-tagger-scratch", "--data", split, "--output", run, "--set", "training.stream.active=4", *QUICK
    )
    assert "the split has no validation part: 2 of 24 training tracks choose the weights" in said
    before, after = parts_in(split), parts_in(run / "manifest.csv")
    assert set(before.values()) == {"train", "test"}
    assert {name for name, part in after.items() if part == "test"} == {n for n, p in before.items() if p == "test"}
    songs = {part: {int(name) // 2 for name in after if after[name] == part} for part in set(after.values())}
    assert not songs["train"] & songs["validation"], "the clips of a song stay together"

    test, validation = (open_run(run).tag_predictions(part).by_track() for part in ("test", "validation"))
    assert set(validation.track_ids) == {name for name, part in after.items() if part == "validation"}
    assert len(test.labels) == 188
    report = evaluate(run)
    assert [score.threshold for score in report.scores] == pytest.approx(fitted_thresholds(validation))
    text = say("evaluate", run)
    assert f"right decisions          {report.decisions.accuracy:.4f}; never naming any tag: 0.7500" in text
    assert "the split has no validation part: 2 of its training tracks chose weights and thresholds" in text
    assert all(f"\n  {tag} " in text for tag in test.labels), "a line a tag"

    say("export", run, "-o", bundle)
    clip = next((table.parent / "0").iterdir())
    answer = json.loads(say("classify", clip, "--model", bundle, "--format", "json", "--timeline", "-q"))
    assert answer["genre"] is None and set(answer["chosen"]) <= set(ALL_TAGS)
    assert answer["timeline"][0]["tags"]


@pytest.mark.slow
def test_fifty_tags_by_folder_with_fresh_examples(table: Path, tmp_path: Path) -> None:
    manifest, split, run = tmp_path / "top.csv", tmp_path / "folders.csv", tmp_path / "run"
    say("data", "index", table, "--output", manifest)
    say("data", "split", manifest, "--protocol", "mtat-folders", "--output", split)
    assert Counter(parts_in(split).values()) == {"train": 24, "validation": 2, "test": 6}
    said = say(
        "train", "vggish-tagger-scratch", "--data", split, "--output", run, "--set", "training.examples=fresh", *QUICK
    )
    assert "no validation part" not in said
    assert set(open_run(run).labels) == set(TOP_50)
    assert "mtat-folders" in say("evaluate", run)


def test_shards_keep_what_is_unknown(table: Path, tmp_path: Path) -> None:
    weak, split, shards = tmp_path / "weak.csv", tmp_path / "clean.csv", tmp_path / "shards"
    say("data", "index", table, "--output", weak)
    manifest = read_manifest(weak)
    write_manifest(
        manifest.with_tracks(
            track.with_columns(unknown="" if "guitar" in track.labels else "guitar" * (n % 2))
            for n, track in enumerate(manifest.tracks)
        ),
        weak,
    )
    say("data", "split", weak, "--protocol", "mtat-clean", "--output", split)
    say(
        "shard", split, "--recipe", "vggish-tagger-scratch", *QUICK[:-1], "--output", shards, "--shard-mb", "0.1", "-q"
    )
    kept = {track.track_id: track for track in read_manifest(shards / "manifest.csv").tracks}
    for track in read_manifest(split).tracks:
        assert kept[track.track_id].columns["unknown"] == track.columns["unknown"]
        assert kept[track.track_id].labels == track.labels
    run = tmp_path / "run"
    say("train", "vggish-tagger-scratch", "--data", shards, "--output", run, *QUICK)
    for part in ("validation", "test"):
        predictions = open_run(run).tag_predictions(part).by_track()
        guitar = predictions.truth[:, predictions.labels.index("guitar")]
        for track_id, value in zip(predictions.track_ids, guitar, strict=True):
            assert np.isnan(value) == (kept[track_id].columns["unknown"] == "guitar")
    report = evaluate(run)
    guitar = next(score for score in report.scores if score.tag == "guitar")
    assert guitar.n_known < report.n_tracks
