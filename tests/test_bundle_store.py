from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from musicgenre.bundle import (
    bundle_path,
    ensure_bundle,
    ensure_default,
    get_bundles,
    get_default,
    list_bundles,
    remove_bundles,
    verify_bundles,
)
from musicgenre.errors import BundleError, UsageError
from tests.published_weights import publish, random_variables


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("musicgenre.features.published.musicnn.weights.installed_copy", lambda: None)
    return tmp_path / "cache"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> Path:
    return publish(monkeypatch, tmp_path, "msd-vgg", random_variables("vgg", rng))


def test_get_converts_once_and_repairs(wheel: Path) -> None:
    said: list[str] = []
    (path,) = get_bundles(["msd-vgg"], source=wheel, report=said.append)
    assert said == ["converting msd-vgg", f"msd-vgg is ready: {path}"]
    before = path.stat().st_mtime_ns
    said.clear()
    assert get_bundles(["msd-vgg"], allow_network=False, report=said.append) == [path]
    assert said == [f"msd-vgg is already there: {path}"]
    assert path.stat().st_mtime_ns == before
    path.write_bytes(path.read_bytes()[:-100])
    get_bundles(["msd-vgg"], source=wheel)
    assert [entry.problem for entry in verify_bundles()] == [""]
    assert list(path.parent.iterdir()) == [path]


def test_force_converts_again(wheel: Path) -> None:
    (path,) = get_bundles(["msd-vgg"], source=wheel)
    content = path.read_bytes()
    said: list[str] = []
    get_bundles(["msd-vgg"], source=wheel, force=True, report=said.append)
    assert said[0] == "converting msd-vgg"
    assert path.read_bytes() == content


def test_list_verify_remove(wheel: Path) -> None:
    assert [entry.is_cached for entry in list_bundles()] == [False] * 5
    (path,) = get_bundles(["msd-vgg"], source=wheel)
    (path.parent / "mine.onnx").write_bytes(b"not a model")
    listed = {entry.name: entry for entry in list_bundles()}
    assert listed["msd-vgg"].size_bytes == path.stat().st_size
    assert "not an ONNX file" in listed["mine"].problem
    assert not listed["mtt-vgg"].is_cached
    assert [(entry.name, bool(entry.problem)) for entry in verify_bundles()] == [("msd-vgg", False), ("mine", True)]
    assert remove_bundles(["mine", "msd-vgg"]) == [bundle_path("mine"), path]
    assert verify_bundles() == []


def test_what_is_not_cached_is_neither_verified_nor_removed(wheel: Path) -> None:
    (path,) = get_bundles(["msd-vgg"], source=wheel)
    with pytest.raises(BundleError, match=r"no bundle 'mtt-vgg' in the cache. Cached: msd-vgg"):
        verify_bundles(["mtt-vgg"])
    with pytest.raises(BundleError, match="no bundle 'mtt-vgg'"):
        remove_bundles(["msd-vgg", "mtt-vgg"])
    assert path.exists()


def test_without_weights_three_ways_are_named() -> None:
    with pytest.raises(BundleError) as caught:
        ensure_default()
    for way in ("(1) `musicgenre bundles get`", "(2) `pip install --no-deps musicnn==0.1.0`", "(3)", "--from FILE"):
        assert way in str(caught.value)
    with pytest.raises(BundleError):
        get_default()


def test_ensure_gives_what_is_there(wheel: Path) -> None:
    (path,) = get_bundles(["msd-vgg"], source=wheel)
    assert ensure_bundle("msd-vgg") == path
    with pytest.raises(BundleError, match="no bundle 'mine'"):
        ensure_bundle("mine", allow_fetch=True)


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden"])
def test_names_are_no_paths(name: str) -> None:
    with pytest.raises(UsageError, match="not a name"):
        bundle_path(name)


def test_unknown_published_name() -> None:
    with pytest.raises(UsageError, match="One of msd-musicnn"):
        get_bundles(["nothing"])
