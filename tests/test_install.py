"""The line that installs an optional part: as musicgenre itself was installed, and never another torch unasked."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path

import pytest

from musicgenre import _install
from musicgenre._install import install_advice
from musicgenre.errors import MissingExtraError, require
from tests.fresh import run_python

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "musicgenre"
EXTRA = re.compile(r"pip install[^`\n]*\[[a-z]+\]")


class Installed:
    """Stands for `importlib.metadata`: which packages there are, and where musicgenre came from."""

    PackageNotFoundError = metadata.PackageNotFoundError

    def __init__(self, origin: str, **versions: str) -> None:
        self._origin = origin
        self._versions = versions

    def distribution(self, name: str) -> Installed:
        if name not in self._versions:
            raise metadata.PackageNotFoundError(name)
        return self

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return self._origin or None

    def version(self, name: str) -> str:
        self.distribution(name)
        return self._versions[name]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the package lie in a folder of installed packages, beside no clone, and work in a folder of its own."""
    place = tmp_path / "lib" / "site-packages" / "musicgenre" / "_install.py"
    monkeypatch.setattr(_install, "__file__", str(place))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_in_a_clone_the_tested_versions_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert install_advice("plot") == "Install them with: pip install -c constraints.txt 'musicgenre[plot]'"
    monkeypatch.chdir(ROOT / "docs")
    assert " -c ../constraints.txt " in install_advice("plot")
    assert "pip install -c " in str(MissingExtraError("--plot", "plot"))


def test_what_was_installed_from_a_clone_finds_its_tested_versions(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = elsewhere / "my clone"
    clone.mkdir()
    origin = json.dumps({"url": clone.as_uri(), "dir_info": {}})
    monkeypatch.setattr(_install, "metadata", Installed(origin, musicgenre="0.1.0"))
    assert install_advice("plot") == "Install them with: pip install 'musicgenre[plot]'", "there is no clone any more"
    for name in ("constraints.txt", "pyproject.toml"):
        (clone / name).touch()
    assert install_advice("plot") == "Install them with: pip install -c 'my clone/constraints.txt' 'musicgenre[plot]'"


@pytest.mark.parametrize("origin", ["", "{", '{"url": "https://example.org/musicgenre.whl"}'])
def test_without_a_clone_an_installed_torch_is_kept(
    origin: str, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_install, "metadata", Installed(origin, musicgenre="0.1.0", torch="2.13.0+cpu"))
    assert install_advice("train") == "Install them with: pip install torch==2.13.0+cpu 'musicgenre[train]'"
    assert "torch" not in install_advice("plot")


@pytest.mark.parametrize("extra", ["train", "pretrained", "stream"])
def test_without_torch_its_small_build_is_named_and_no_address(
    extra: str, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_install, "metadata", Installed(""))
    advice = install_advice(extra)
    assert advice.startswith(f"Install them with: pip install 'musicgenre[{extra}]'. It brings torch")
    assert "CPU build" in advice and "://" not in advice and ".org" not in advice


def test_one_place_builds_the_line() -> None:
    builders = [path.name for path in PACKAGE.rglob("*.py") if EXTRA.search(path.read_text("utf-8"))]
    assert builders == []
    assert "'musicgenre[{extra}]'" in (PACKAGE / "_install.py").read_text("utf-8")


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name
)
def test_pages_install_extras_in_the_tested_versions(page: Path) -> None:
    lines = [found for found in EXTRA.findall(page.read_text("utf-8")) if " -c constraints.txt " not in found]
    assert lines == []


def test_a_missing_package_is_told_before_it_is_needed() -> None:
    require("drawing", "plot", "json", "email")
    with pytest.raises(MissingExtraError, match=r"drawing needs packages that are not installed.*musicgenre\[plot\]"):
        require("drawing", "plot", "json", "no_such_package")


@pytest.mark.parametrize(
    ("hidden", "words", "message"),
    [
        ("matplotlib", ("show", "none.wav", "--output", "p.png"), "drawing a track needs packages"),
        ("pyarrow", ("embed", "none.wav", "--output", "e.parquet"), "needs pyarrow"),
        ("lightning", ("train", "mfcc-cnn", "--data", "none.csv"), "training needs packages"),
    ],
)
def test_commands_tell_a_missing_extra_before_they_look_for_tracks(
    hidden: str, words: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    program = (
        f"import sys; sys.modules[{hidden!r}] = None; sys.argv = {['musicgenre', *words]!r};"
        "from musicgenre.cli import main; main()"
    )
    done = run_python(program, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr and "musicgenre[" in done.stderr
