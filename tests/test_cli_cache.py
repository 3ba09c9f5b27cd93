"""`musicgenre cache` shows what lies in the cache and clears what is made again, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from musicgenre._locks import folder_lock
from musicgenre.cli.cache import FETCHED, KINDS
from tests.cli import run


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache with something of every kind, and something of its owner."""
    folder = tmp_path / "cache"
    for kind in KINDS:
        if kind.endswith(".sqlite"):
            folder.mkdir(exist_ok=True)
            for end in ("", "-wal"):
                (folder / f"{kind}{end}").write_bytes(b"x" * 1000)
            continue
        (folder / kind / "one").mkdir(parents=True)
        (folder / kind / "one" / "a.bin").write_bytes(b"x" * 500_000)
        (folder / kind / "b.bin").write_bytes(b"x" * 500_000)
    (folder / "letters").mkdir()
    (folder / "letters" / "mine.txt").write_text("dear")
    return folder


def _run(cache: Path, *arguments: str) -> tuple[int, str, str]:
    done = run("cache", *arguments, env={"MUSICGENRE_CACHE": str(cache)})
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def _left(cache: Path) -> set[str]:
    return {path.relative_to(cache).parts[0] for path in cache.rglob("*") if path.is_file()}


def test_every_kind_is_shown_with_its_size(cache: Path) -> None:
    code, said, _ = _run(cache)
    assert code == 0 and str(cache) in said
    lines = {line.split()[0]: line for line in said.splitlines()[1:]}
    assert lines.keys() == {*KINDS, "all"}
    assert "1.0 MB" in lines["features"] and "2 files" in lines["features"]
    assert "9.0 MB" in lines["all"]


def test_what_is_made_again_goes_and_all_else_stays(cache: Path) -> None:
    code, said, _ = _run(cache, "clear", "--yes")
    assert code == 0 and "cleared 5.0 MB" in said
    assert _left(cache) == {*FETCHED, "letters"}
    assert "nothing to clear" in _run(cache, "clear", "--yes")[1]


def test_what_is_fetched_goes_where_it_is_named(cache: Path) -> None:
    assert _run(cache, "clear", "weights", "--yes")[0] == 0
    assert "weights" not in _left(cache) and "bundles" in _left(cache) and "features" in _left(cache)


def test_nothing_goes_unasked(cache: Path) -> None:
    before = sorted(cache.rglob("*"))
    code, _, said = _run(cache, "clear")
    assert code == 2 and "--yes" in said
    code, _, said = _run(cache, "clear", "letters", "--yes")
    assert code == 2 and "letters" in said
    code, _, said = _run(cache, "clear", "feature", "--yes")
    assert code == 2 and "Did you mean 'features'" in said
    assert sorted(cache.rglob("*")) == before


def test_only_what_is_old_goes_if_so_wanted(cache: Path) -> None:
    old = cache / "stores" / "one" / "a.bin"
    os.utime(old, (1_600_000_000, 1_600_000_000))
    assert _run(cache, "clear", "--older-than", "30", "--yes")[0] == 0
    assert not old.exists() and (cache / "stores" / "b.bin").exists()


def test_what_is_in_use_and_what_lies_elsewhere_stays(cache: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept.bin").write_bytes(b"x")
    (cache / "shards" / "link").symlink_to(elsewhere)
    with folder_lock(cache / "stores" / "one", "training"):
        code, _, said = _run(cache, "clear", "--yes")
        assert code == 1 and "in use" in said and (cache / "stores" / "one" / "a.bin").exists()
    assert (elsewhere / "kept.bin").exists()
    assert not (cache / "shards" / "link").is_symlink()
