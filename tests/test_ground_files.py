"""What is said where something cannot be written, and where a package is absent; the version."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

import musicgenre
from musicgenre._files import writing_result, writing_to
from musicgenre._version import __version__
from musicgenre.errors import BundleError, DataError, MissingExtraError, UsageError, needing


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EACCES, "cannot write.*Check the permissions there.*MUSICGENRE_CACHE"),
        (errno.EFBIG, "cannot write.*Lift the limit.*ulimit -f"),
        (errno.ENOTDIR, "cannot write.*Write into another folder"),
    ],
)
def test_errors_of_a_long_job_become_readable(tmp_path: Path, number: int, words: str) -> None:
    with pytest.raises(DataError, match=words), writing_to(tmp_path):
        raise OSError(number, os.strerror(number))


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, r"a\.csv cannot be written \(.+\)\. Free some space"),
        (errno.EFBIG, r"a\.csv cannot be written \(.+\)\. Lift the limit"),
        (errno.EACCES, r"a\.csv cannot be written \(.+\)\. Choose another --output"),
    ],
)
def test_a_result_that_cannot_be_written_is_named(tmp_path: Path, number: int, words: str) -> None:
    with pytest.raises(UsageError, match=words), writing_result(tmp_path / "a.csv"):
        raise OSError(number, os.strerror(number))


def test_a_result_can_have_an_error_and_advice_of_its_own(tmp_path: Path) -> None:
    with (
        pytest.raises(BundleError, match=r"\(timed out\)\. Choose another --plot"),
        writing_result(tmp_path, "Choose another --plot", kind=BundleError),
    ):
        raise TimeoutError("timed out")


def test_what_is_not_of_the_system_passes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="other"), writing_result(tmp_path), writing_to(tmp_path):
        raise ValueError("other")


def test_an_absent_package_names_the_extra() -> None:
    with (
        pytest.raises(MissingExtraError, match=r"drawing needs packages.*musicgenre\[plot\]"),
        needing("drawing", "plot"),
    ):
        import no_such_package  # noqa: F401
    with pytest.raises(ModuleNotFoundError), needing("drawing", "plot"):
        import musicgenre.no_such_room  # noqa: F401


def test_the_version_is_one() -> None:
    assert musicgenre.__version__ == __version__


@pytest.mark.parametrize("module", ["_files", "_json", "_known_files", "_parallel", "_registry", "_text", "_version"])
def test_the_ground_floor_is_light(module: str) -> None:
    code = f"import sys, musicgenre.{module}; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
