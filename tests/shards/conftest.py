"""What all tests of shards start from: a small store, shards of it, and a server that hands them out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from musicgenre.data.shards import write_shards
from musicgenre.data.store import Store
from tests.small_shards import SHARD_MB, served
from tests.small_store import make_store


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
    with served(folder) as where:
        yield where
