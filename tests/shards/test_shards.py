"""Shards: written whole, read safely, the same epoch every time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from musicgenre.cli import app
from musicgenre.data.shard_places import Shard
from musicgenre.data.shards import open_shards, write_shards
from musicgenre.data.store import Store
from musicgenre.errors import DataError, UsageError
from musicgenre.training.batches import Examples, one_a_track
from musicgenre.training.recipes import StreamSection
from musicgenre.training.stream import ShardBatches
from tests.small_shards import SHARD_MB, batches_of, values_in


def test_shards_hold_the_store(folder: Path, store: Store) -> None:
    shards = open_shards(folder)
    assert [s.n_rows for s in shards.streamed] == [6] * 6
    assert shards.labels == store.labels
    assert shards.normalisation is not None and store.normalisation is not None
    assert shards.normalisation.mean == store.normalisation.mean
    for name in ("validation", "test"):
        mine, theirs = shards.part(name), store.part(name)
        order, other = np.lexsort((mine.starts_s, mine.track_ids)), np.lexsort((theirs.starts_s, theirs.track_ids))
        assert (mine.features[order] == theirs.features[other]).all()
        assert (mine.labels[order] == theirs.labels[other]).all()
    part = shards.part("train")
    stored = store.part("train")
    track_of = dict(zip(stored.features[:][:, 0, 0].astype(int).tolist(), stored.track_ids.tolist(), strict=True))
    batches = batches_of(shards)
    found = [(value, int(y)) for x, ys in batches for value, y in zip(x[:, 0, 0].int().tolist(), ys, strict=True)]
    assert sorted(value for value, _ in found) == sorted(track_of)
    label_of = dict(zip(part.track_ids, part.labels, strict=True))
    assert all(label_of[track_of[value]] == label for value, label in found)


def test_writing_is_repeatable_and_mixed(tmp_path: Path, store: Store, folder: Path) -> None:
    again = write_shards(store, None, tmp_path / "again", shard_mb=SHARD_MB)
    other = write_shards(store, None, tmp_path / "other", shard_mb=SHARD_MB, seed=1)
    assert {s.file: s.sha256 for s in again} == {s.file: s.sha256 for s in open_shards(folder).shards}
    assert {s.sha256 for s in again}.isdisjoint(s.sha256 for s in other if s.part == "train")
    order = open_shards(tmp_path / "again").part("train").track_ids[::3].tolist()
    assert order != sorted(order)


def test_epoch_is_exact_repeatable_and_new_each_time(folder: Path) -> None:
    shards = open_shards(folder)
    first = values_in(batches_of(shards))
    assert len(first) == 36 == len(set(first))
    assert len(batches_of(shards)) == 5
    assert values_in(batches_of(shards)) == first
    assert values_in(batches_of(shards, epoch=1)) != first
    assert values_in(batches_of(shards, seed=1)) != first
    assert values_in(batches_of(shards, buffer=1)) != first
    for wanted in (10, 50):
        counts = Counter(values_in(batches_of(shards, epoch_examples=wanted)))
        assert counts.total() == wanted and max(counts.values()) <= 2


def test_buffer_mixes_shards(folder: Path) -> None:
    """Without a buffer a shard's six rows come together; a large one mixes all of them."""
    shards = open_shards(folder)
    tracks = [value // 100 for value in values_in(batches_of(shards, buffer=1))]
    assert all(len(set(tracks[start : start + 6])) == 2 for start in range(0, 36, 6))
    mixed = [value // 100 for value in values_in(batches_of(shards, buffer=36))]
    assert any(len(set(mixed[start : start + 6])) > 3 for start in range(0, 36, 6))


def test_examples_of_a_track(folder: Path) -> None:
    shards = open_shards(folder)
    fresh = [sorted(values_in(batches_of(shards, kind="fresh", epoch=epoch))) for epoch in range(5)]
    assert all([value // 100 for value in values] == list(range(12)) for values in fresh)
    assert fresh[0] != fresh[1]
    part = one_a_track(shards.part("train"), 3)
    stored = ShardBatches(shards, part, Examples(part), 8, seed=0, settings=StreamSection(buffer=5))
    assert sorted(value // 100 for value in values_in(stored)) == list(range(12))
    assert sorted(values_in(stored)) == sorted(values_in(stored))


@pytest.mark.slow
def test_workers_change_nothing(folder: Path) -> None:
    shards = open_shards(folder)
    helped = batches_of(shards, workers=8)  # more than there are shards
    try:
        assert values_in(helped) == values_in(batches_of(shards))
        assert values_in(helped) == values_in(batches_of(shards))
    finally:
        helped.close()


def test_devices_share_every_batch(folder: Path) -> None:
    shards = open_shards(folder)
    shares = []
    for rank in range(2):
        batches = batches_of(shards)
        batches.rank, batches.world = rank, 2
        shares.append(values_in(batches))
    assert [len(share) for share in shares] == [18, 18]
    assert sorted(shares[0] + shares[1]) == sorted(values_in(batches_of(shards)))


def test_object_storage_gives_the_same(address: str, folder: Path) -> None:
    near, far = open_shards(folder), open_shards(address)
    assert far.place.remote
    assert values_in(batches_of(open_shards(f"file://{folder}"))) == values_in(batches_of(near))
    assert values_in(batches_of(far)) == values_in(batches_of(near))
    assert (far.part("test").features[:] == near.part("test").features[:]).all()


def test_patterns_choose_shards(address: str, folder: Path) -> None:
    for base in (str(folder), address):
        shards = open_shards(f"{base}/train-{{000001..000003}}.tar")
        assert [shard.file for shard in shards.streamed] == [f"train-00000{number}.tar" for number in (1, 2, 3)]
        assert len(shards.part("train")) == len(set(values_in(batches_of(shards)))) == 18
        assert len(shards.part("test")) == 9
        assert len(shards.manifest.part("train")) == 6
    with pytest.raises(UsageError, match=r"train-000006.tar is no training shard.*train-000000.tar to"):
        open_shards(f"{folder}/train-{{000005..000006}}.tar")
    with pytest.raises(UsageError, match="brace that does not close"):
        open_shards(f"{folder}/train-{{000005.tar")
    with pytest.raises(UsageError, match="several folders"):
        open_shards(f"{folder}/{{a,b}}/train-000000.tar")


@pytest.mark.parametrize("size_mb", [0.0, float("inf"), float("nan")])
def test_a_size_that_is_none_is_refused(store: Store, tmp_path: Path, size_mb: float) -> None:
    with pytest.raises(UsageError, match="is no size"):
        write_shards(store, None, tmp_path / "shards", shard_mb=size_mb)


def test_what_is_not_ours_is_never_overwritten(store: Store, tmp_path: Path) -> None:
    own = tmp_path / "shards" / "train-000000.tar"
    own.parent.mkdir()
    own.write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"is not empty: it holds train-000000\.tar"):
        write_shards(store, None, own.parent)
    assert own.read_bytes() == b"mine" and len(list(own.parent.iterdir())) == 1


def test_a_folder_in_use_is_never_written_over(folder: Path, store: Store) -> None:
    before = (folder / "shards.json").read_bytes()
    with pytest.raises(UsageError, match="holds shards already"):
        write_shards(store, None, folder)
    assert (folder / "shards.json").read_bytes() == before
    (folder / "shards.json").unlink()  # as a killed run leaves it
    (folder / ".unfinished").touch()
    with pytest.raises(DataError, match="there are no shards"):
        open_shards(folder)
    write_shards(store, None, folder, shard_mb=SHARD_MB)
    assert (folder / "shards.json").read_bytes() == before


def test_a_store_is_written_by_the_command(tmp_path: Path, store: Store) -> None:
    done = CliRunner().invoke(app, ["shard", str(store.folder), "--output", str(tmp_path / "out"), "-q"])
    assert done.exit_code == 0
    assert done.output.startswith("54 rows in 3 shards")
    assert isinstance(open_shards(tmp_path / "out").shards[0], Shard)
