"""The plugin for beets: the same plans as `musicgenre library`, on import and on request, written by beets itself."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import mutagen
import numpy as np
import pytest

from musicgenre.filetags.music_file import FileTags, read_tags
from musicgenre.library.journal import Journal
from musicgenre.library.make_plan import PlanOptions, make_plan
from musicgenre.library.memory import HeardMemory
from tests.limits import GUARD_S
from tests.small_library import Ear
from tests.sounds import write
from tests.toy import save_toy

ROOT = Path(__file__).resolve().parents[1]
RATE_HZ = 44_100


def test_the_wheel_brings_the_plugin_into_the_package_that_beets_shares_with_its_plugins() -> None:
    content = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert "src/beetsplug" in content["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert [path.name for path in (ROOT / "src" / "beetsplug").glob("*.py")] == ["musicgenre.py"], (
        "an __init__.py of ours would hide beets' own plugins"
    )


def test_beets_loads_the_plugin_without_what_is_heavy() -> None:
    tree = ast.parse((ROOT / "src" / "beetsplug" / "musicgenre.py").read_text("utf-8"))
    early = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert {name for name in early if name and name.startswith("musicgenre")} == {"musicgenre.errors"}


def test_what_another_library_knows_of_a_track_wins_over_its_tags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MUSICGENRE_DATA", str(tmp_path / "data"))
    path = str(track(tmp_path, "a.flac", genre="Rock"))

    def as_known(asked: str, tags: FileTags) -> FileTags:
        assert asked == path and tags.genres == ("Rock",)
        return replace(tags, genres=(), artist="Somebody")

    with HeardMemory() as memory, Journal() as journal:
        [row] = make_plan([path], Ear(), memory, journal, PlanOptions(), settings="x", as_known=as_known)  # type: ignore[arg-type]
        [own] = make_plan([path], Ear(), memory, journal, PlanOptions(), settings="x")  # type: ignore[arg-type]
    assert (row.write, row.now, row.set, row.artist) == (True, (), {"genre": ("jazz",)}, "Somebody")
    assert (own.write, own.why, own.artist) == (False, "kept", "Me")


def track(folder: Path, name: str, *, genre: str = "", level: float = 0.5) -> Path:
    """Write a tone of 300 Hz, loud or quiet; its title is its name."""
    tone = level * np.sin(2 * np.pi * 300 / RATE_HZ * np.arange(2 * RATE_HZ)[:, None] + len(name))
    path = write(folder / name, tone.astype(np.float32), RATE_HZ)
    file = mutagen.File(path, easy=True)
    if file.tags is None:
        file.add_tags()
    file["title"], file["artist"], file["album"] = Path(name).stem, "Me", "One"
    if genre:
        file["genre"] = genre
    file.save()
    return path


# What follows asks beets itself, in an environment of its own.


@pytest.fixture(scope="session")
def beets_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment with beets and this package in it: MUSICGENRE_TEST_BEETS, or one made here."""
    if given := os.environ.get("MUSICGENRE_TEST_BEETS"):
        return Path(given)
    folder = tmp_path_factory.mktemp("beets")
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [*pip, "-c", str(ROOT / "constraints.txt"), f"{ROOT}[beets]"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"beets cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    return python


class Beets:
    """beets with a library and a configuration of its own."""

    def __init__(self, python: Path, folder: Path) -> None:
        self.python = python
        self.folder = folder
        self.options: dict[str, str] = {"model": str(save_toy(folder / "toy.onnx"))}
        self.imports = "copy: yes"
        self.plugins = "musicgenre"

    def __call__(self, *words: str, fails: bool = False) -> str:
        """Run a command; give what it printed."""
        lines = [f"directory: {self.folder / 'library'}", f"library: {self.folder / 'library.db'}"]
        lines += [f"plugins: {self.plugins}", f"pluginpath: {self.folder / 'plugins'}", "ui: {color: no}"]
        lines += [f"import: {{{self.imports}}}", "musicgenre:"]
        lines += [f"  {key}: {value}" for key, value in self.options.items()]
        (self.folder / "config.yaml").write_text("\n".join(lines), "utf-8")
        environment = {
            **os.environ,
            "BEETSDIR": str(self.folder),
            "MUSICGENRE_DATA": str(self.folder / "data"),
            "MUSICGENRE_CACHE": str(self.folder / "cache"),
        }
        command = [str(self.python), "-I", "-m", "beets", *words]  # what is installed, and nothing else
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=GUARD_S,
            check=False,
        )
        said = done.stdout + done.stderr
        assert "Traceback" not in said and (done.returncode != 0) == fails, said
        return said

    def genres(self) -> dict[str, str]:
        """Genres in the library, by title."""
        lines = self("ls", "-f", "$title: $genres").splitlines()
        return dict(line.split(": ", 1) if ": " in line else (line.rstrip(":"), "") for line in lines if line)

    def in_files(self) -> dict[str, tuple[str, ...]]:
        """Genres in the files of the library, by title."""
        paths = [path for path in (self.folder / "library").rglob("*") if path.is_file()]
        tags = [read_tags(path) for path in paths]
        return {one.title: one.genres for one in sorted(tags, key=lambda one: one.title)}


@pytest.fixture
def beets(beets_python: Path, tmp_path: Path) -> Beets:
    """beets, and a folder of four tracks to import: two loud ones, one quiet, and one that has a genre."""
    (tmp_path / "incoming").mkdir()
    track(tmp_path / "incoming", "a.flac")
    track(tmp_path / "incoming", "b.mp3", level=0.01)
    track(tmp_path / "incoming", "c.m4a", genre="Rock")
    track(tmp_path / "incoming", "d.ogg")
    return Beets(beets_python, tmp_path)


@pytest.mark.slow
def test_an_import_names_genres_and_one_bad_file_does_not_stop_it(beets: Beets) -> None:
    bad = track(beets.folder / "incoming", "e.flac")
    content = bad.read_bytes()
    bad.write_bytes(content[: content.index(b"\xff\xf8")])  # its tags can be read, its sound is gone
    before = bad.read_bytes()

    said = beets("import", "-A", str(beets.folder / "incoming"))
    assert beets.genres() == {"a": "loud", "b": "quiet", "c": "Rock", "d": "loud", "e": ""}, said
    assert "e.flac" in said
    assert beets("ls", "-a", "-f", "$album: $genres").strip() == "One: loud"
    # As-is imports leave files as they are: beets writes when it is asked to.
    assert beets.in_files()["a"] == ()
    assert bad.read_bytes() == before
    beets("write", "title:a")
    assert beets.in_files()["a"] == ("loud",)


@pytest.mark.slow
def test_an_import_with_tags_writes_genres_where_beets_writes(beets: Beets) -> None:
    plugin = beets.folder / "plugins"
    plugin.mkdir()
    (plugin / "retagging.py").write_text(
        "from beets.importer import Action\n"
        "from beets.plugins import BeetsPlugin\n"
        "class Retagging(BeetsPlugin):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.register_listener('import_task_choice', self.chosen)\n"
        "    def chosen(self, session, task):\n"
        "        task.set_choice(Action.RETAG)\n"
    )
    beets.plugins = "musicgenre retagging"
    beets.imports = "copy: yes, write: yes, quiet_fallback: asis"
    beets.options |= {"policy": "merge"}
    beets("import", "-q", str(beets.folder / "incoming"))
    assert beets.genres() == {"a": "loud", "b": "quiet", "c": "Rock; loud", "d": "loud"}
    assert beets.in_files() == {"a": ("loud",), "b": ("quiet",), "c": ("Rock", "loud"), "d": ("loud",)}
    assert mutagen.File(beets.folder / "incoming" / "a.flac").get("genre") is None, "the source stays as it was"


@pytest.mark.slow
def test_the_command_shows_keeps_merges_and_replaces(beets: Beets) -> None:
    beets.options["auto"] = "no"
    beets("import", "-A", str(beets.folder / "incoming"))
    assert set(beets.genres().values()) == {"", "Rock"}

    said = beets("musicgenre", "-p")
    assert "+ loud" in said and "3 changed, 1 kept" in said
    assert set(beets.genres().values()) == {"", "Rock"} and set(beets.in_files().values()) == {(), ("Rock",)}

    assert "1 changed" in beets("musicgenre", "title:a")
    assert beets.genres() == {"a": "loud", "b": "", "c": "Rock", "d": ""}
    assert beets.in_files() == {"a": ("loud",), "b": (), "c": ("Rock",), "d": ()}
    beets("musicgenre")
    assert beets.in_files() == {"a": ("loud",), "b": ("quiet",), "c": ("Rock",), "d": ("loud",)}

    beets("musicgenre", "--policy", "merge")
    assert beets.genres()["c"] == "Rock; loud" and beets.in_files()["c"] == ("Rock", "loud")
    beets.imports = "write: no"
    assert "1 changed" in beets("musicgenre", "--policy", "replace")
    assert beets.genres()["c"] == "loud" and beets.in_files()["c"] == ("Rock", "loud")
    assert "no track found" in beets("musicgenre", "title:nothing")


@pytest.mark.slow
def test_what_is_unsure_or_gone_stays_and_a_map_names_it(beets: Beets) -> None:
    beets("import", "-A", str(beets.folder / "incoming"))
    (beets.folder / "map.toml").write_text('[labels]\nloud = ["Punk", "Noise"]\n', "utf-8")
    beets.options |= {"policy": "replace", "map": "map.toml", "max_genres": "2", "min_confidence": "0.999"}
    [gone] = (beets.folder / "library").rglob("* d.ogg")
    gone.unlink()
    said = beets("musicgenre")
    assert "d.ogg: the file could not be read" in said and "failed" in said
    beets.options |= {"min_confidence": "0.0"}
    beets("musicgenre")
    assert beets.genres() == {"a": "Punk; Noise", "b": "quiet", "c": "Punk; Noise", "d": "loud"}
    assert beets.in_files() == {"a": ("Punk", "Noise"), "b": (), "c": ("Punk", "Noise")}

    save_toy(beets.folder / "toy.onnx", unsure_threshold=1.0)
    before = beets.genres()
    assert "3 unsure" in beets("musicgenre", "--policy", "replace") and beets.genres() == before


@pytest.mark.slow
def test_an_option_that_cannot_be_used_is_told_before_anything_is_imported(beets: Beets) -> None:
    options = dict(beets.options)
    for key, value, told in (
        ("policy", "mix", "musicgenre.policy"),
        ("by", "year", "musicgenre.by"),
        ("max_genres", "0", "musicgenre.max_genres"),
        ("min_confidence", "1.5", "musicgenre.min_confidence"),
        ("min_confidence", ".nan", "musicgenre.min_confidence"),
        ("jobs", "many", "musicgenre.jobs"),
        ("style", "yes", "max_genres"),
        ("genres", "all", "musicgenre.genres"),
        ("style", "perhaps", "musicgenre.style"),
        ("coverage", "-3", "coverage"),
        ("model", "no-such-model", "no-such-model"),
        ("map", "none.toml", "none.toml"),
    ):
        beets.options = {**options, key: value}
        assert told in beets("import", "-A", str(beets.folder / "incoming"), fails=True)
    assert "none.toml" in beets("musicgenre", fails=True)
    beets.options = {"auto": "no"}
    assert beets.genres() == {}
