"""The store: views without copies, honest parts, exact normalisation, damage named."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from musicgenre.data.manifest import Track
from musicgenre.data.rows import FeatureRows, Normalisation, measure_normalisation
from musicgenre.data.store import ReadyTrack, Store, is_store, open_store, write_store
from musicgenre.errors import DataError

SHAPE = (2, 3)


def features_of(name: str, count: int) -> np.ndarray:
    seed = sum(map(ord, name))
    return np.random.default_rng(seed).standard_normal((count, *SHAPE)).astype(np.float32)


def make_store(folder: Path, tracks: list[Track], segments: int = 3) -> Store:
    folder.mkdir(exist_ok=True)
    description = {
        "representation": {"name": "toy", "version": 1},
        "segment_s": 2.0,
        "hop_s": 2.0,
        "dtype": "float32",
        "shape": list(SHAPE),
        "row_axis": 0,
        "labels": sorted({label for track in tracks for label in track.labels}),
        "skipped": [],
    }
    ready = [ReadyTrack(track, f"key {track.track_id}", np.arange(segments) * 2.0) for track in tracks]
    write_store(folder, description, ready, lambda track: features_of(track.track.track_id, segments))
    return open_store(folder)


def make_tracks(count: int, **common: object) -> list[Track]:
    return [Track(f"t{i}", Path(f"/t{i}.wav"), "ab"[i % 2], **common) for i in range(count)]  # type: ignore[arg-type]


def make_split() -> list[Track]:
    parts = ("train", "train", "train", "validation", "test", "test")
    tracks = [Track(f"t{i}", Path(f"/t{i}"), "ab"[i % 2], split=part) for i, part in enumerate(parts)]
    return [*tracks, Track("copy", Path("/copy"), "a", split="train", augmented=True, source_id="t0")]


def test_parts_hold_their_tracks_rows_and_nothing_else(tmp_path: Path) -> None:
    store = make_store(tmp_path, make_split())
    assert is_store(tmp_path)
    sizes = {name: len(store.part(name)) for name in (*store.parts, "all")}
    assert sizes == {"train": 12, "validation": 3, "test": 6, "all": 21}
    train = store.part("train")
    assert set(train.track_ids) == {"t0", "t1", "t2", "copy"}
    assert train.source_ids[train.augmented].tolist() == ["t0"] * 3
    assert train.starts_s.tolist() == [0.0, 2.0, 4.0] * 4
    for row, (track_id, start_s) in enumerate(zip(train.track_ids, train.starts_s, strict=True)):
        np.testing.assert_array_equal(train.features[row], features_of(track_id, 3)[int(start_s / 2)])


def test_one_file_a_part_and_readable_by_numpy_alone(tmp_path: Path) -> None:
    store = make_store(tmp_path, make_split())
    files = {path.name.partition("-")[0]: np.load(path, mmap_mode="r") for path in tmp_path.glob("*.npy")}
    assert {name: array.shape for name, array in files.items()} == {
        name: (len(store.part(name)), *SHAPE) for name in store.parts
    }


def test_evaluation_parts_never_hold_augmented_rows(tmp_path: Path) -> None:
    tracks = [*make_split(), Track("bad", Path("/bad"), "a", split="test", augmented=True, source_id="t4")]
    store = make_store(tmp_path, tracks)
    assert not store.part("test").augmented.any()
    folds = make_store(
        tmp_path / "folds",
        [*make_tracks(4, fold=0), Track("c", Path("/c"), "a", fold=0, augmented=True, source_id="t0")],
    )
    assert set(folds.fold(0)["test"].track_ids) == {"t0", "t1", "t2", "t3"}


def test_folds_share_their_features(tmp_path: Path) -> None:
    tracks = [Track(f"t{i}", Path(f"/t{i}"), "ab"[i % 2], fold=i % 3) for i in range(6)]
    store = make_store(tmp_path, tracks)
    assert (store.folds, store.parts, store.normalisation) == ((0, 1, 2), (), None)
    parts = store.fold(1, validation=2)
    assert {name: sorted(set(part.track_ids)) for name, part in parts.items()} == {
        "train": ["t0", "t3"],
        "test": ["t1", "t4"],
        "validation": ["t2", "t5"],
    }
    assert parts["train"].features.files == store.everything.features.files
    norm = store.normalisation_of(store.fold(1)["train"])
    values = np.concatenate([features_of(f"t{i}", 3) for i in (0, 3, 2, 5)]).astype(np.float64)
    np.testing.assert_allclose(norm.mean, values.mean(axis=(0, 2)))
    np.testing.assert_allclose(norm.std, values.std(axis=(0, 2)))
    for wrong in ({"fold": 7}, {"fold": 0, "validation": 9}):
        with pytest.raises(DataError, match="no fold"):
            store.fold(**wrong)


def test_stored_normalisation_is_of_the_training_part(tmp_path: Path) -> None:
    store = make_store(tmp_path, make_split())
    train = store.part("train").features[:].astype(np.float64)
    assert store.normalisation is not None
    np.testing.assert_allclose(store.normalisation.mean, train.mean(axis=(0, 2)))
    normalised = store.normalisation.apply(store.part("train").features[:])
    np.testing.assert_allclose(normalised.mean(axis=(0, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(normalised.std(axis=(0, 2)), 1, atol=1e-5)


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 4), st.integers(1, 5)),
               elements=st.floats(-1000, 1000, width=32)),
    st.sampled_from([None, 0, 1]),
    st.floats(0, 1e6),
)  # fmt: skip
@settings(max_examples=80)
def test_normalisation_equals_numpy_in_double(
    tmp_path_factory: pytest.TempPathFactory, values: np.ndarray, axis: int | None, offset: float
) -> None:
    values = values + np.float32(offset)
    path = tmp_path_factory.mktemp("rows") / "rows.npy"
    np.save(path, values)
    count = len(values)
    rows = FeatureRows(
        [path], values.shape[1:], values.dtype, np.zeros(count, np.int64), np.arange(count, dtype=np.int64)
    )
    norm = measure_normalisation(rows, axis)
    axes = tuple(a for a in range(3) if axis is None or a != axis + 1)
    exact = values.astype(np.float64)
    np.testing.assert_allclose(norm.mean, np.atleast_1d(exact.mean(axis=axes)), rtol=1e-9, atol=1e-9)
    std = np.atleast_1d(exact.std(axis=axes))
    varies = std > 1e-6 * np.maximum(1, np.abs(norm.mean))
    np.testing.assert_allclose(norm.std[varies], std[varies], rtol=1e-6)
    assert (norm.std > 0).all()
    again = Normalisation.from_dict(json.loads(json.dumps(norm.as_dict())))
    np.testing.assert_array_equal(again.apply(values), norm.apply(values))


def test_normalisation_in_pieces_equals_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(tmp_path, make_split())
    whole = store.normalisation_of(store.everything)
    monkeypatch.setattr("musicgenre.data.rows._CHUNK_BYTES", 100)
    pieces = store.normalisation_of(store.everything)
    np.testing.assert_allclose(whole.mean, pieces.mean, rtol=1e-12)
    np.testing.assert_allclose(whole.std, pieces.std, rtol=1e-12)


def test_constant_rows_are_not_divided_by_zero() -> None:
    norm = Normalisation(np.zeros(1), np.ones(1), None)
    assert norm.apply(np.full((2, 3), 5.0, np.float32)).tolist() == [[5.0] * 3] * 2


@given(st.lists(st.integers(-21, 20), max_size=30))
@settings(max_examples=40)
def test_indexing_is_that_of_an_array(tmp_path_factory: pytest.TempPathFactory, index: list[int]) -> None:
    store = make_store(tmp_path_factory.mktemp("store"), make_split())
    rows = store.everything.features
    whole = np.asarray(rows)
    assert (rows.shape, len(rows)) == ((21, *SHAPE), 21)
    numbers = np.array(index, np.int64)
    np.testing.assert_array_equal(rows[numbers], whole[numbers])
    np.testing.assert_array_equal(rows[3:17:2], whole[3:17:2])
    np.testing.assert_array_equal(rows[np.arange(21) % 2 == 0], whole[::2])
    np.testing.assert_array_equal(rows.take(numbers)[:], whole[numbers])
    assert np.asarray(rows, dtype=np.float64).dtype == np.float64


def test_views_travel_to_workers_without_their_data(tmp_path: Path) -> None:
    store = make_store(tmp_path, make_tracks(40, split="train"), segments=200)
    view = store.part("train")
    expected = view.features[7999]
    sent = pickle.dumps(view.features)
    assert len(sent) < 8000 * 2 * 8 + 2000
    np.testing.assert_array_equal(pickle.loads(sent)[7999], expected)


def test_several_labels_become_targets(tmp_path: Path) -> None:
    tracks = [Track("x", Path("/x"), "a", labels=("a", "c")), Track("y", Path("/y"), "b")]
    view = make_store(tmp_path, tracks, segments=1).part("all")
    assert view.label_names == ("a", "b", "c")
    assert view.targets().tolist() == [[1, 0, 1], [0, 1, 0]]
    assert view.labels.tolist() == [0, 1]


def test_segment_leaky_shares_tracks_between_the_parts_but_no_segment(tmp_path: Path) -> None:
    store = make_store(tmp_path, make_split(), segments=10)
    parts = store.segment_leaky(3)
    keys = {
        name: set(zip(part.track_ids.tolist(), part.starts_s.tolist(), strict=True)) for name, part in parts.items()
    }
    assert len(keys["test"]) == 18
    assert not keys["train"] & keys["test"]
    assert len(keys["train"] | keys["test"]) == 60
    assert {track_id for track_id, _ in keys["test"]} <= {track_id for track_id, _ in keys["train"]}
    again = store.segment_leaky(3)
    assert again["test"].track_ids.tolist() == parts["test"].track_ids.tolist()


def test_a_new_state_replaces_the_old_one_and_foreign_files_stay(tmp_path: Path) -> None:
    first = make_store(tmp_path, make_split())
    (tmp_path / "my-own-notes-about-this.csv").write_text("mine", encoding="utf-8")
    old = first.part("train")
    second = make_store(tmp_path, make_tracks(3, split="train"))
    assert len(list(tmp_path.glob("*.npy"))) == 1
    assert len(second.part("train")) == 9
    assert (tmp_path / "my-own-notes-about-this.csv").exists()
    assert len(old) == 12


def test_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no store"):
        open_store(tmp_path)
    store = make_store(tmp_path / "s", make_split())
    with pytest.raises(DataError, match="no part 'dev'"):
        store.part("dev")
    part = next((tmp_path / "s").glob("test-*.npy"))
    content = part.read_bytes()
    part.write_bytes(content[:-4])
    with pytest.raises(DataError, match="missing or cut short"):
        open_store(tmp_path / "s")
    part.write_bytes(content)
    next((tmp_path / "s").glob("index-*.csv")).unlink()
    with pytest.raises(DataError, match="index"):
        open_store(tmp_path / "s")
    (tmp_path / "s" / "store.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="damaged"):
        open_store(tmp_path / "s")


def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    make_store(tmp_path, make_split())
    path = tmp_path / "store.json"
    newer = {**json.loads(path.read_text("utf-8")), "format_version": 99}
    path.write_text(json.dumps(newer), encoding="utf-8")
    with pytest.raises(DataError, match="newer musicgenre"):
        open_store(tmp_path)
