"""One model under four protocols: the numbers side by side, and what the data cannot give said so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from musicgenre.data.manifest import Manifest, read_manifest
from musicgenre.errors import DataError, UsageError
from musicgenre.features.representations.table import COLUMNS
from musicgenre.judging.leak_report import PAGE_FILE, REPORT_FILE, leak_report
from musicgenre.runs.folder import open_run
from tests.cli import run as run_command
from tests.labelled_music import make_collection, make_table

pytestmark = [
    pytest.mark.usefixtures("own_cache"),
    pytest.mark.filterwarnings("ignore:segment-leaky"),
]
QUICK = ["data.labels=[]", "training.epochs=2", "representation.options.segment_s=1.0"]


def by_artist(manifest: Manifest) -> Manifest:
    """Every track by an artist of its own."""
    return manifest.with_tracks(replace(track, group=f"artist of {track.track_id}") for track in manifest.tracks)


def test_four_numbers_side_by_side(tmp_path: Path) -> None:
    manifest = by_artist(read_manifest(make_collection(tmp_path / "music", tracks_a_label=8)))
    folder = tmp_path / "report"
    said: list[str] = []
    found = leak_report("mfcc-mlp", manifest, folder, overrides=QUICK, report=said.append)
    leaky, track, artist, filtered = found.rows
    assert [row.protocol for row in found.rows] == ["segment-leaky", "track", "artist", "fault-filtered"]
    for row in (leaky, track, artist):
        assert row.accuracy is not None and row.segment_accuracy is not None and row.n_test > 0
        assert open_run(folder / row.protocol).protocol == row.protocol
    assert leaky.n_test > track.n_test, "the leaky one tests segments of nearly all tracks"
    assert filtered.accuracy is None and filtered.reason
    assert any("fault-filtered is not to be had" in line for line in said)

    text = found.to_text()
    assert "not to be had" in text and "a known mistake" in text and text.count("[") >= 6
    assert [line.split(" ")[0] for line in found.findings()] == ["segment-leaky", "track"]
    content = json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))
    assert content["rows"][1]["accuracy"]["value"] == track.accuracy.value  # type: ignore[union-attr]
    page = (folder / PAGE_FILE).read_text(encoding="utf-8")
    assert "<svg" in page and "segment-leaky, by segment" in page

    weights = {row: (folder / row / "model.safetensors").stat().st_mtime_ns for row in ("track", "artist")}
    assert leak_report("mfcc-mlp", manifest, folder, overrides=QUICK, resume=True) == found
    assert weights == {row: (folder / row / "model.safetensors").stat().st_mtime_ns for row in weights}


def test_what_the_data_cannot_give_is_said(tmp_path: Path) -> None:
    table = make_table(tmp_path / "table.csv", COLUMNS)
    settings = ["representation.name=columns", "data.labels=[]"]
    found = leak_report("table-naive-bayes-30s", table, tmp_path / "whole", overrides=settings, folds=3)
    reasons = {row.protocol: row.reason for row in found.rows}
    assert reasons["segment-leaky"] == "the recipe reads whole tracks: there are no segments to deal"
    assert reasons["artist-kfold"] == "the manifest has no artists (column group)"
    assert reasons["kfold"] == "" and found.rows[1].n_test == len(table)
    assert found.findings() == []

    with pytest.raises(UsageError, match="every one is tried"):
        leak_report("mfcc-mlp", table, tmp_path / "no", overrides=["protocol.name=track"])
    with pytest.raises(UsageError, match="no single model"):
        leak_report("mel-cnn2d-tags", table, tmp_path / "no")
    with pytest.raises(DataError, match="no protocol can be had"):
        leak_report("table-naive-bayes-30s", table.with_tracks(table.tracks[:2]), tmp_path / "no", overrides=settings)


def test_the_command(tmp_path: Path) -> None:
    make_table(tmp_path / "table.csv", COLUMNS)
    words = ["leak-report", "table-naive-bayes-30s", "--data", tmp_path / "table.csv", "--output", tmp_path / "out"]
    done = run_command(*words, "--set", "representation.name=columns", "--set", "data.labels=[]", "--jobs", "1")
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().splitlines()[-1] == str(tmp_path / "out")
    assert "leak report: table-naive-bayes-30s on table.csv" in done.stdout.decode()
