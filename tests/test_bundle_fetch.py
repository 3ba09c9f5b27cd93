from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from musicgenre.errors import BundleError
from musicgenre.features.published.musicnn import weights as fetch
from musicgenre.features.published.musicnn.published import published
from musicgenre.features.published.musicnn.weights import (
    WHEEL_NAME,
    WHEEL_SHA256,
    FolderWeights,
    WheelWeights,
    find_weights,
    read_checkpoint,
)
from tests.published_weights import publish, random_variables


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> Path:
    return publish(monkeypatch, tmp_path, "msd-vgg", random_variables("vgg", rng))


def quiet(_: str) -> None:
    """Say nothing."""


def test_wheel_and_its_unpacked_folders_give_the_same(wheel: Path, tmp_path: Path) -> None:
    model = published("msd-vgg")
    expected = read_checkpoint(WheelWeights(wheel), model)
    zipfile.ZipFile(wheel).extractall(tmp_path / "unpacked")
    for folder in ("unpacked", "unpacked/musicnn", "unpacked/musicnn/MSD_vgg"):
        found = find_weights(tmp_path / folder, tmp_path, allow_network=False, report=quiet)
        assert read_checkpoint(found, model) == expected


def test_other_weights_than_the_published_are_refused(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    data = tmp_path / "musicnn" / "MSD_vgg" / ".data-00000-of-00001"
    data.write_bytes(data.read_bytes() + b"\0")
    with pytest.raises(BundleError, match=r"MSD_vgg/\.data-00000-of-00001 is not the published file. Its sha256 is"):
        read_checkpoint(FolderWeights(tmp_path), published("msd-vgg"))


def test_weights_that_lack_a_model(wheel: Path) -> None:
    with pytest.raises(BundleError, match=r"no MSD_musicnn/\.index for msd-musicnn"):
        read_checkpoint(WheelWeights(wheel), published("msd-musicnn"))


@pytest.mark.parametrize(("place", "value"), [(8, 1), (10, 99)], ids=["encrypted", "unknown compression"])
def test_a_wheel_that_cannot_be_unpacked(wheel: Path, place: int, value: int) -> None:
    content = bytearray(wheel.read_bytes())
    entry = content.find(b"PK\x01\x02")
    while entry >= 0:  # every entry of the central directory
        content[entry + place] |= value
        entry = content.find(b"PK\x01\x02", entry + 4)
    wheel.write_bytes(content)
    with pytest.raises(BundleError, match="is damaged"):
        read_checkpoint(WheelWeights(wheel), published("msd-vgg"))


def test_from_something_else(tmp_path: Path) -> None:
    (tmp_path / "song.mp3").write_bytes(b"ID3")
    with pytest.raises(BundleError, match="neither a folder nor a wheel"):
        find_weights(tmp_path / "song.mp3", tmp_path, allow_network=True, report=quiet)
    with pytest.raises(BundleError, match="does not exist"):
        find_weights(tmp_path / "nothing", tmp_path, allow_network=True, report=quiet)


def test_a_damaged_wheel(wheel: Path) -> None:
    content = bytearray(wheel.read_bytes())
    content[len(content) // 2] ^= 0xFF
    wheel.write_bytes(content)
    with pytest.raises(BundleError, match="is damaged"):
        read_checkpoint(WheelWeights(wheel), published("msd-vgg"))


def test_an_installed_copy_is_found_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "musicnn"
    (package / "MSD_vgg").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('never import me')")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert fetch.installed_copy() is None
    (package / "MSD_vgg" / ".index").write_bytes(b"x")
    assert fetch.installed_copy() == package
    said: list[str] = []
    find_weights(None, tmp_path, allow_network=False, report=said.append)
    assert said == [f"using the installed copy in {package}"]


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "installed_copy", lambda: None)


@pytest.mark.usefixtures("nothing_installed")
def test_pip_is_asked_for_one_pinned_wheel(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "download"
    folder.mkdir()

    def run(command: Sequence[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert command[:4] == [sys.executable, "-m", "pip", "download"]
        assert {"--no-deps", "--require-hashes", "--only-binary=:all:"} <= set(command)
        assert Path(command[-1]).read_text() == f"musicnn==0.1.0 --hash=sha256:{WHEEL_SHA256}\n"
        wheel.rename(folder / WHEEL_NAME)
        return subprocess.CompletedProcess(list(command), 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    weights = find_weights(None, folder, allow_network=True, report=quiet)
    assert len(read_checkpoint(weights, published("msd-vgg"))) == 2


@pytest.mark.usefixtures("nothing_installed")
def test_no_network_no_pip_and_a_timeout_name_the_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BundleError, match=r"not on this machine.*\(3\) copy musicnn-0.1.0"):
        find_weights(None, tmp_path, allow_network=False, report=quiet)

    failed = subprocess.CompletedProcess([], 1, "", "WARNING: retrying\nERROR: no matching distribution\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(BundleError, match=r"ERROR: no matching distribution\).*Three ways"):
        find_weights(None, tmp_path, allow_network=True, report=quiet)

    def hang(*_: Any, **__: Any) -> None:
        raise subprocess.TimeoutExpired("pip", 1)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(BundleError, match="did not finish"):
        find_weights(None, tmp_path, allow_network=True, report=quiet)

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else real(name))
    with pytest.raises(BundleError, match=r"pip is not installed.*Three ways"):
        find_weights(None, tmp_path, allow_network=True, report=quiet)
