"""Shards: written whole, read safely, the same epoch every time, and every kind of damage named."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import json
import pickle
import sys
import tarfile
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from musicgenre.cli import app
from musicgenre.data.manifest import read_manifest
from musicgenre.data.shards import Shard, ShardSet, looks_like_shards, open_shards, write_shards
from musicgenre.data.store import Store
from musicgenre.errors import DataError, MissingExtraError, MusicgenreError, RecipeError, UsageError
from musicgenre.evaluation.evaluate import evaluate
from musicgenre.features.table import COLUMNS
from musicgenre.training.material import gather_material
from musicgenre.training.order import Examples, one_a_track
from musicgenre.training.recipes import StreamSection, load_recipe
from musicgenre.training.run import RunFolder
from musicgenre.training.shard_batches import ShardBatches
from musicgenre.training.train import train
from tests.labelled_music import make_collection, make_table
from tests.small_store import make_store

SHARD_MB = 0.005
"""Two tracks of the small store fill a shard."""
SPLIT = "protocol.options={test_size: 0.34, validation_size: 0.17}"
QUICK = ["training.epochs=2", "training.learning_rate=0.002", "training.batch_size=8"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store") / "s")


@pytest.fixture
def folder(tmp_path: Path, store: Store) -> Path:
    write_shards(store, None, tmp_path / "shards", shard_mb=SHARD_MB)
    return tmp_path / "shards"


@pytest.fixture
def address(folder: Path) -> Iterator[str]:
    """An HTTP server on this machine in place of object storage."""
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    handler: Callable[..., Any] = functools.partial(quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def batches_of(shards: ShardSet, *, seed: int = 0, epoch: int = 0, kind: str = "all", **settings: Any) -> ShardBatches:
    part = shards.part("train")
    return ShardBatches(
        shards,
        part,
        Examples(part, kind),  # type: ignore[arg-type]
        8,
        seed=seed,
        settings=StreamSection(**{"buffer": 10, **settings}),
        epoch=lambda: epoch,
    )


def values_in(batches: ShardBatches) -> list[int]:
    return [int(value) for x, _ in batches for value in x[:, 0, 0]]


def damage_index(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "shards.json"
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")


def put_shard(folder: Path, file: str, members: dict[str, bytes]) -> None:
    """Replace a shard by an archive of these files, and tell the index so."""
    path = folder / file
    path.chmod(0o644)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    shard = {"n_bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    damage_index(folder, lambda index: next(s for s in index["shards"] if s["file"] == file).update(shard))


def npy(rows: np.ndarray, *, allow_pickle: bool = False) -> bytes:
    stream = io.BytesIO()
    np.save(stream, rows, allow_pickle=allow_pickle)
    return stream.getvalue()


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


@pytest.mark.parametrize(
    "where",
    ["pipe:touch {mark}", "PIPE:touch {mark}", "pipe:touch {mark}; cat x.tar", "s3://b/x", "ssh:h", "-x:y.tar"],
)
def test_nothing_is_ever_run(tmp_path: Path, where: str) -> None:
    named = where.format(mark=tmp_path / "mark")
    with pytest.raises(MusicgenreError):
        train("e3", named, output=tmp_path / "run")
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
    monkeypatch.setattr("musicgenre.data._shard_places._WAIT_S", 0.0)
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


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collection(tmp_path_factory.mktemp("music"), duration_s=6.0)


@pytest.fixture
def written(tmp_path: Path, music: Path) -> Path:
    """Shards of recipe e3, by the command."""
    output = tmp_path / "e3-shards"
    command = [
        "shard",
        str(music),
        "--recipe",
        "e3",
        "--set",
        SPLIT,
        "--output",
        str(output),
        "--shard-mb",
        "0.05",
        "-q",
    ]
    done = CliRunner().invoke(app, [*command, "--jobs", "1"])
    assert done.exit_code == 0, done.output
    assert "36 rows in" in done.output
    return output


def test_from_shards_to_a_run_that_evaluates(tmp_path: Path, written: Path, music: Path) -> None:
    run = train("e3", written, output=tmp_path / "run", overrides=[*QUICK, "training.stream.buffer=12"])
    report = evaluate(run)
    assert (report.protocol, report.n_tracks) == ("track", 6)
    assert RunFolder(run).read_metrics("waiting_share")[1] > 0
    assert {t.track_id: t.split for t in read_manifest(run / "manifest.csv").tracks} == {
        t.track_id: t.split for t in read_manifest(written / "manifest.csv").tracks
    }
    plain = train("e3", music, output=tmp_path / "plain", overrides=[*QUICK, SPLIT])
    ids = [line.split(",")[:3] for line in (run / "predictions_test.csv").read_text("utf-8").splitlines()[1:]]
    theirs = [line.split(",")[:3] for line in (plain / "predictions_test.csv").read_text("utf-8").splitlines()[1:]]
    assert sorted(ids) == sorted(theirs)
    again = train("e3", written, output=tmp_path / "again", overrides=[*QUICK, "training.stream.buffer=12"])
    assert (again / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("recipe", "overrides", "folds", "error", "message"),
    [
        ("b6-segmented", [], 0, RecipeError, r"reads .*but the shards .* hold"),
        ("e3", ["representation.dtype=float16"], 0, RecipeError, "dtype='float16'"),
        ("e3", ["representation.hop_s=1.5"], 0, RecipeError, "hop_s=1.5"),
        ("e3", ["data.labels=[jazz, metal]"], 0, RecipeError, "other labels"),
        ("e3", ["data.exclude=[jazz.00001]"], 0, RecipeError, "leaves out jazz.00001"),
        ("e3", ["augmentation.offline.copies=1"], 0, RecipeError, "copies=1"),
        ("e3", ["augmentation.online.waveform=a3"], 0, RecipeError, "needs the sound"),
        ("e3", [], 3, UsageError, "--folds cannot be had from shards"),
        ("e3-leaky", [], 0, UsageError, "segment-leaky"),
    ],
)
def test_shards_of_another_kind_are_refused(
    tmp_path: Path,
    written: Path,
    recipe: str,
    overrides: list[str],
    folds: int,
    error: type[MusicgenreError],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        train(recipe, written, output=tmp_path / "run", overrides=overrides, folds=folds)


def test_without_webdataset_the_extra_is_named(
    tmp_path: Path, store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "webdataset"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"musicgenre\[stream\]"):
        open_shards(folder)
    with pytest.raises(MissingExtraError, match=r"musicgenre\[stream\]"):
        write_shards(store, None, tmp_path / "other")


def test_classical_models_want_the_store(tmp_path: Path) -> None:
    table = make_table(tmp_path / "table.csv", COLUMNS)
    material = gather_material(load_recipe("classical-knn-30s", [SPLIT, "data.exclude=[]"]), table)
    write_shards(material.store, material.manifest, tmp_path / "shards")
    with pytest.raises(UsageError, match="cannot read shards"):
        train("classical-knn-30s", tmp_path / "shards", output=tmp_path / "run", overrides=["data.exclude=[]"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{store}", "--recipe", "e3"], "is a store"),
        (["{music}"], "Give --recipe"),
        (["{nothing}", "--recipe", "e3"], "nothing.csv"),
    ],
)
def test_command_names_what_is_wrong(
    tmp_path: Path, store: Store, music: Path, words: list[str], message: str
) -> None:
    places = {"store": store.folder, "music": music, "nothing": tmp_path / "nothing.csv"}
    command = ["shard", *(word.format(**places) for word in words), "--output", str(tmp_path / "out"), "-q"]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, MusicgenreError)
    assert message in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_a_store_is_written_by_the_command(tmp_path: Path, store: Store) -> None:
    done = CliRunner().invoke(app, ["shard", str(store.folder), "--output", str(tmp_path / "out"), "-q"])
    assert done.exit_code == 0
    assert done.output.startswith("54 rows in 3 shards")
    assert isinstance(open_shards(tmp_path / "out").shards[0], Shard)
