"""Damaged shards: nothing in them is run, and every kind of damage is named."""

from __future__ import annotations

import hashlib
import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from musicgenre.data.shards import looks_like_shards, open_shards
from musicgenre.errors import DataError, MusicgenreError, UsageError
from musicgenre.training.train import train
from tests.small_shards import batches_of, damage_index, npy, put_shard, values_in


@pytest.mark.parametrize(
    "where",
    ["pipe:touch {mark}", "PIPE:touch {mark}", "pipe:touch {mark}; cat x.tar", "s3://b/x", "ssh:h", "-x:y.tar"],
)
def test_nothing_is_ever_run(tmp_path: Path, where: str) -> None:
    named = where.format(mark=tmp_path / "mark")
    with pytest.raises(MusicgenreError):
        train("mfcc-cnn", named, output=tmp_path / "run")
    assert not (tmp_path / "mark").exists()
    if not where.startswith("-"):
        with pytest.raises(UsageError, match="commands are never run"):
            open_shards(named)


class _Trap:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("kind", ["object array", "pkl", "pyd", "pth"])
def test_nothing_is_ever_unpickled(tmp_path: Path, folder: Path, kind: str) -> None:
    trap = _Trap(tmp_path / "mark")
    about = json.dumps({"track_id": "t", "row": 0}).encode()
    rows = np.array([trap], dtype=object) if kind == "object array" else np.zeros((6, 2, 3), np.float16)
    members = {"k.npy": npy(rows, allow_pickle=kind == "object array"), "k.json": about}
    if kind != "object array":
        members[f"k.{kind}"] = pickle.dumps(trap)
    put_shard(folder, "train-000000.tar", members | {"filling": b"x" * 100})
    with pytest.raises(DataError, match=r"train-000000.tar cannot be used"):
        values_in(batches_of(open_shards(folder)))
    assert not (tmp_path / "mark").exists()


def _shard_of(folder: Path) -> Path:
    return folder / "train-000002.tar"


def _truncate(folder: Path) -> None:
    content = _shard_of(folder).read_bytes()
    _shard_of(folder).chmod(0o644)
    _shard_of(folder).write_bytes(content[: len(content) // 2])


def _flip(folder: Path) -> None:
    content = bytearray(_shard_of(folder).read_bytes())
    content[700] ^= 1
    _shard_of(folder).chmod(0o644)
    _shard_of(folder).write_bytes(bytes(content))


def _rows(count: int, shape: tuple[int, ...] = (2, 3), dtype: str = "float16", row: int = 12) -> dict[str, bytes]:
    about = json.dumps({"track_id": "t", "row": row}).encode()
    return {"k.npy": npy(np.zeros((count, *shape), dtype)), "k.json": about}


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda f: _shard_of(f).unlink(), "cannot be read"),
    "truncated": (_truncate, r"has \d+ bytes"),
    "changed": (_flip, "SHA-256"),
    "no archive": (lambda f: put_shard(f, _shard_of(f).name, {}) or _zeros(f), "cannot be used|holds 0 rows"),
    "too few rows": (lambda f: put_shard(f, _shard_of(f).name, _rows(5)), "holds 5 rows"),
    "too many rows": (lambda f: put_shard(f, _shard_of(f).name, _rows(7)), "cannot be used"),
    "other rows": (lambda f: put_shard(f, _shard_of(f).name, _rows(6, row=0)), "holds the rows from 0 on"),
    "other shape": (lambda f: put_shard(f, _shard_of(f).name, _rows(6, (3, 2))), r"\(6, 3, 2\)"),
    "other type": (lambda f: put_shard(f, _shard_of(f).name, _rows(6, dtype="float32")), "float32"),
    "no json": (lambda f: put_shard(f, _shard_of(f).name, {"k.npy": npy(np.zeros(9))}), "not one npy and one json"),
}


def _zeros(folder: Path) -> None:
    put_shard(folder, _shard_of(folder).name, {"x": b"\0" * 4000})


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_or_passed_over(folder: Path, kind: str) -> None:
    damage, message = DAMAGE[kind]
    damage(folder)
    shards = open_shards(folder)
    with pytest.raises(DataError, match=message) as caught:
        values_in(batches_of(shards))
    assert "train-000002.tar" in str(caught.value)
    assert "bad_shards=skip" in str(caught.value)
    with pytest.warns(UserWarning, match=r"passed over 6 examples: .*train-000002.tar"):
        found = values_in(batches_of(shards, bad_shards="skip"))
    assert len(found) == 36 and len(set(found)) == 30  # as long as it says: six came twice


def test_no_shard_at_all_ends_even_where_bad_ones_are_passed_over(folder: Path) -> None:
    for path in folder.glob("train-*.tar"):
        path.unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(DataError, match="none of the 6 shards"):
            values_in(batches_of(open_shards(folder), bad_shards="skip"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index.update(format_version=9), "newer musicgenre"),
        (lambda index: index.pop("shards"), "it has no shards"),
        (lambda index: index.update(shards=[]), "its shards do not hold the rows"),
        (lambda index: index["shards"].pop(0), "shard"),
        (lambda index: index["shards"][0].update(n_rows="many"), "damaged"),
        (lambda index: index["shards"][0].update(file="../../etc/passwd"), "damaged"),
        (lambda index: index.update(parts={"../x": 3}), "damaged"),
        (lambda index: index["shards"][-1].update(n_rows=10**12), "damaged"),
        (lambda index: index.update(index_sha256="0" * 64), "index.csv is damaged"),
        (lambda index: index.update(labels=3), "its labels is '3'"),
        (lambda index: index.update(normalisation=3), "its normalisation is"),
        (lambda index: index.update(index=3), "its index is"),
        (lambda index: index.update(representation=3), "its representation is"),
        (lambda index: index.update(shape=[-2, 3]), "its shape is"),
        (lambda index: index.update(segment_s="q"), "damaged"),
        (lambda index: index["normalisation"].update(mean=[0.0] * 5, std=[1.0] * 5), "damaged"),
        (lambda index: index["shards"][0].update(n_bytes=float("inf")), "damaged"),
    ],
)
def test_damaged_index_is_named(folder: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    damage_index(folder, change)
    with pytest.raises(DataError, match=message):
        open_shards(folder)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("train,0,", "train,1,"),
        ("train,0,", "other,0,"),
        (",jazz,", ",polka,"),
        (",3.0,", ",late,"),
        (",false", ",maybe"),
    ],
)
def test_index_that_does_not_fit_is_named(folder: Path, old: str, new: str) -> None:
    path = folder / "index.csv"
    path.write_text(path.read_text("utf-8").replace(old, new, 1), "utf-8")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    damage_index(folder, lambda index: index.update(index_sha256=digest))
    with pytest.raises(DataError, match=r"index.csv does not fit its shards.json"):
        open_shards(folder)


def test_validation_shards_are_checked_before_training(folder: Path) -> None:
    (folder / "validation-000000.tar").unlink()
    with pytest.raises(DataError, match=r"validation-000000.tar cannot be read"):
        open_shards(folder)


def test_no_set_is_said_plainly(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("musicgenre.data.shard_places._WAIT_S", 0.0)
    assert not looks_like_shards(tmp_path)
    with pytest.raises(DataError, match="there are no shards in"):
        open_shards(tmp_path)
    with pytest.raises(DataError, match=r"there are no shards in .*HTTP Error 404"):
        open_shards(f"{address}/elsewhere")
    with pytest.raises(DataError, match="cannot be read"):
        open_shards("http://127.0.0.1:9/nothing")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("train-{000000..999999999}.tar", "too many shards"), ("train-" + "{" * 5000 + ".tar", "too many braces")],
)
def test_patterns_that_name_far_too_much_are_refused(folder: Path, pattern: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_shards(f"{folder}/{pattern}")
