"""MagnaTagATune's splits, on tables of the original form and on the real lists."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from musicgenre.data.audit import audit
from musicgenre.data.manifest import Manifest
from musicgenre.data.sets.magnatagatune import FAULTS, TOP_50, index_magnatagatune
from musicgenre.data.splits import split, with_validation
from musicgenre.errors import DataError
from musicgenre.evaluation.protocols import caveats, check_split
from tests.mtat_table import full_table, manifest_of, table


def test_songs_stay_on_one_side(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, full_table())
    done = split(manifest, "song", seed=3)
    counts = {part: sum(track.split == part for track in done.tracks) for part in ("train", "validation", "test")}
    assert counts == {"train": 90, "validation": 0, "test": 30}
    assert audit(done).songs_across == {}
    assert {t.track_id: t.split for t in split(manifest, "song", seed=4).tracks} != {
        t.track_id: t.split for t in done.tracks
    }
    shuffled = manifest.with_tracks(reversed(manifest.tracks))
    assert {t.track_id: t.split for t in split(shuffled, "song", seed=3).tracks} == {
        t.track_id: t.split for t in done.tracks
    }
    with_validation = split(manifest, "song", seed=3, test_size=30, validation_size=0.1)
    assert sum(track.split == "validation" for track in with_validation.tracks) == 12
    for protocol in ("track", "artist"):
        assert audit(split(manifest, protocol, seed=1)).songs_across == {}
    assert audit(split(manifest, "artist", seed=1)).groups_across == {}


def test_song_needs_songs(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, [("1", ("guitar",), "a.mp3"), ("2", ("drone",), "b.mp3")])
    with pytest.raises(DataError, match=r"names the song of no clip.*--set protocol\.name=track"):
        split(manifest, "song")
    manifest = manifest_of(tmp_path, full_table(8))
    with pytest.raises(DataError, match="leave none of 24"):
        split(manifest, "song", test_size=0.6, validation_size=0.4)
    with pytest.raises(DataError, match="too few or too large for a test part"):
        split(manifest, "song", test_size=2)


def test_folder_splits(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, full_table())
    parts = {track.path.parent.name: track.split for track in split(manifest, "mtat-folders").tracks}
    assert {name for name, part in parts.items() if part == "train"} == set("0123456789ab")
    assert (parts["c"], parts["d"], parts["e"], parts["f"]) == ("validation", "test", "test", "test")
    with pytest.raises(DataError, match="no number in the column duration_s: ''"):
        split(manifest, "mtat-clean")
    with pytest.raises(DataError, match=r"no clip is longer than 29\.1 s: the longest has 29 s"):
        split(manifest.with_tracks(track.with_columns(duration_s="29.0") for track in manifest.tracks), "mtat-clean")
    lengths = ["29.124"] * (len(manifest) - 1) + ["29.100"]
    measured = manifest.with_tracks(
        track.with_columns(duration_s=length) for track, length in zip(manifest.tracks, lengths, strict=True)
    )
    clean = split(measured, "mtat-clean")
    unused = [track for track in clean.tracks if not track.split]
    assert {track.labels for track in unused[:-1]} == {("drone",)}, "no usual tag, no part"
    for track in clean.tracks:
        assert track.split in ("", parts[track.path.parent.name])
    elsewhere = manifest.with_tracks(track for track in manifest.tracks if track.path.parent.name != "c")
    with pytest.raises(DataError, match="finds no validation clip"):
        split(elsewhere, "mtat-folders")
    foreign = manifest.with_tracks([*manifest.tracks[:-1], manifest.tracks[-1].__class__("x", tmp_path / "x.mp3", "")])
    with pytest.raises(DataError, match=r"the clip x .* is not one of MagnaTagATune"):
        split(foreign, "mtat-folders")


@pytest.fixture(scope="module")
def real(shared_data: Path) -> tuple[dict[str, str], dict[str, set[str]]]:
    """Paths of all 25,863 clips; tags of the 7,154 clips of folders c to f."""
    lists = shared_data / "mtat-labels"
    lines = (lists / "index_mtt.tsv").read_text("utf-8").splitlines()
    paths = dict(line.split("\t") for line in lines)
    tags: dict[str, set[str]] = {}
    for name in ("val_gt_mtt.tsv", "test_gt_mtt.tsv"):
        for line in (lists / name).read_text("utf-8").splitlines():
            clip_id, vector = line.split("\t")
            tags[clip_id] = {tag for tag, bit in zip(TOP_50, json.loads(vector), strict=True) if bit}
    return paths, tags


@pytest.fixture(scope="module")
def real_manifest(
    real: tuple[dict[str, str], dict[str, set[str]]], tmp_path_factory: pytest.TempPathFactory
) -> Manifest:
    """All clips; the tags of training clips are not at hand, so each is given one that is not theirs: "drone"."""
    paths, tags = real
    path = tmp_path_factory.mktemp("real") / "annotations_final.csv"
    path.write_text(
        table([(i, tuple(tags.get(i, ("drone",))), name) for i, name in paths.items()], (*TOP_50, "drone"))
    )
    found = index_magnatagatune(path, tags="top50", files=False)
    assert {str(p.relative_to(path.parent).as_posix()) for p, _ in found.expected} == set(FAULTS)
    return found.manifest


@pytest.mark.real_data
def test_the_real_list_names_the_usual_tags(shared_data: Path) -> None:
    text = (shared_data / "mtat-labels" / "output_labels_mtt.txt").read_text("utf-8")
    assert tuple(ast.literal_eval(text.partition("=")[2].strip())) == TOP_50


@pytest.mark.real_data
def test_real_songs_artists_and_folders(real_manifest: Manifest) -> None:
    assert len(real_manifest) == 25_860
    assert len({track.group for track in real_manifest.tracks}) == 230
    assert len({track.columns["parent"] for track in real_manifest.tracks}) == 5293
    done = split(real_manifest, "mtat-folders")
    counts = {part: sum(t.split == part for t in done.tracks) for part in ("train", "validation", "test")}
    assert counts == {"train": 18_706, "validation": 1825, "test": 5329}, "the published lists' counts"
    in_train = {track.group for track in done.tracks if track.split == "train"}
    known = sum(track.group in in_train for track in done.tracks if track.split == "test")
    assert (known, round(known / 5329, 2)) == (3284, 0.62), "what the protocol's card says"
    places: dict[str, set[str]] = {}
    for track in done.tracks:
        places.setdefault(track.columns["parent"], set()).add(track.split)
    assert sum(len(parts) > 1 for parts in places.values()) == 28, "songs that are on two albums"
    check = check_split([done])
    assert (check.n_shared_songs, check.n_shared_groups, check.n_shared_tracks) == (59, 3284, 0)
    assert "59 of 5329 test clips are of a song that is in training as well" in caveats("mtat-folders", check)


@pytest.mark.real_data
def test_the_real_clean_split(real: tuple[dict[str, str], dict[str, set[str]]], real_manifest: Manifest) -> None:
    measured = real_manifest.with_tracks(
        track.with_columns(duration_s="29.124", top50_tags="1")
        if track.path.parent.name < "c"
        else track.with_columns(duration_s="29.124")
        for track in real_manifest.tracks
    )
    done = split(measured, "mtat-clean")
    own = {part: {t.track_id for t in done.tracks if t.split == part} for part in ("validation", "test")}
    assert (len(own["validation"]), len(own["test"])) == (1529, 4332), "the counts of the published cleaned lists"
    _, tags = real
    assert own["validation"] | own["test"] == {clip_id for clip_id, given in tags.items() if given}


@pytest.mark.real_data
def test_the_real_split_by_song(real_manifest: Manifest) -> None:
    done = split(real_manifest, "song", seed=0)
    assert sum(track.split == "test" for track in done.tracks) == 6465
    places: dict[str, set[str]] = {}
    for track in done.tracks:
        places.setdefault(track.columns["parent"], set()).add(track.split)
    assert all(len(parts) == 1 for parts in places.values())
    assert check_split([done]).n_shared_songs == 0
    whole = with_validation(done)
    counts = {part: sum(t.split == part for t in whole.tracks) for part in ("train", "validation", "test")}
    assert counts == {"train": 16_971, "validation": 2424, "test": 6465}, "what the page says"
    songs = {t.columns["parent"]: t.split for t in whole.tracks}
    assert all(songs[track.columns["parent"]] == track.split for track in whole.tracks)
