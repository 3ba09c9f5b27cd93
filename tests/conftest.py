"""Fixtures shared by the whole suite."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from tests.limits import GUARD_S
from tests.quick_processes import quick_processes

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background: what is started here must hear it
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]

# No example fails because the machine is busy. Examples may share a test's folder: each writes its file anew.
settings.register_profile(
    "musicgenre",
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("musicgenre")


@pytest.fixture(scope="session", autouse=True)
def processes_start_quickly() -> Iterator[None]:
    """Spare each worker process half a second of loading packages."""
    with quick_processes():
        yield


@pytest.fixture
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Journal and memory of a library, and the cache, are the test's own."""
    monkeypatch.setenv("MUSICGENRE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def music(tmp_path: Path) -> Path:
    """Seven files of a small library: three without a genre."""
    from tests.small_library import make_library

    return make_library(tmp_path / "music")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the real data (MUSICGENRE_TEST_DATA or ../shared/data); skips where it is absent."""
    folder = Path(os.environ.get("MUSICGENRE_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set MUSICGENRE_TEST_DATA to run this test")
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    """Return a seeded generator, the same for every test."""
    return np.random.default_rng(20260)


@pytest.fixture(scope="session")
def default_bundle_cache() -> Path:
    """Cache folder with the published MusiCNN bundles, fetched if need be; skips where they cannot be had."""
    from musicgenre._files import cache_folder
    from musicgenre.bundle import get_bundles
    from musicgenre.errors import BundleError

    try:
        get_bundles()
    except BundleError as error:
        pytest.skip(f"no published MusiCNN weights: {error}")
    return cache_folder()


@pytest.fixture(scope="module")
def checked_on_short_tracks() -> Iterator[None]:
    """Hold what is exported against its run on tracks that are shorter than usual, yet longer than a segment."""
    from musicgenre.exporting import export

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "_SEGMENTS_S", (4.0, 7.0))
        patch.setattr(export, "_WHOLE_TRACKS_S", (15.0, 35.0))
        yield


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the features of a test to itself."""
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests time: the limit is there to end what hangs."""
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(3 * GUARD_S))


def pytest_collection() -> None:
    """Load packages and tests without looking for garbage among them: they stay to the end."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Spare the collector what is loaded by now, and let it work again."""
    gc.collect()
    gc.freeze()
    gc.enable()
