"""Streaming from the store: exact epochs, nothing lost or doubled, the same again, resumed by epoch."""

from __future__ import annotations

import copy
import pickle
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musicgenre._parallel import OrderedPool
from musicgenre.data.rows import draw_example
from musicgenre.data.shards import write_shards
from musicgenre.data.store import PartView, Store
from musicgenre.errors import DataError, MissingExtraError, RecipeError, UsageError
from musicgenre.features.representations.table import COLUMNS
from musicgenre.runs.folder import RunFolder
from musicgenre.training.batches import Batches, Examples, Shuffled, one_a_track
from musicgenre.training.checkpoint import read_safetensors
from musicgenre.training.fit import Hardware
from musicgenre.training.material import gather_material
from musicgenre.training.recipes import load_recipe
from musicgenre.training.stream import Multiplexed
from musicgenre.training.train import train
from tests.labelled_music import make_collection, make_table, make_tagged
from tests.pool_work import end_process
from tests.small_store import make_store

QUICK = [
    "protocol.options={test_size: 0.34, validation_size: 0.17}",
    "training.learning_rate=0.002",
    "training.batch_size=8",
    "training.stream.active=4",
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store") / "s")


@pytest.fixture(scope="module")
def part(store: Store) -> PartView:
    return store.part("train")


def rows_in(batches: Batches) -> list[int]:
    """The value of every row that came, in order."""
    return [int(value) for x, _ in batches for value in x.flatten(1)[:, 0]]


class Sizes:
    """A part with so many rows a track, and nothing else."""

    def __init__(self, sizes: list[int]) -> None:
        self.track_ids = np.repeat([f"t{number}" for number in range(len(sizes))], sizes)

    def __len__(self) -> int:
        return len(self.track_ids)


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=12),
    active=st.integers(1, 12),
    rate=st.none() | st.floats(1, 4),
    seed=st.integers(0, 2**31),
    epoch=st.integers(0, 500),
)
def test_an_epoch_is_every_example_once(
    sizes: list[int], active: int, rate: float | None, seed: int, epoch: int
) -> None:
    examples = Examples(Sizes(sizes))  # type: ignore[arg-type]
    stream = Multiplexed(examples, min(active, len(sizes)), seed, rate=rate)
    rows = list(stream.rows(epoch))
    assert len(stream) == sum(sizes)
    assert sorted(rows) == list(range(sum(sizes)))
    assert rows == list(stream.rows(epoch))
    assert rows == np.concatenate(list(stream.chunks(epoch, 5))).tolist()


def test_order_follows_from_seed_and_epoch_alone(part: PartView) -> None:
    np.random.seed(1)  # noqa: NPY002 - pescador takes this state where none is given
    examples = Examples(part)
    stream = Multiplexed(examples, 4, 7)
    first = list(stream.rows(0))
    np.random.seed(2)  # noqa: NPY002
    assert list(Multiplexed(examples, 4, 7).rows(0)) == first
    assert list(pickle.loads(pickle.dumps(stream)).rows(0)) == first
    assert list(copy.deepcopy(stream).rows(0)) == first
    assert list(stream.rows(1)) != first
    assert list(Multiplexed(examples, 4, 8).rows(0)) != first


def test_active_tracks_are_mixed_and_no_more_of_them(part: PartView) -> None:
    """With three open tracks of three rows, at most three are unfinished at any time, and they alternate."""
    stream = Multiplexed(Examples(part), 3, 0)
    left, most, turns, before = Counter[str](), 0, 0, ""
    for row in stream.rows(0):
        track = str(part.track_ids[row])
        left[track] += 1
        most = max(most, sum(0 < seen < 3 for seen in left.values()))
        turns += track != before
        before = track
    assert most == 3
    assert turns > 18  # twelve tracks one after the other would be 12 turns; every row a turn, 36


def test_rate_lets_a_track_give_way_early(part: PartView) -> None:
    """At rate 1 every visit is one example, so that open tracks change all the time."""
    patient = list(Multiplexed(Examples(part), 2, 0).rows(0))
    restless = list(Multiplexed(Examples(part), 2, 0, rate=1).rows(0))
    assert len(set(part.track_ids[patient[:8]])) <= 4
    assert len(set(part.track_ids[restless[:8]])) >= 5
    assert sorted(restless) == sorted(patient)


@pytest.mark.parametrize(("wanted", "least", "most"), [(10, 0, 1), (36, 1, 1), (50, 1, 2), (100, 2, 3)])
def test_epoch_is_as_long_as_it_says(part: PartView, wanted: int, least: int, most: int) -> None:
    stream = Multiplexed(Examples(part), 4, 0, n_examples=wanted)
    counts = Counter(stream.rows(3))
    assert len(stream) == counts.total() == wanted
    assert all(least <= counts[row] <= most for row in range(36))
    batches = Batches(part, 8, order=stream, training=True, in_memory_mb=0)
    assert len(rows_in(batches)) == wanted
    assert len(batches) == -(-wanted // 8)


def test_more_streams_than_tracks_opens_all_and_says_so(part: PartView) -> None:
    with pytest.warns(UserWarning, match="active=20, but the training part has 12 tracks"):
        stream = Multiplexed(Examples(part), 20, 0)
    assert sorted(stream.rows(0)) == list(range(36))


def test_fresh_examples_change_and_cover_all(part: PartView) -> None:
    examples = Examples(part, "fresh")
    for order in (Shuffled(examples, 0), Multiplexed(examples, 4, 0)):
        epochs = [np.sort(np.concatenate(list(order.chunks(epoch, 5)))) for epoch in range(40)]
        assert all((part.track_ids[rows] == np.unique(part.track_ids)).all() for rows in epochs)
        assert len(order) == 12
        assert epochs[0].tolist() != epochs[1].tolist()
        seen = Counter(int(row) for rows in epochs for row in rows)
        assert set(seen) == set(range(36))
        assert max(seen.values()) < 30  # 40 visits of three rows each: 13 on average


def test_stored_example_hangs_on_seed_and_name_alone(store: Store, part: PartView) -> None:
    kept = one_a_track(part, 5)
    assert len(kept) == 12
    assert len(set(kept.starts_s)) > 1
    by_name = dict(zip(kept.track_ids, kept.starts_s, strict=True))
    mixed = part.take(np.random.default_rng(0).permutation(36)[:36])
    some = one_a_track(mixed.take(np.isin(mixed.track_ids, ["t001", "t002", "t009"])), 5)
    assert all(by_name[name] == start for name, start in zip(some.track_ids, some.starts_s, strict=True))
    assert one_a_track(part, 6).starts_s.tolist() != kept.starts_s.tolist()
    assert Counter(draw_example(0, f"t{number}", 3) for number in range(3000)).most_common()[-1][1] > 900


def test_workers_change_nothing(part: PartView) -> None:
    order = Multiplexed(Examples(part), 4, 0)
    alone = Batches(part, 5, order=order, training=True, in_memory_mb=0, epoch=lambda: 2)
    helped = Batches(part, 5, order=order, training=True, in_memory_mb=0, epoch=lambda: 2, workers=2)
    try:
        for _ in range(2):  # the same processes serve every epoch
            for (x, y), (other_x, other_y) in zip(alone, helped, strict=True):
                assert torch.equal(x, other_x)
                assert torch.equal(y, other_y)
        assert helped.waited_s > 0
    finally:
        helped.close()


def test_a_worker_that_cannot_read_says_why(tmp_path: Path) -> None:
    part = make_store(tmp_path / "s").part("train")
    (part.features.files[1]).unlink()
    batches = Batches(part, 5, in_memory_mb=0, workers=1)
    try:
        with pytest.raises(FileNotFoundError, match="npy"):
            list(batches)
    finally:
        batches.close()


def test_devices_share_every_batch(part: PartView) -> None:
    order = Multiplexed(Examples(part), 4, 0)
    whole = rows_in(Batches(part, 6, order=order, training=True, in_memory_mb=0))
    shares = [rows_in(Batches(part, 6, order=order, training=True, in_memory_mb=0, rank=r, world=2)) for r in (0, 1)]
    assert len(shares[0]) == len(shares[1]) == 18
    assert sorted(shares[0] + shares[1]) == sorted(whole) == sorted(part.features[:][:, 0, 0].astype(int).tolist())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("stream.actve=3", "Nearest: 'training.stream.active'"),
        ("stream.active=-1", "training.stream.active=-1"),
        ("stream.rate=0.5", "training.stream.rate=0.5"),
        ("stream.epoch_examples=0", "training.stream.epoch_examples=0"),
        ("stream.bad_shards=ignore", "'stop' or 'skip'"),
        ("examples=some", "'all', 'stored' or 'fresh'"),
    ],
)
def test_keys_are_checked(setting: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message.replace("(", r"\(")):
        load_recipe("mfcc-cnn", [f"training.{setting}"])


class _PowerCut(BaseException):
    """What no code of ours catches."""


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collection(tmp_path_factory.mktemp("music"), duration_s=6.0)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def weights(run: Path) -> dict[str, np.ndarray]:
    return read_safetensors(run / "model.safetensors")[0]


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_interrupted_stream_resumes_at_an_epoch_and_ends_the_same(
    tmp_path: Path, music: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    monkeypatch.setattr("musicgenre.training.bookkeeper.RESUME_EVERY_S", 0.0)
    chosen = [*QUICK, "training.epochs=4", "training.stream.rate=1.5", "training.examples=fresh"]
    if task == "multi_label":
        music = make_tagged(tmp_path)  # some values unknown
        chosen += ["task=multi_label", "training.monitor=validation_roc_auc", "training.positive_weights=balanced"]
    whole = train("mfcc-cnn", music, output=tmp_path / "whole", overrides=chosen)

    written = RunFolder.write_metrics

    def cut(self: RunFolder, rows: list[dict[str, float]]) -> None:
        if len(rows) == 3:  # epoch 2 is trained, nothing of it is kept
            raise _PowerCut
        written(self, rows)

    monkeypatch.setattr(RunFolder, "write_metrics", cut)
    with pytest.raises(_PowerCut):
        train("mfcc-cnn", music, output=tmp_path / "cut", overrides=chosen)
    monkeypatch.setattr(RunFolder, "write_metrics", written)
    resumed = train("mfcc-cnn", music, output=tmp_path / "cut", overrides=chosen, resume=True)
    assert RunFolder(resumed).read_metrics("train_loss") == RunFolder(whole).read_metrics("train_loss")
    assert all(np.array_equal(value, weights(resumed)[name]) for name, value in weights(whole).items())


def test_evaluation_scores_all_segments_whatever_trains(tmp_path: Path, music: Path) -> None:
    for kind in ("stored", "fresh"):
        run = train(
            "mfcc-cnn",
            music,
            output=tmp_path / kind,
            overrides=[*QUICK, "training.epochs=1", f"training.examples={kind}"],
        )
        lines = (run / "predictions_test.csv").read_text("utf-8").splitlines()
        assert len(lines) - 1 == 2 * 6  # two segments of each of the six test tracks
        assert RunFolder(run).read_metrics("waiting_share")[0] > 0


def test_stored_examples_are_drawn_in_preparation(tmp_path: Path, music: Path) -> None:
    """The store holds one segment a training track, the one that a draw over a full store would have taken."""
    chosen = load_recipe("mfcc-cnn", [*QUICK, "training.examples=stored"])
    material = gather_material(chosen, music, store=tmp_path / "one")
    assert len(material.store.part("train")) == 9
    assert len(material.store.part("test")) == 2 * 6
    full = gather_material(load_recipe("mfcc-cnn", QUICK), music, store=tmp_path / "full")
    drawn = one_a_track(full.store.part("train"), 0)
    (_, parts), (_, again) = material.round(None), full.round(None)
    assert parts.train.starts_s.tolist() == drawn.starts_s.tolist()
    assert (parts.train.features[:] == drawn.features[:]).all()
    assert len(again.train) == 18
    folds = gather_material(chosen, music, folds=3, store=tmp_path / "folds")
    assert len(folds.store.everything) == 36
    _, one_fold = folds.round(0)
    assert len(one_fold.train) == len(set(one_fold.train.track_ids))
    assert len(one_fold.test) == 2 * len(set(one_fold.test.track_ids))


def test_stored_examples_do_not_go_with_single_segments(tmp_path: Path, music: Path) -> None:
    with pytest.raises(RecipeError, match="segment-leaky"):
        train(
            "mfcc-cnn-leaky", music, output=tmp_path / "run", overrides=["training.examples=stored", "data.exclude=[]"]
        )


@pytest.mark.parametrize("setting", ["training.stream.active=4", "training.examples=fresh"])
def test_models_without_epochs_do_not_stream(tmp_path: Path, setting: str) -> None:
    table = make_table(tmp_path / "table.csv", COLUMNS)
    with pytest.raises(UsageError, match=setting.partition("=")[0]):
        train("table-knn-30s", table, output=tmp_path / "run", overrides=[setting, "data.exclude=[]"])


def test_without_pescador_the_extra_is_named(part: PartView, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pescador", None)
    with pytest.raises(MissingExtraError, match=r"musicgenre\[stream\]"):
        Multiplexed(Examples(part), 4, 0)


def test_a_worker_that_dies_is_an_error() -> None:
    pool = OrderedPool(end_process, 2, 1)
    try:
        with pytest.raises(DataError, match="a process that reads the data died"):
            list(pool.run(range(5)))
    finally:
        pool.close()


def test_an_empty_part_is_no_stream(part: PartView) -> None:
    with pytest.raises(DataError, match="no examples"):
        Examples(part.take(np.zeros(0, np.int64)))


@pytest.mark.slow
@pytest.mark.parametrize("source", ["store", "shards"])
def test_two_devices_train_on_a_stream(tmp_path: Path, music: Path, source: str) -> None:
    chosen = [*QUICK, "training.epochs=3"]
    data = music
    if source == "shards":
        material = gather_material(load_recipe("mfcc-cnn", QUICK), music)
        write_shards(material.store, material.manifest, tmp_path / "shards", shard_mb=0.05)
        data = tmp_path / "shards"
    run = train("mfcc-cnn", data, output=tmp_path / "run", overrides=chosen, hardware=Hardware(devices=2))
    losses = RunFolder(run).read_metrics("train_loss")
    assert len(losses) == 3
    assert losses[-1] < losses[0]
