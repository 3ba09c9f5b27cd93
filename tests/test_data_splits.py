"""Protocols: sizes, repeatability, and nothing on both sides."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicgenre.data.manifest import Manifest, Track, read_manifest, write_manifest
from musicgenre.data.sets.gtzan import all_track_ids, published_split
from musicgenre.data.splits import (
    get_protocol,
    list_protocols,
    protocol_of,
    segment_leaky_parts,
    split,
    take_fold,
    with_validation,
)
from musicgenre.data.splits.registry import register
from musicgenre.errors import DataError, UsageError

_EIGHT = ("classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae")


def _manifest(counts: dict[str, int], *, per_group: int = 0) -> Manifest:
    return Manifest(
        None,
        tuple(
            Track(
                f"{label}-{n}", Path(f"/{label}/{n}.wav"), label, group=f"{label}{n // per_group}" if per_group else ""
            )
            for label, count in counts.items()
            for n in range(count)
        ),
    )


def _gtzan(labels: tuple[str, ...] | None = None) -> Manifest:
    tracks = (Track(name, Path(f"/{name}.wav"), name.split(".")[0]) for name in all_track_ids())
    return Manifest(None, tuple(track for track in tracks if labels is None or track.label in labels))


def _parts(manifest: Manifest) -> Counter[str]:
    return Counter(track.split for track in manifest.tracks)


def _by_label(manifest: Manifest, part: str) -> Counter[str]:
    return Counter(track.label for track in manifest.tracks if track.split == part)


def test_registry_names_and_errors() -> None:
    names = [protocol.name for protocol in list_protocols()]
    assert names == [
        *("artist", "artist-kfold", "fault-filtered", "kfold", "mtat-clean", "mtat-folders", "mtg-jamendo"),
        *("segment-leaky", "song", "stratified-500", "track"),
    ]
    assert all(protocol.summary and protocol.comparable for protocol in list_protocols())
    assert get_protocol("segment-leaky").leaky
    with pytest.raises(UsageError, match="Did you mean 'track'"):
        get_protocol("trak")
    with pytest.raises(UsageError, match=r"takes no --folds.*--test-size"):
        split(_gtzan(), "track", folds=3)
    with pytest.raises(UsageError, match="two protocols are called 'track'"):
        register("track", summary="", comparable="")(lambda manifest, seed: manifest)
    with pytest.raises(UsageError, match="negative"):
        split(_gtzan(), "track", seed=-1)


def test_default_track_split_has_equal_labels() -> None:
    done = split(_gtzan(), "track")
    assert _parts(done) == {"train": 700, "validation": 100, "test": 200}
    for part, count in (("train", 70), ("validation", 10), ("test", 20)):
        assert set(_by_label(done, part).values()) == {count}


def test_sizes_of_the_reports() -> None:
    assert _parts(split(_gtzan(), "track", test_size=0.2, validation_size=0)) == {"train": 800, "test": 200}
    b = split(_gtzan(_EIGHT), "track", train_size=540, test_size=150, validation_per_class=5)
    assert _parts(b) == {"train": 540, "validation": 40, "test": 150, "": 70}
    assert _by_label(b, "validation") == dict.fromkeys(_EIGHT, 5)
    unbalanced = split(
        _gtzan(_EIGHT), "track", train_size=540, test_size=150, validation_per_class=5, stratify_test=False
    )
    assert _parts(unbalanced) == _parts(b)
    assert len(set(_by_label(unbalanced, "test").values())) > 2
    fixed = split(_gtzan(), "track", test_per_class=7, validation_per_class=3)
    assert _parts(fixed) == {"train": 900, "validation": 30, "test": 70}


def test_published_splits() -> None:
    assert Counter(published_split("fault-filtered").values()) == {"train": 443, "validation": 197, "test": 290}
    assert Counter(published_split("stratified-500").values()) == {"train": 500, "validation": 250, "test": 250}
    assert _parts(split(_gtzan(), "fault-filtered")) == {"train": 443, "validation": 197, "test": 290, "": 70}
    with pytest.raises(DataError, match=r"fault-filtered finds no .*such as 'blues.00000'"):
        split(_manifest({"rock": 5, "pop": 5}), "fault-filtered")
    with pytest.raises(UsageError, match="no published split"):
        published_split("other")


@given(seed=st.integers(0, 10**6), shuffle=st.integers(0, 10**6))
@settings(max_examples=15)
@pytest.mark.parametrize("protocol", ["track", "kfold", "artist", "artist-kfold"])
def test_split_depends_on_ids_and_seed_alone(protocol: str, seed: int, shuffle: int) -> None:
    manifest = _manifest({"rock": 20, "pop": 30}, per_group=2)
    rows = list(manifest.tracks)
    random.Random(shuffle).shuffle(rows)
    ordered = {t.track_id: (t.split, t.fold) for t in split(manifest, protocol, seed=seed).tracks}
    shuffled = {t.track_id: (t.split, t.fold) for t in split(manifest.with_tracks(rows), protocol, seed=seed).tracks}
    assert ordered == shuffled


def test_a_split_stays_what_it_was() -> None:
    """Pinned: a changed algorithm would silently change published numbers."""
    test = [t.track_id for t in split(_manifest({"rock": 10, "pop": 10}), "track", seed=5).tracks if t.split == "test"]
    other = [
        t.track_id for t in split(_manifest({"rock": 10, "pop": 10}), "track", seed=6).tracks if t.split == "test"
    ]
    assert test == PINNED
    assert other != test


PINNED = ["rock-5", "rock-8", "pop-2", "pop-6"]


@given(
    counts=st.dictionaries(st.sampled_from("abcdef"), st.integers(3, 40), min_size=2),
    test_size=st.floats(0.1, 0.4),
    seed=st.integers(0, 99),
)
@settings(max_examples=60)
def test_every_label_is_in_every_part(counts: dict[str, int], test_size: float, seed: int) -> None:
    manifest = _manifest(counts)
    wanted = max(round(test_size * len(manifest)), len(counts))
    if wanted > len(manifest) - 2 * len(counts):
        with pytest.raises(DataError, match="At most"):
            split(manifest, "track", seed=seed, test_size=test_size)
        return
    done = split(manifest, "track", seed=seed, test_size=test_size)
    assert _parts(done)["test"] == wanted
    for part in ("train", "validation", "test"):
        assert set(_by_label(done, part)) == set(counts)


@pytest.mark.parametrize("protocol", ["track", "kfold", "artist", "artist-kfold"])
@pytest.mark.parametrize("seed", range(5))
def test_identical_files_stay_together(protocol: str, seed: int) -> None:
    manifest = _manifest({"rock": 30, "pop": 30}, per_group=3)
    tracks = [
        track.with_columns(md5="same" if track.track_id in _COPIES else track.track_id) for track in manifest.tracks
    ]
    done = split(manifest.with_tracks(tracks), protocol, seed=seed)
    assert len({(t.split, t.fold) for t in done.tracks if t.track_id in _COPIES}) == 1


_COPIES = {"rock-0", "rock-17", "pop-5"}


@pytest.mark.parametrize("seed", range(3))
def test_known_copies_of_gtzan_stay_together_without_checksums(seed: int) -> None:
    part = {t.track_id: t.split for t in split(_gtzan(), "track", seed=seed).tracks}
    assert part["metal.00058"] == part["rock.00016"]
    assert part["disco.00098"] == part["disco.00099"]


@pytest.mark.parametrize("seed", range(5))
def test_artists_stay_on_one_side(seed: int) -> None:
    manifest = _manifest({"rock": 40, "pop": 40, "jazz": 37}, per_group=4)
    done = split(manifest, "artist", seed=seed)
    places = {}
    for track in done.tracks:
        places.setdefault(track.group, set()).add(track.split)
    assert all(len(parts) == 1 for parts in places.values())
    assert set(_parts(done)) == {"train", "validation", "test"}
    folded = split(manifest, "artist-kfold", seed=seed, folds=3)
    folds = {}
    for track in folded.tracks:
        folds.setdefault(track.group, set()).add(track.fold)
    assert all(len(numbers) == 1 for numbers in folds.values())


def test_tracks_without_group_are_groups_of_their_own() -> None:
    manifest = _manifest({"rock": 20, "pop": 20}, per_group=2)
    tracks = [dataclasses.replace(t, group="") if t.label == "pop" else t for t in manifest.tracks]
    done = split(manifest.with_tracks(tracks), "artist", validation_size=0.2)
    assert set(_by_label(done, "test")) == {"rock", "pop"}
    with pytest.raises(DataError, match=r"names no group.*--artists FILE.*--set protocol\.name=track"):
        split(_manifest({"rock": 20, "pop": 20}), "artist")


def test_folds_are_even_and_taken_one_by_one() -> None:
    done = split(_gtzan(), "kfold", folds=10)
    assert set(Counter(t.fold for t in done.tracks).values()) == {100}
    assert _parts(done) == {"": 1000}
    tested: list[str] = []
    for fold in range(10):
        taken = take_fold(done, fold)
        assert _parts(taken) == {"test": 100, "train": 810, "validation": 90}
        tested += [track.track_id for track in taken.part("test").tracks]
    assert sorted(tested) == sorted(all_track_ids())
    assert _parts(take_fold(done, 0, validation_size=0)) == {"test": 100, "train": 900}
    with pytest.raises(UsageError, match="no fold 10"):
        take_fold(done, 10)
    with pytest.raises(UsageError, match="--protocol kfold"):
        take_fold(_gtzan(), 0)


def test_folds_of_a_small_set_have_every_label_in_validation() -> None:
    done = split(_manifest(dict.fromkeys("abcdefghij", 10)), "kfold")
    assert _parts(take_fold(done, 0)) == {"test": 20, "validation": 10, "train": 70}


def test_artists_stay_apart_inside_a_fold_too() -> None:
    done = split(_manifest({"rock": 60, "pop": 60}, per_group=3), "artist-kfold", folds=4)
    taken = take_fold(done, 1, validation_size=0.2)
    places = {}
    for track in taken.tracks:
        places.setdefault(track.group, set()).add(track.split)
    assert all(len(parts) == 1 for parts in places.values())


def test_a_split_of_two_parts_gets_its_validation_part_from_training() -> None:
    done = split(_manifest({"jazz": 40, "pop": 40}), "track", seed=1, validation_size=0)
    whole = with_validation(done, seed=3)
    assert _parts(done) == {"train": 64, "test": 16}
    assert _parts(whole) == {"train": 56, "validation": 8, "test": 16}
    for before, after in zip(done.tracks, whole.tracks, strict=True):
        moved = after.split == "validation"
        assert before.split == ("train" if moved else after.split)
        assert after.columns["split_before"] == ("train" if moved else "")
    assert Counter(t.label for t in whole.tracks if t.split == "validation") == {"jazz": 4, "pop": 4}
    assert with_validation(done, seed=3) == whole != with_validation(done, seed=4)
    assert with_validation(whole) is whole
    assert with_validation(split(_manifest({"jazz": 8, "pop": 8}), "kfold")).tracks[0].split == "", (
        "folds are not split"
    )
    with pytest.raises(DataError, match=r"no validation part.*too small"):
        with_validation(split(_manifest({"jazz": 2, "pop": 2}), "track", test_size=0.5, validation_size=0))


def test_the_validation_part_keeps_groups_apart_where_the_split_does() -> None:
    manifest = _manifest({"jazz": 60, "pop": 60}, per_group=5)
    whole = with_validation(split(manifest, "artist", validation_size=0))
    groups = {part: {t.group for t in whole.tracks if t.split == part} for part in ("train", "validation", "test")}
    assert groups["validation"] and not groups["train"] & groups["validation"]


def test_copies_of_what_validates_are_not_used() -> None:
    originals = _manifest({"jazz": 20, "pop": 20})
    copies = [
        dataclasses.replace(t, track_id=f"{t.track_id}~1", augmented=True, source_id=t.track_id)
        for t in originals.tracks
    ]
    whole = with_validation(split(Manifest(None, (*originals.tracks, *copies)), "track", validation_size=0))
    part_of = {track.track_id: track.split for track in whole.tracks}
    assert {part_of[f"{name}~1"] for name, part in part_of.items() if part == "validation"} == {""}


def test_augmented_rows_are_used_in_train_only() -> None:
    originals = _manifest({"rock": 20, "pop": 20}).tracks
    copies = [
        dataclasses.replace(t, track_id=f"{t.track_id}-aug", augmented=True, source_id=t.track_id, split="test")
        for t in originals
    ]
    manifest = Manifest(None, (*originals, *copies))
    done = split(manifest, "track")
    part = {t.track_id: t.split for t in done.tracks}
    assert {t.split for t in done.tracks if t.augmented} == {"train", ""}
    assert all((part[t.source_id] == "train") == (t.split == "train") for t in done.tracks if t.augmented)
    taken = take_fold(split(manifest, "kfold"), 0)
    part = {t.track_id: t.split for t in taken.tracks}
    assert all((part[t.source_id] == "train") == (t.split == "train") for t in taken.tracks if t.augmented)
    with pytest.raises(DataError, match="not in the manifest"):
        split(Manifest(None, (*originals[1:], *copies)), "track")
    with pytest.raises(DataError, match="no original"):
        split(Manifest(None, tuple(copies)), "track")


def test_segments_of_one_track_stay_together() -> None:
    tracks = tuple(
        Track(f"{label}.{n:05d}.{k}", Path("/t.csv"), label, columns={"parent": f"{label}.{n:05d}"})
        for label in ("rock", "pop")
        for n in range(10)
        for k in range(10)
    )
    done = split(Manifest(None, tracks), "track")
    places = {}
    for track in done.tracks:
        places.setdefault(track.columns["parent"], set()).add(track.split)
    assert all(len(parts) == 1 for parts in places.values())
    assert _parts(done) == {"train": 140, "validation": 20, "test": 40}


def test_record_is_written_and_read(tmp_path: Path) -> None:
    done = split(_gtzan(), "track", seed=4, test_size=0.3)
    again = read_manifest(write_manifest(done, tmp_path / "m.csv"))
    record = protocol_of(again)
    assert record is not None
    assert (record.protocol, record.seed, record.options) == ("track", 4, "test_size=0.3")
    assert protocol_of(_gtzan()) is None
    mixed = Manifest(None, (again.tracks[0], again.tracks[1].with_columns(protocol="kfold")))
    with pytest.raises(DataError, match="2 different protocols"):
        protocol_of(mixed)
    with pytest.raises(DataError, match="protocol_seed holds 'x'"):
        protocol_of(Manifest(None, (again.tracks[0].with_columns(protocol_seed="x"),)))
    assert protocol_of(split(again, "kfold")).protocol == "kfold"


def test_segment_leaky_leaves_tracks_alone_and_splits_segments() -> None:
    done = split(_gtzan(), "segment-leaky", seed=2)
    assert _parts(done) == {"": 1000}
    assert protocol_of(done).protocol == "segment-leaky"
    parts = segment_leaky_parts(1000, 2)
    assert Counter(parts) == {"train": 700, "test": 300}
    assert parts == segment_leaky_parts(1000, 2)
    assert parts != segment_leaky_parts(1000, 3)
    assert segment_leaky_parts(0, 0) == []
    with pytest.raises(UsageError, match="impossible"):
        segment_leaky_parts(10, 0, test_size=1.5)


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        ({"rock": 20}, {}, "one label only: rock"),
        ({"rock": 20, "pop": 1}, {}, r"no training track of pop \(has 1"),
        ({"rock": 20, "pop": 20}, {"test_size": 0.95}, "At most 36 of 40"),
        ({"rock": 20, "pop": 20}, {"test_size": 500}, "At most 36 of 40"),
        ({"rock": 20, "pop": 20}, {"test_size": 1}, "test part of 1 track cannot hold all 2 labels"),
        ({"rock": 20, "pop": 20}, {"train_size": 39}, "more than 40 tracks"),
        ({"rock": 20, "pop": 20}, {"test_per_class": 18}, "At most 2 of 40"),
    ],
)
def test_impossible_sizes(counts: dict[str, int], options: dict[str, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        split(_manifest(counts), "track", **options)


@pytest.mark.parametrize("options", [{"test_size": -0.1}, {"test_size": 10.5}, {"test_per_class": -1}])
def test_sizes_that_are_none(options: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        split(_gtzan(), "track", **options)


def test_labels_of_too_few_groups_are_named_beside_those_that_can_be_split() -> None:
    one, many = _manifest({"rock": 9}, per_group=9), _manifest({"jazz": 9, "metal": 9}, per_group=3)
    others = r"--set 'data\.labels=\[jazz,metal\]' of a training, or musicgenre data index --labels jazz,metal"
    with pytest.raises(DataError, match=rf"into 3 parts: rock \(1\)\..*{others}"):
        split(many.with_tracks([*many.tracks, *one.tracks]), "artist")
    with pytest.raises(DataError, match="or leave the label out"):
        split(_manifest({"jazz": 9, "rock": 9}, per_group=9), "artist")


def test_too_few_for_folds_or_groups() -> None:
    with pytest.raises(UsageError, match="--folds 1 is too few"):
        split(_gtzan(), "kfold", folds=1)
    with pytest.raises(DataError, match=r"into 5 folds: pop \(3\)"):
        split(_manifest({"rock": 20, "pop": 3}), "kfold")
    with pytest.raises(DataError, match=r"into 3 parts: pop \(2\)"):
        split(_manifest({"rock": 20, "pop": 8}, per_group=4), "artist")
