"""Looking for leaks: copies, artists on both sides, contradicting labels, lopsided classes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import soundfile

from musicgenre.data.audit import audit
from musicgenre.data.index import index_folder, index_table, read_artists
from musicgenre.data.manifest import Manifest, Track
from musicgenre.data.splits import split
from tests.sounds import music


def _folder(folder: Path, files: dict[str, bytes]) -> Manifest:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return index_folder(folder, checksums=False).manifest


def test_a_clean_folder(tmp_path: Path) -> None:
    files = {f"{label}/{label}{n}.wav": f"{label}{n}".encode() for label in ("rock", "pop") for n in range(12)}
    found = audit(_folder(tmp_path, files))
    assert found.ok
    assert not found.leaks
    assert found.balance == {"pop": {"": 12}, "rock": {"": 12}}
    assert found.warnings == ("24 of 24 tracks have no group (artist): whether theirs repeat is not known",)


def test_copies_and_contradictions(tmp_path: Path) -> None:
    manifest = _folder(tmp_path, {"rock/a.wav": b"1", "rock/b.wav": b"1", "pop/c.wav": b"2", "rock/d.wav": b"2"})
    told: list[tuple[int, int]] = []
    found = audit(manifest, progress=lambda *now: told.append(now))
    assert {frozenset(ids) for ids in found.duplicates} == {frozenset("ab"), frozenset("cd")}
    assert found.conflicts == (("c", "d"),)
    assert found.copies_across == ()
    assert not found.ok
    assert told[-1] == (4, 4)
    parts = dict(zip("abcd", ("train", "test", "train", ""), strict=True))
    split_by_hand = manifest.with_tracks(dataclasses.replace(t, split=parts[t.track_id]) for t in manifest.tracks)
    found = audit(split_by_hand)
    assert found.copies_across == (("a", "b"),)
    assert found.leaks


def test_a_name_known_from_gtzan_never_overrides_the_content(tmp_path: Path) -> None:
    files = {
        "metal/metal.00034.wav": b"1",
        "metal/metal.00094.wav": b"2",
        "metal/metal.00040.wav": b"3",
        "metal/other.wav": b"3",
    }
    assert audit(_folder(tmp_path, files)).duplicates == (("metal.00040", "other"),)
    table = tmp_path / "features.csv"
    table.write_text("filename,tempo,label\nmetal.00034.wav,1,metal\nmetal.00094.wav,2,metal\nx.wav,3,pop\n")
    assert audit(index_table(table).manifest).duplicates == (("metal.00034", "metal.00094"),)


def test_labels_that_are_nearly_one_are_named() -> None:
    tracks = tuple(_track(f"{label}{n}", label) for label in ("Hip-Hop", "hiphop", "Rock") for n in range(12))
    hints = [warning for warning in audit(Manifest(None, tracks)).warnings if "differ only by" in warning]
    assert len(hints) == 1
    assert "'Hip-Hop' (12), 'hiphop' (12)" in hints[0]


def test_tracks_shorter_than_a_segment_are_named(tmp_path: Path) -> None:
    tracks = []
    for name, duration_s in (("tick", 0.05), ("jingle", 1.6), ("song", 4.0)):
        soundfile.write(tmp_path / f"{name}.wav", music(duration_s, 8000, 1), 8000)
        tracks.append(Track(name, tmp_path / f"{name}.wav", "rock"))
    (note,) = [note for note in audit(Manifest(None, tuple(tracks))).warnings if "shorter" in note]
    assert note.startswith("2 of 3 tracks are shorter than 3 s")
    assert "tick (0.05 s), jingle (1.60 s)" in note


def test_copies_in_several_folds(tmp_path: Path) -> None:
    manifest = _folder(tmp_path, {"rock/a.wav": b"1", "pop/b.wav": b"1"})
    folded = manifest.with_tracks(dataclasses.replace(t, fold=n) for n, t in enumerate(manifest.tracks))
    assert audit(folded).copies_across == (("b", "a"),)


def _track(name: str, label: str = "rock", **values: object) -> Track:
    return Track(name, Path(__file__), label, columns={"md5": name}, **values)


def test_artists_on_both_sides() -> None:
    rows = [
        ("a", "train", "queen"),
        ("b", "test", "queen"),
        ("c", "test", "abba"),
        ("d", "test", ""),
        ("e", "train", ""),
    ]
    found = audit(Manifest(None, tuple(_track(name, split=part, group=group) for name, part, group in rows)))
    assert found.groups_across == {"queen": ("test", "train")}
    assert (found.n_test_with_known_group, found.n_test) == (1, 3)
    assert found.leaks


def test_augmented_rows_outside_train() -> None:
    tracks = (
        _track("a", split="train"),
        _track("b", "pop", split="test"),
        _track("a1", split="train", augmented=True, source_id="a"),
        _track("a2", split="test", augmented=True, source_id="a"),
        _track("b1", "pop", split="train", augmented=True, source_id="b"),
        _track("b2", "pop", split="", augmented=True, source_id="b"),
    )
    found = audit(Manifest(None, tracks))
    assert found.augmented_outside_train == ("a2", "b1")
    assert found.balance == {"pop": {"train": 0, "test": 1}, "rock": {"train": 1, "test": 0}}


def test_sizes_and_absent_files(tmp_path: Path) -> None:
    many = tuple(_track(f"r{n}") for n in range(60))
    few = tuple(Track(f"p{n}", tmp_path / "none.wav", "pop") for n in range(3))
    found = audit(Manifest(None, (*many, *few)))
    assert found.missing == ("p0", "p1", "p2")
    assert any("'pop' has 3 tracks only" in warning for warning in found.warnings)
    assert any("the largest label has 60 tracks, the smallest 3" in warning for warning in found.warnings)
    assert any("one label only: rock" in warning for warning in audit(Manifest(None, many)).warnings)


@pytest.mark.real_data
def test_gtzan_as_everybody_splits_it_leaks(shared_data: Path) -> None:
    tables = shared_data / "gtzan-tables"
    manifest = index_table(tables / "features_30_sec.csv", artists=read_artists(tables / "artists.csv")).manifest
    random = audit(split(manifest, "track", test_size=0.3, validation_size=0))
    assert len(random.duplicates) == 14
    assert random.conflicts == (("metal.00058", "rock.00016"),)
    assert random.copies_across == ()
    assert random.n_test_with_known_group / random.n_test > 0.75
    filtered = audit(split(manifest, "fault-filtered"))
    expected = (tables / "fault_filtered_shared_artists.txt").read_text().split()
    assert filtered.n_test_with_known_group == len(expected)
    apart = audit(split(manifest, "artist"))
    assert apart.groups_across == {}
