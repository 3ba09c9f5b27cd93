"""Targets of tagging: manifests of tags round-trip, unknown is not absent, bad values are named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from musicgenre.augment.offline import augment
from musicgenre.augment.waveform import get_chain
from musicgenre.cli import app
from musicgenre.data.audit import audit
from musicgenre.data.manifest import Manifest, Track, read_manifest, write_manifest
from musicgenre.data.splits import split
from musicgenre.data.targets import tag_targets, with_teacher
from musicgenre.errors import DataError
from tests.labelled_music import TAGS, make_tagged

_TAG_SETS = st.lists(st.sets(st.sampled_from(["a b", "c", "no d", "é"]), max_size=4), min_size=1, max_size=6)


def manifest_of(*tags: tuple[str, ...], **columns: str) -> Manifest:
    return Manifest(None, tuple(Track(f"t{n}", Path(f"/m/{n}"), "", t, columns=columns) for n, t in enumerate(tags)))


def read_text(folder: Path, text: str) -> Manifest:
    (folder / "m.csv").write_text(text, encoding="utf-8")
    return read_manifest(folder / "m.csv")


@given(sets=_TAG_SETS)
def test_manifests_of_tags_round_trip(tmp_path_factory: pytest.TempPathFactory, sets: list[set[str]]) -> None:
    if not any(sets):
        return  # a manifest without any tag is none
    written = manifest_of(*(tuple(sorted(tags)) for tags in sets))
    path = write_manifest(written, tmp_path_factory.mktemp("m") / "m.csv")
    assert read_manifest(path).tracks == written.tracks
    assert [set(track.labels) for track in read_manifest(path).tracks] == sets


def test_labels_are_tags_only_where_no_row_has_a_label(tmp_path: Path) -> None:
    tags = read_text(tmp_path, "path,labels\na.wav,x;y\nb.wav,\nc.wav,x\n")
    assert [(track.label, track.labels) for track in tags.tracks] == [("", ("x", "y")), ("", ()), ("", ("x",))]
    single = read_text(tmp_path, "path,labels\na.wav,x\nb.wav,y\n")
    assert [track.label for track in single.tracks] == ["x", "y"]
    with pytest.raises(DataError, match="line 3, column label"):
        read_text(tmp_path, "path,label,labels\na.wav,x,x;y\nb.wav,,\n")
    with pytest.raises(DataError, match="A label on every row, or on none"):
        write_manifest(Manifest(None, (Track("a", Path("/a"), "x"), Track("b", Path("/b"), ""))), tmp_path / "n.csv")


def test_unknown_is_not_absent() -> None:
    manifest = manifest_of(("x",), ("x", "y"), ())
    tracks = (manifest.tracks[0].with_columns(unknown="y"), *manifest.tracks[1:])
    targets = tag_targets(manifest.with_tracks(tracks))
    assert targets.tags == ("x", "y") and not targets.soft
    np.testing.assert_array_equal(targets.table, [[1, np.nan], [1, 1], [0, 0]])
    rows = targets.of_rows(np.array(["t2", "t0", "t0"]))
    np.testing.assert_array_equal(rows[np.array([0, 2])], [[0, 0], [1, np.nan]])
    np.testing.assert_array_equal(rows.take(np.array([2]))[:], [[1, np.nan]])
    assert tag_targets(manifest, tags=["y", "x"]).table[0].tolist() == [0, 1]


def test_soft_targets_come_from_columns() -> None:
    manifest = manifest_of((), (), **{"target:b": "0.25", "target:a": ""})
    targets = tag_targets(manifest, "columns")
    assert targets.tags == ("a", "b") and targets.soft
    np.testing.assert_array_equal(targets.table, [[np.nan, 0.25]] * 2)


@pytest.mark.parametrize(
    ("manifest", "source", "tags", "message"),
    [
        (manifest_of(("x",), ("y",)), "labels", ["x", "z"], "no track has the tag 'z'.*Tags are x, y"),
        (manifest_of(("x",)), "labels", [], "two different tags"),
        (manifest_of(("x",), ("y",), unknown="z"), "labels", [], "unknown value of 'z', a tag that no track has"),
        (manifest_of(("x", "y"), unknown="y"), "labels", [], "in labels or in unknown, not in both"),
        (manifest_of((), ()), "labels", [], "no tag on any track"),
        (manifest_of(("x", "y")), "columns", [], "no column target:TAG"),
        (manifest_of((), **{"target:a": "1.5", "target:b": "0"}), "columns", [], "'1.5' in the column target:a"),
        (manifest_of((), **{"target:a": "yes", "target:b": "0"}), "columns", [], "A number from 0 to 1"),
        (manifest_of((), **{"target:a": "-inf", "target:b": "0"}), "columns", [], "A number from 0 to 1"),
    ],
)
def test_bad_targets_are_named(manifest: Manifest, source: str, tags: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        tag_targets(manifest, source, tags)  # type: ignore[arg-type]


def test_tags_are_split_by_track_and_dealt_to_folds() -> None:
    manifest = manifest_of(*((("x",), ("y",), ("x", "y"), ())[n % 4] for n in range(40)))
    parts = [track.split for track in split(manifest, "track", seed=3).tracks]
    assert {part: parts.count(part) for part in parts} == {"train": 28, "test": 8, "validation": 4}
    folds = [track.fold for track in split(manifest, "kfold", seed=3, folds=5).tracks]
    assert [folds.count(fold) for fold in range(5)] == [8] * 5


def test_augmented_copies_keep_tags_and_what_is_unknown(tmp_path: Path) -> None:
    manifest = read_manifest(make_tagged(tmp_path, n_tracks=4, duration_s=0.5))
    tracks = [track.with_columns(**{"target:bright": "0.5"}) for track in manifest.tracks]
    manifest = manifest.with_tracks(dataclasses.replace(track, split="train") for track in tracks)
    chain = get_chain("b2").only(("Shift",))
    copies = [t for t in augment(manifest, chain, tmp_path / "aug", copies=1, seed=0).manifest.tracks if t.augmented]
    assert len(copies) == 4
    for copy in copies:
        source = next(track for track in manifest.tracks if track.track_id == copy.source_id)
        assert (copy.label, copy.labels) == ("", source.labels)
        assert copy.columns["unknown"] == source.columns["unknown"] and copy.columns["target:bright"] == "0.5"


def test_a_teachers_answers_become_targets(tmp_path: Path) -> None:
    data = make_tagged(tmp_path, n_tracks=3, duration_s=0.5)
    manifest = read_manifest(data)
    lines = [
        json.dumps({"path": str(track.path), "error": None, "tags": {"rock": 0.5, "jazz": number / 10}})
        for number, track in enumerate(manifest.tracks)
    ]
    answers = tmp_path / "answers.jsonl"
    answers.write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = CliRunner().invoke(app, ["data", "targets", str(data), str(answers), "-o", str(tmp_path / "taught.csv")])
    assert done.exit_code == 0 and "3 tracks, soft targets of 2 tags" in done.output
    targets = tag_targets(read_manifest(tmp_path / "taught.csv"), "columns")
    assert targets.tags == ("jazz", "rock")
    np.testing.assert_allclose(targets.table, [[0.0, 0.5], [0.1, 0.5], [0.2, 0.5]])
    for text, message in [
        (lines[0], "no answer for 2 of 3 tracks"),
        ("\n".join([*lines[:2], lines[2].replace('"rock": 0.5, ', "")]), "names 1 of 2 tags"),
        ("nonsense", "holds no answers"),
        ("\n".join([*lines, lines[0]]), "is answered twice"),
        ("\n".join([*lines[:2], lines[2].replace("0.5", "2.0")]), "rock is 2.0 for .* not from 0 to 1"),
        ("\n".join([*lines[:2], lines[2].replace("0.5", "NaN")]), "rock is nan"),
        ("\n".join(lines).replace("rock", "a;b"), "the tag 'a;b'"),
        (lines[0].replace('{"rock": 0.5, "jazz": 0.0}', "{}"), "names no tags"),
    ]:
        answers.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=message):
            with_teacher(manifest, answers)
    with pytest.raises(DataError, match="cannot be read"):
        with_teacher(manifest, tmp_path / "none.jsonl")


def test_tags_are_audited_tag_by_tag(tmp_path: Path) -> None:
    manifest = manifest_of(*((("x",), ("x", "y"), ())[n % 3] for n in range(30)))
    found = audit(split(manifest, "track", seed=0))
    assert {tag: sum(parts.values()) for tag, parts in found.balance.items()} == {"x": 20, "y": 10}
    assert any("10 of 30 tracks have no tag" in text for text in found.warnings)
    assert not any("one label only" in text for text in found.warnings)


def test_tags_of_the_helper_can_be_listed(tmp_path: Path) -> None:
    assert tag_targets(read_manifest(make_tagged(tmp_path, n_tracks=9, duration_s=0.2))).tags == TAGS
