"""What a process leaves that is killed as it puts a file in place, the same command clears when it is run again."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from musicgenre._files import remove_stale, replacing, replacing_folder, write_text_atomic
from musicgenre.augment.offline import augment
from musicgenre.augment.waveform import get_chain, load_transforms
from musicgenre.bundle.container import save_bundle
from musicgenre.bundle.load import read_card
from musicgenre.data.manifest import read_manifest
from musicgenre.data.shards import open_shards, write_shards
from musicgenre.data.splits import split
from musicgenre.data.store import open_store
from musicgenre.embedding.file import read_embeddings, write_embeddings
from musicgenre.evaluation.ensemble import ensemble
from musicgenre.features.prepare import prepare
from musicgenre.features.registry import create_representation
from musicgenre.models.head import GenreHead
from musicgenre.runs.folder import open_run
from musicgenre.teaching.lessons import Lesson, hear_lessons
from musicgenre.training.checkpoint import write_safetensors
from tests.cli import run
from tests.labelled_music import make_collection
from tests.make_run import pair
from tests.small_store import make_store

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what a descriptor stands for is asked of /proc")

BEFORE = Path(__file__).parent / "data" / "before"
Work = Callable[[], object]


def killed_at(call: str, name: str, work: Work) -> None:
    """Do some work in a copy of this process that is killed where it calls ``os.<call>`` on a file of this name."""
    child = os.fork()
    if child == 0:
        true_call = getattr(os, call)

        def kill_or_call(what: object, *others: object, **options: object) -> object:
            place = " ".join(map(str, (what, *others)))
            if isinstance(what, int):
                place = str(Path(f"/proc/self/fd/{what}").readlink())
            if name in place:
                os.kill(os.getpid(), signal.SIGKILL)
            return true_call(what, *others, **options)

        setattr(os, call, kill_or_call)
        try:
            work()
        finally:
            os._exit(3)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, "it ended before it came there"


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.suffix in (".tmp", ".lock")]


def works_again(folder: Path, calls: tuple[str, ...], names: tuple[str, ...], work: Work) -> None:
    """Kill the work wherever it puts one of these files in place, each time do it again, and find nothing left."""
    for call in calls:
        for name in names:
            killed_at(call, name, work)
            assert leftovers(folder), "it was killed in the middle"
    work()
    assert not leftovers(folder)


BOTH = ("fsync", "replace")


@pytest.mark.parametrize("call", ["fsync", "link"])  # a new name is linked, which replaces nothing
def test_manifests_and_reports(tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # a copy of this process is no parent of the one that its decoding workers come from
    monkeypatch.setattr("musicgenre.audio.decoding_apart", nullcontext)
    make_collection(tmp_path / "music", tracks_a_label=1, duration_s=0.1)
    manifest = tmp_path / "out.csv"

    def index() -> None:
        assert run("data", "index", tmp_path / "music", "--output", manifest, "--quiet").returncode == 0

    works_again(tmp_path, (call,), ("out.csv",), index)
    assert len(read_manifest(manifest).tracks) == 3

    one, _ = pair(tmp_path)
    report = tmp_path / "report.html"

    def evaluate() -> None:
        assert run("evaluate", one, "--output", report).returncode == 0

    works_again(tmp_path, (call,), ("report.html",), evaluate)
    assert report.read_text("utf-8").rstrip().endswith("</html>")


@pytest.mark.parametrize("call", BOTH)
def test_the_store_and_the_cache_of_features(tmp_path: Path, call: str) -> None:
    path = make_collection(tmp_path / "music", tracks_a_label=3)
    manifest = split(read_manifest(path), "track", seed=0, test_size=0.34, validation_size=0.33)
    mfcc = create_representation("mfcc", segment_s=1.0)
    mfcc.compute(np.zeros(22_050, np.float32))  # what is loaded here is loaded in the copies
    load_transforms()

    def prepared() -> object:
        return prepare(manifest, mfcc, tmp_path / "store", cache=tmp_path / "cache")

    names = ("train-", "index-", "store.json")
    if call == "replace":  # an entry of the cache has a checksum and can be made anew: nobody waits for the disk
        names = (".rows", *names)
    works_again(tmp_path, (call,), names, prepared)
    assert np.isfinite(open_store(tmp_path / "store").everything.features[:]).all()

    works_again(
        tmp_path,
        (call,),
        (".flac", "manifest.csv"),
        lambda: augment(manifest, get_chain("noise"), tmp_path / "copies"),
    )
    assert sum(track.augmented for track in read_manifest(tmp_path / "copies" / "manifest.csv").tracks) > 0


@pytest.mark.parametrize("call", BOTH)
def test_shards(tmp_path: Path, call: str) -> None:
    pytest.importorskip("webdataset")
    store = make_store(tmp_path / "store", n_tracks=3)
    out = tmp_path / "shards"
    files = ("train-000000.tar", "index.csv", "manifest.csv", "shards.json")
    works_again(out, (call,), files, lambda: write_shards(store, None, out))
    cache = tmp_path / "cache"
    works_again(cache, (call,), ("index.csv", "test.npy", "store.json"), lambda: open_shards(out, cache=cache))


def test_an_ensemble_can_be_made_again_in_its_folder(tmp_path: Path) -> None:
    one, other = pair(tmp_path)
    out = tmp_path / "both"
    for call, name in (("rename", "both"), ("replace", "run.json"), ("fsync", "predictions_test")):
        killed_at(call, name, lambda: ensemble([one, other], out))
        assert leftovers(tmp_path) and not out.exists()
    ensemble([one, other], out)
    assert open_run(out).recipe == "ensemble-mean" and not leftovers(tmp_path)


@pytest.mark.parametrize("call", BOTH)
def test_single_files(tmp_path: Path, call: str) -> None:
    embeddings = read_embeddings(BEFORE / "embeddings.npz", mapped=False)
    card = read_card(BEFORE / "mel.onnx")
    files: dict[str, Work] = {
        "index.npz": lambda: write_embeddings(tmp_path / "index.npz", embeddings),
        "head.json": lambda: GenreHead.load_default().save(tmp_path / "head.json"),
        "model.safetensors": lambda: write_safetensors(tmp_path / "model.safetensors", {"a": np.zeros(3)}),
        "mel.onnx": lambda: save_bundle(tmp_path / "mel.onnx", (BEFORE / "mel.onnx").read_bytes(), card),
    }
    for name, work in files.items():
        works_again(tmp_path, (call,), (name,), work)
        assert (tmp_path / name).is_file()


def test_what_was_heard(tmp_path: Path, own_cache: None) -> None:
    class Hearer:
        def hear(self, path: Path, /) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
            return {"embedding": np.ones((2, 3), np.float32)}, ()

    (tmp_path / "a.wav").write_bytes(b"sound")
    works_again(
        tmp_path,
        ("replace",),
        (".npz",),
        lambda: hear_lessons([Lesson(tmp_path / "a.wav", "a")], Hearer(), cache_key="x"),
    )


def test_what_a_living_process_writes_stays(tmp_path: Path) -> None:
    with replacing(tmp_path / "out.csv") as temporary, replacing_folder(tmp_path / "run") as folder:
        child = os.fork()
        if child == 0:  # another process writes the same, and tidies up before
            write_text_atomic(tmp_path / "out.csv", "another")
            remove_stale(tmp_path, (".*.tmp",))
            with replacing_folder(tmp_path / "run"):
                os._exit(0 if temporary.exists() and folder.is_dir() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        temporary.write_text("ours", encoding="utf-8")
    assert (tmp_path / "out.csv").read_text("utf-8") == "ours" and (tmp_path / "run").is_dir()


def test_files_of_others_stay(tmp_path: Path) -> None:
    foreign = [tmp_path / name for name in (".out.csv.backup.tmp", ".other.csv.mg-abc.tmp", "out.csv.tmp")]
    for path in foreign:
        path.touch()
    write_text_atomic(tmp_path / "out.csv", "text")
    assert all(path.exists() for path in foreign)
