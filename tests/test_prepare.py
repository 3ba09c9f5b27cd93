"""Preparation: only what is new is computed, nothing is lost, and nothing half-written is seen."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from musicgenre._locks import folder_lock
from musicgenre.data.manifest import Manifest, Track, read_manifest, write_manifest
from musicgenre.errors import DataError, UsageError
from musicgenre.features.prepare import Preparation, prepare
from tests.limits import GUARD_S, wait_until
from tests.representations import Numbers

LABELS = ("blues", "jazz")


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return number_manifest(tmp_path / "numbers", 8)


def number_manifest(folder: Path, count: int) -> Manifest:
    folder.mkdir(exist_ok=True)
    tracks = []
    for index in range(count):
        path = folder / f"{index}.txt"
        path.write_text(f"{index} {index + 0.5} {-index}", encoding="utf-8")
        split = ("train", "train", "validation", "test")[index % 4]
        tracks.append(Track(f"t{index}", path, LABELS[index // 4 % 2], split=split))
    return Manifest(None, tuple(tracks))


def run(manifest: Manifest, tmp_path: Path, scale: float = 1.0, **options: object) -> Preparation:
    options.setdefault("cache", tmp_path / "cache")
    folder = options.pop("folder", tmp_path / "store")
    crash_on = str(options.pop("crash_on", ""))
    numbers = Numbers(scale=scale, log=tmp_path / "log", crash_on=crash_on)
    return prepare(manifest, numbers, folder, **options)  # type: ignore[arg-type]


def log(tmp_path: Path) -> Counter[str]:
    path = tmp_path / "log"
    lines = path.read_text("utf-8").split() if path.exists() else []
    path.unlink(missing_ok=True)
    return Counter(lines)


def test_rows_and_index_agree(manifest: Manifest, tmp_path: Path) -> None:
    done = run(manifest, tmp_path)
    store = done.open()
    assert (done.n_tracks, done.n_rows, done.computed, done.reused, done.skipped) == (8, 8, 8, 0, ())
    assert store.parts == ("train", "validation", "test")
    assert sorted(path.name.partition("-")[0] for path in done.folder.glob("*.npy")) == ["test", "train", "validation"]
    for view in map(store.part, (*store.parts, "all")):
        for row, track_id in enumerate(view.track_ids):
            index = int(track_id.removeprefix("t"))
            np.testing.assert_array_equal(view.features[row][0], np.float32([index, index + 0.5, -index]))
            assert store.labels[view.labels[row]] == LABELS[index // 4 % 2]


def test_a_second_run_computes_nothing(manifest: Manifest, tmp_path: Path) -> None:
    first = run(manifest, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in first.folder.glob("*.npy")}
    log(tmp_path)
    second = run(manifest, tmp_path)
    assert (second.computed, second.reused) == (0, 8)
    assert not log(tmp_path)
    assert before == {path: path.stat().st_mtime_ns for path in second.folder.glob("*.npy")}


def test_only_changed_audio_is_computed(manifest: Manifest, tmp_path: Path) -> None:
    run(manifest, tmp_path)
    log(tmp_path)
    manifest.tracks[3].path.write_text("9 9 9", encoding="utf-8")
    again = run(manifest, tmp_path)
    assert log(tmp_path) == Counter(["3.txt"])
    assert (again.computed, again.reused) == (1, 7)
    np.testing.assert_array_equal(again.open().of_tracks(["t3"]).features[0][0], np.float32([9, 9, 9]))


def test_content_counts_and_not_name_or_time(manifest: Manifest, tmp_path: Path) -> None:
    run(manifest, tmp_path)
    log(tmp_path)
    os.utime(manifest.tracks[0].path, (1, 1))
    moved = tmp_path / "moved.txt"
    shutil.move(manifest.tracks[1].path, moved)
    tracks = (manifest.tracks[0], Track("t1", moved, "blues", split="train"), *manifest.tracks[2:])
    assert run(Manifest(None, tracks), tmp_path).reused == 8
    assert not log(tmp_path)


def test_a_file_changed_behind_its_old_time_and_size_is_noticed(manifest: Manifest, tmp_path: Path) -> None:
    for track in manifest.tracks:
        os.utime(track.path, (1_000_000, 1_000_000))
    run(manifest, tmp_path)
    track = manifest.tracks[2]
    track.path.write_text("6 1.5 -3", encoding="utf-8")  # as long as before
    os.utime(track.path, (1_000_000, 1_000_000))
    log(tmp_path)
    assert run(manifest, tmp_path).computed == 1
    assert log(tmp_path) == Counter(["2.txt"])


def test_other_settings_and_types_have_rows_of_their_own(manifest: Manifest, tmp_path: Path) -> None:
    run(manifest, tmp_path)
    assert run(manifest, tmp_path, scale=2.0).computed == 8
    assert run(manifest, tmp_path, dtype="float16").computed == 8
    assert run(manifest, tmp_path).reused == 8


def test_a_new_split_only_writes_other_part_files(manifest: Manifest, tmp_path: Path) -> None:
    run(manifest, tmp_path)
    log(tmp_path)
    folds = Manifest(
        None, tuple(Track(t.track_id, t.path, t.label, fold=i % 4) for i, t in enumerate(manifest.tracks))
    )
    store = run(folds, tmp_path).open()
    assert not log(tmp_path)
    assert store.folds == (0, 1, 2, 3)
    assert store.normalisation is None
    assert len(list(store.folder.glob("*.npy"))) == 4


def test_tracks_outside_the_split_are_left_out(manifest: Manifest, tmp_path: Path) -> None:
    tracks = (*manifest.tracks, Track("unused", tmp_path / "absent.txt", "jazz"))
    done = run(Manifest(None, tracks), tmp_path)
    assert (done.n_tracks, done.unused, done.skipped) == (8, 1, ())


def test_faulty_tracks_are_listed_and_the_rest_goes_on(manifest: Manifest, tmp_path: Path) -> None:
    manifest.tracks[1].path.write_text("no numbers here", encoding="utf-8")
    manifest.tracks[2].path.write_text("nan 1 2", encoding="utf-8")
    manifest.tracks[3].path.write_text("1 2", encoding="utf-8")
    manifest.tracks[4].path.unlink()
    done = run(manifest, tmp_path)
    assert {skip.track_id for skip in done.skipped} == {"t1", "t2", "t3", "t4"}
    assert done.n_tracks == 4
    assert [skip["track_id"] for skip in done.open().skipped] == ["t1", "t2", "t3", "t4"]
    assert "cannot be read" in done.skipped[-1].reason
    manifest.tracks[1].path.write_text("1 2 3", encoding="utf-8")
    assert run(manifest, tmp_path).n_tracks == 5


def test_one_corrupt_track_among_a_thousand(tmp_path: Path) -> None:
    manifest = number_manifest(tmp_path / "numbers", 1000)
    manifest.tracks[500].path.write_bytes(b"\xff\x00 no text at all")
    done = run(manifest, tmp_path)
    assert (done.n_tracks, [skip.track_id for skip in done.skipped]) == (999, ["t500"])
    assert len(done.open().everything) == 999


def test_nothing_at_all_to_prepare_is_an_error(manifest: Manifest, tmp_path: Path) -> None:
    for track in manifest.tracks:
        track.path.unlink()
    with pytest.raises(DataError, match="none of the 8 tracks"):
        run(manifest, tmp_path)
    assert not (tmp_path / "store" / "store.json").exists()


def test_values_beyond_float16_name_the_way_out(manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="float32"):
        run(manifest, tmp_path, scale=1e6, dtype="float16")
    with pytest.raises(UsageError, match="dtype"):
        run(manifest, tmp_path, dtype="int8")
    with pytest.raises(UsageError, match="jobs"):
        run(manifest, tmp_path, jobs=0)


def test_several_processes_give_the_same_store(manifest: Manifest, tmp_path: Path) -> None:
    one = run(manifest, tmp_path, folder=tmp_path / "one", cache=tmp_path / "c1")
    two = run(manifest, tmp_path, folder=tmp_path / "two", cache=tmp_path / "c2", jobs=2)
    assert {p.name: p.read_bytes() for p in one.folder.glob("*.*")} == {
        p.name: p.read_bytes() for p in two.folder.glob("*.*")
    }


def test_a_track_that_kills_its_process_is_a_skip(manifest: Manifest, tmp_path: Path) -> None:
    manifest.tracks[5].path.write_text("666 1 2", encoding="utf-8")
    done = run(manifest, tmp_path, jobs=2, crash_on="666")
    assert [skip.track_id for skip in done.skipped] == ["t5"]
    assert "crashed" in done.skipped[0].reason
    assert done.n_tracks == 7


@pytest.mark.parametrize("where", ["cache", "store"])
def test_a_full_disk_is_a_clear_error_and_shows_nothing_half_written(
    where: str, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(manifest, tmp_path)
    before = {path.name: path.read_bytes() for path in (tmp_path / "store").iterdir()}
    manifest.tracks[0].path.write_text("5 5 5", encoding="utf-8")
    with monkeypatch.context() as patch:
        fill_disk(patch, ".rows" if where == "cache" else ".npy")
        with pytest.raises(DataError, match="disk is full"):
            run(manifest, tmp_path)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "store").iterdir()}
    assert not list(tmp_path.rglob("*.tmp"))
    again = run(manifest, tmp_path)
    assert again.computed == (1 if where == "cache" else 0)
    np.testing.assert_array_equal(again.open().of_tracks(["t0"]).features[0][0], np.float32([5, 5, 5]))


def fill_disk(patch: pytest.MonkeyPatch, suffix: str) -> None:
    """Let writes of features into files for ``suffix`` fail as on a full disk: of a header, or of all at once."""
    true_write, true_write_bytes = np.lib.format.write_array_header_1_0, Path.write_bytes

    def write(stream: object, header: dict[str, object]) -> None:
        if suffix in str(getattr(stream, "name", "")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        true_write(stream, header)  # type: ignore[arg-type]

    def write_bytes(path: Path, data: bytes) -> int:
        if suffix in path.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return true_write_bytes(path, data)

    patch.setattr(np.lib.format, "write_array_header_1_0", write)
    patch.setattr(Path, "write_bytes", write_bytes)


def test_two_preparations_at_once_into_one_store(manifest: Manifest, tmp_path: Path) -> None:
    with (
        folder_lock(tmp_path / "store", "preparation"),
        pytest.raises(DataError, match=rf"another preparation \(process {os.getpid()} on "),
    ):
        run(manifest, tmp_path)
    assert run(manifest, tmp_path).n_tracks == 8


def test_what_a_killed_preparation_left_half_written_goes(manifest: Manifest, tmp_path: Path) -> None:
    run(manifest, tmp_path)
    part = next((tmp_path / "store").glob("train-*.npy"))
    left = [part.with_name(f".{name}.k2j3.tmp") for name in (part.name, "store.json")]
    foreign = part.with_name(".other-program.tmp")
    for path in (*left, foreign):
        path.write_bytes(b"half")
    run(manifest, tmp_path)
    assert not any(path.exists() for path in left)
    assert foreign.exists()


def test_a_damaged_cache_entry_is_made_again(manifest: Manifest, tmp_path: Path) -> None:
    run(manifest, tmp_path)
    for entry in (tmp_path / "cache").rglob("*.rows"):
        entry.write_bytes(entry.read_bytes()[:40])
    shutil.rmtree(tmp_path / "store")
    done = run(manifest, tmp_path)
    assert (done.n_tracks, done.computed) == (8, 8)


def test_a_changed_byte_in_a_cache_entry_is_noticed_and_made_again(manifest: Manifest, tmp_path: Path) -> None:
    whole = run(manifest, tmp_path).open().everything.features[:]
    for entry in (tmp_path / "cache").rglob("*.rows"):
        content = entry.read_bytes()
        entry.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    shutil.rmtree(tmp_path / "store")
    np.testing.assert_array_equal(run(manifest, tmp_path).open().everything.features[:], whole)


def test_a_broken_memory_of_hashes_costs_nothing_but_time(manifest: Manifest, tmp_path: Path) -> None:
    run(manifest, tmp_path)
    (tmp_path / "cache" / "content.sqlite").write_bytes(b"not a database at all" * 100)
    assert run(manifest, tmp_path).reused == 8


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from musicgenre.data.manifest import read_manifest
from musicgenre.features.prepare import prepare
from tests.representations import Numbers

class Slow(Numbers):
    def compute_file(self, path):
        if len(list((folder / "cache").rglob("*.rows"))) >= {enough}:
            time.sleep({guard_s})
        return super().compute_file(path)

folder = Path({folder!r})

if __name__ == "__main__":
    slow = Slow(log=folder / "log")
    prepare(read_manifest(folder / "m.csv"), slow, folder / "store", jobs={jobs}, cache=folder / "cache")
"""


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_killed_preparation_goes_on_where_it_was(jobs: int, tmp_path: Path) -> None:
    manifest = number_manifest(tmp_path / "numbers", 40)
    write_manifest(manifest, tmp_path / "m.csv")
    script = tmp_path / "prepare_it.py"
    root = str(Path(__file__).resolve().parents[1])
    entries_wanted = 8
    program = KILLED.format(root=root, folder=str(tmp_path), jobs=jobs, enough=entries_wanted, guard_s=GUARD_S)
    script.write_text(program, encoding="utf-8")
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, start_new_session=True)
    wait_until(lambda: len(list((tmp_path / "cache").rglob("*.rows"))) >= entries_wanted)
    process.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
    process.communicate(timeout=GUARD_S)  # the workers of a killed preparation end too: they hold its output
    kept = len(list((tmp_path / "cache").rglob("*.rows")))
    assert entries_wanted <= kept < 40
    assert not (tmp_path / "store" / "store.json").exists()
    log(tmp_path)
    done = run(read_manifest(tmp_path / "m.csv"), tmp_path)
    assert (done.computed, done.reused) == (40 - kept, kept)
    assert sum(log(tmp_path).values()) == 40 - kept
