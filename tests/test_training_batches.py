"""Batches: every row once an epoch, orders from the seed alone, the same from memory and from disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from musicgenre.data.rows import FeatureRows, Normalisation
from musicgenre.data.store import PartView
from musicgenre.training.batches import Batches, Examples, Shuffled, read_ahead
from musicgenre.training.inputs import Normalise, normalise_from_dict


def part_of(folder: Path, count: int, shape: tuple[int, ...] = (2, 3), dtype: str = "float32") -> PartView:
    features = np.arange(count * int(np.prod(shape))).reshape(count, *shape).astype(dtype)
    np.save(folder / "rows.npy", features)
    rows = FeatureRows(
        [folder / "rows.npy"], shape, np.dtype(dtype), np.zeros(count, np.int64), np.arange(count, dtype=np.int64)
    )
    ids = np.array([f"t{number}" for number in range(count)])
    names = ("a", "b")
    return PartView(
        features=rows,
        labels=np.arange(count, dtype=np.int64) % 2,
        track_ids=ids,
        source_ids=ids,
        starts_s=np.zeros(count),
        augmented=np.zeros(count, np.bool_),
        label_names=names,
        label_sets=np.array([names[number % 2] for number in range(count)]),
    )


def shuffled(part: PartView, seed: int = 0) -> Shuffled:
    return Shuffled(Examples(part), seed)


@given(count=st.integers(1, 40), size=st.integers(1, 9), shuffle=st.booleans(), in_memory=st.booleans())
def test_every_row_comes_once(
    tmp_path_factory: pytest.TempPathFactory, count: int, size: int, shuffle: bool, in_memory: bool
) -> None:
    part = part_of(tmp_path_factory.mktemp("part"), count)
    order = shuffled(part) if shuffle else None
    batches = Batches(part, size, order=order, training=shuffle, in_memory_mb=100 if in_memory else 0)
    got = list(batches)
    seen = torch.cat([x for x, _ in got])[:, 0, 0].numpy() / 6
    single = shuffle and size > 1 and count % size == 1 and count > 1
    assert len(got) == len(batches)
    assert len(seen) == len(set(seen.tolist())) == count - single
    assert all(int(x[0, 0, 0] / 6) % 2 == y[0] for x, y in got)


@pytest.mark.parametrize("shape", [(5,), (2, 3), (3, 4, 5)])
def test_memory_and_disk_give_the_same(tmp_path: Path, shape: tuple[int, ...]) -> None:
    part = part_of(tmp_path, 23, shape, dtype="float16")
    pairs = zip(
        Batches(part, 4, order=shuffled(part, 3), training=True),
        Batches(part, 4, order=shuffled(part, 3), training=True, in_memory_mb=0),
        strict=True,
    )
    for (x, y), (other_x, other_y) in pairs:
        assert torch.equal(x, other_x)
        assert torch.equal(y, other_y)
        assert x.dtype == torch.float32


def test_order_depends_on_seed_and_epoch_alone(tmp_path: Path) -> None:
    part = part_of(tmp_path, 30)
    one = shuffled(part, 1)
    assert one.rows(5).tolist() == np.concatenate(list(one.chunks(5, 7))).tolist()
    assert one.rows(5).tolist() == shuffled(part, 1).rows(5).tolist()
    assert one.rows(5).tolist() != one.rows(6).tolist()
    assert one.rows(5).tolist() != shuffled(part, 2).rows(5).tolist()
    assert np.concatenate(list(Batches(part, 4).order.chunks(9, 7))).tolist() == list(range(30))


def test_processes_share_an_epoch_without_overlap(tmp_path: Path) -> None:
    part = part_of(tmp_path, 32)
    shares = [
        {
            int(value)
            for x, _ in Batches(part, 4, order=shuffled(part, 1), training=True, rank=rank, world=2)
            for value in x[:, 0, 0]
        }
        for rank in range(2)
    ]
    assert len(shares[0]) == len(shares[1]) == 16
    assert not shares[0] & shares[1]


def test_change_sees_rows_and_epoch(tmp_path: Path) -> None:
    part = part_of(tmp_path, 6)
    seen: list[tuple[list[int], int]] = []

    def change(raw: np.ndarray, rows: np.ndarray, epoch: int) -> np.ndarray:
        seen.append((rows.tolist(), epoch))
        return raw[:, :1] * 0

    (x, _), *_ = list(Batches(part, 6, epoch=lambda: 4, change=change))
    assert x.shape == (6, 1, 3)
    assert not x.any()
    assert seen == [([0, 1, 2, 3, 4, 5], 4)]


def test_errors_of_the_reading_thread_arrive(tmp_path: Path) -> None:
    def change(raw: np.ndarray, rows: np.ndarray, epoch: int) -> np.ndarray:
        raise ValueError("broken sound")

    with pytest.raises(ValueError, match="broken sound"):
        list(Batches(part_of(tmp_path, 6), 2, change=change))


def test_read_ahead_stops_when_its_reader_leaves() -> None:
    drawn = []

    def source():
        for number in range(1000):
            drawn.append(number)
            yield torch.tensor(number), torch.tensor(0)

    reader = read_ahead(source(), 3)
    assert int(next(reader)[0]) == 0
    reader.close()
    assert len(drawn) < 10


def test_waiting_is_measured(tmp_path: Path) -> None:
    batches = Batches(part_of(tmp_path, 50), 4)
    list(batches)
    assert batches.waited_s > 0


def test_normalise_layer_equals_the_numpy_one() -> None:
    measured = Normalisation(np.array([1.0, 2.0]), np.array([2.0, 4.0]), 0)
    x = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
    layer = Normalise("standard", 2, measured)
    np.testing.assert_allclose(layer(torch.from_numpy(x)).numpy(), measured.apply(x), rtol=1e-6)
    again = normalise_from_dict(layer.as_dict(), 2)
    assert torch.equal(again(torch.from_numpy(x)), layer(torch.from_numpy(x)))


def test_row_l2_and_none() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert Normalise("row_l2", 1)(x).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0.0, 0.0]]
    assert torch.equal(Normalise("none", 1)(x), x)
    for kind in ("row_l2", "none"):
        content = Normalise(kind, 1).as_dict()  # type: ignore[arg-type]
        assert content["kind"] == kind
        assert normalise_from_dict(content, 1).kind == kind
