"""GTZAN's splits against its real tables: artists, published lists and known copies."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from musicgenre.data.index import index_table, read_artists
from musicgenre.data.sets.gtzan import all_track_ids, published_split
from musicgenre.data.splits import split


@pytest.mark.real_data
def test_gtzan_by_artist_is_nearly_stratified(shared_data: Path) -> None:
    tables = shared_data / "gtzan-tables"
    manifest = index_table(tables / "features_30_sec.csv", artists=read_artists(tables / "artists.csv")).manifest
    done = split(manifest, "artist", seed=1)
    known = {t.group for t in done.tracks if t.split == "train"} - {""}
    assert not any(t.group in known for t in done.tracks if t.split == "test")
    assert all(17 <= n <= 23 for n in Counter(t.label for t in done.tracks if t.split == "test").values())
    by_track = split(manifest, "track", seed=1, test_size=0.3, validation_size=0)
    known = {t.group for t in by_track.tracks if t.split == "train"} - {""}
    shared = sum(t.group in known for t in by_track.tracks if t.split == "test") / 300
    assert 0.75 < shared < 0.9


@pytest.mark.real_data
def test_published_lists_are_the_published_ones(shared_data: Path) -> None:
    for protocol, ending in (("fault-filtered", "filtered"), ("stratified-500", "stratified")):
        parts = published_split(protocol)
        for part, name in (("train", "train"), ("validation", "valid"), ("test", "test")):
            lines = (shared_data / "gtzan-tables" / "splits" / f"{name}_{ending}.txt").read_text().split()
            assert {Path(line).stem for line in lines} == {track for track, own in parts.items() if own == part}
    shared = set((shared_data / "gtzan-tables" / "fault_filtered_shared_artists.txt").read_text().split())
    assert {track for track, part in published_split("fault-filtered").items() if part == "test"} >= shared


@pytest.mark.real_data
def test_known_copies_are_those_of_the_checksums(shared_data: Path) -> None:
    from musicgenre.data.sets.gtzan import known_duplicate
    from musicgenre.data.validate import read_checksums

    checksums = read_checksums(shared_data / "gtzan-tables" / "gtzan_md5.csv")
    copies: dict[str, set[str]] = {}
    for track_id, checksum in checksums.items():
        copies.setdefault(checksum, set()).add(track_id)
    expected = {frozenset(same) for same in copies.values() if len(same) > 1}
    found: dict[str, set[str]] = {}
    for track_id in all_track_ids():
        if first := known_duplicate(track_id, track_id.split(".")[0]):
            found.setdefault(first, set()).add(track_id)
    assert {frozenset(same) for same in found.values()} == expected
