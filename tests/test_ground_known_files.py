"""Files dealt with before are known again by name, or by content."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from musicgenre import _known_files
from musicgenre._files import sha256_of
from musicgenre._known_files import FileState, KnownFiles, known_sha256


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "a.wav"
    found.write_bytes(b"sound")
    return found


@pytest.fixture
def known(path: Path) -> KnownFiles[str]:
    memory: KnownFiles[str] = KnownFiles()
    memory.remember(str(path), FileState.of(path), sha256_of(path), "first")
    return memory


def test_an_unchanged_file_is_known_without_reading_it(
    path: Path, known: KnownFiles[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_known_files, "sha256_of", lambda _: pytest.fail("it was read"))
    found = known.find(path)
    assert found is not None and found.is_unchanged and found.value == "first"


def test_a_touched_file_is_known_by_its_content(path: Path, known: KnownFiles[str]) -> None:
    os.utime(path, ns=(0, 5_000_000_000))
    found = known.find(path)
    assert found is not None and not found.is_unchanged
    assert found.name == str(path) and found.state.modified_ns == 5_000_000_000


def test_a_moved_file_is_known_under_its_old_name(path: Path, known: KnownFiles[str]) -> None:
    moved = path.rename(path.with_name("b.wav"))
    found = known.find(moved)
    assert found is not None and not found.is_unchanged
    assert (found.value, found.name, found.sha256) == ("first", str(path), sha256_of(moved))


def test_other_content_and_absent_files_are_not_known(path: Path, known: KnownFiles[str]) -> None:
    path.write_bytes(b"noise")
    os.utime(path, ns=(0, 0))
    assert known.find(path) is None
    path.unlink()
    assert known.find(path) is None


def test_only_files_of_a_known_size_are_read(
    path: Path, known: KnownFiles[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = path.with_name("longer.wav")
    other.write_bytes(b"much longer sound")
    monkeypatch.setattr(_known_files, "sha256_of", lambda _: pytest.fail("it was read"))
    assert known.find(other) is None


def test_a_replaced_file_no_longer_stands_for_its_old_content(path: Path, known: KnownFiles[str]) -> None:
    known.remember(str(path), FileState(5, 0), "0" * 64, "second")
    assert known.find(path) is None


def test_forgotten_files_are_not_known(path: Path, known: KnownFiles[str]) -> None:
    known.forget(str(path))
    known.forget("never known")
    assert known.find(path) is None


def test_files_can_be_known_by_another_spelling_and_without_a_hash(path: Path) -> None:
    known: KnownFiles[int] = KnownFiles()
    known.remember("spelled", FileState.of(path), "", 3)
    assert known.find(path) is None
    found = known.find(path, "spelled")
    assert found is not None and found.value == 3 and found.is_unchanged


def test_a_hash_is_taken_again_only_of_a_changed_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = known_sha256(path)
    assert first == sha256_of(path)
    with monkeypatch.context() as patched:
        patched.setattr(_known_files, "sha256_of", lambda _: pytest.fail("it was read"))
        assert known_sha256(path) == first
    path.write_bytes(b"another sound")
    assert known_sha256(path) == sha256_of(path) != first
