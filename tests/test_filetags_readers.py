"""What was written is read by others as it was meant: TagLib and ffprobe, which share no code with us or mutagen.

TagLib is asked through pytaglib, in this Python or in the one that TAGLIB_PYTHON names.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from musicgenre.filetags.music_file import tag_file
from musicgenre.filetags.splice import Splice, SplicedView
from tests.limits import GUARD_S
from tests.sounds import music, write
from tests.tagged_files import MAKERS, tagged

pytestmark = pytest.mark.slow

SUFFIXES = {
    **{"mp3": ".mp3", "flac": ".flac", "ogg": ".ogg", "opus": ".opus", "m4a": ".m4a", "alac": ".m4a", "wma": ".wma"},
    **{"wavpack": ".wv", "ape": ".ape", "musepack": ".mpc", "aiff": ".aiff", "wav": ".wav", "dsf": ".dsf"},
}
GENRES = (("Jazz",), ("Soul", "Hip Hop"), ("Фолк", "Folk, World, & Country"), ("x" * 3000,), ())
# Whose genre they do not find in the file as it was either: the last frame before a footer; what stands in an APE tag
# or is unsynchronised.
UNREAD_BY_TAGLIB = "mp3-2.4-footer"
UNREAD_BY_FFPROBE = ("mp3-ape", "mp3-unsynchronised")
ASK_TAGLIB = """
import json, sys, taglib
found = {}
for path in sys.argv[1:]:
    with taglib.File(path) as file:
        found[path] = {"tags": file.tags, "length": file.length, "channels": file.channels, "rate": file.sampleRate}
print(json.dumps(found))
"""


def suffix_of(kind: str) -> str:
    return SUFFIXES[kind.partition("-")[0]]


def taglib_python() -> str:
    """A Python that has pytaglib."""
    named = os.environ.get("TAGLIB_PYTHON", "")
    if named:
        return named
    if importlib.util.find_spec("taglib") is None:
        pytest.skip("pytaglib is not installed here, and TAGLIB_PYTHON names no Python that has it")
    return sys.executable


def by_taglib(paths: list[Path]) -> dict[str, dict[str, Any]]:
    words = [taglib_python(), "-c", ASK_TAGLIB, *map(str, paths)]
    done = subprocess.run(words, capture_output=True, check=True, timeout=GUARD_S)
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


def by_ffprobe(path: Path) -> dict[str, Any]:
    words = ["ffprobe", "-v", "error", "-of", "json", "-show_format", "-show_streams", str(path)]
    done = subprocess.run(words, capture_output=True, check=False, timeout=GUARD_S)
    if done.returncode:
        return {}
    found = json.loads(done.stdout)
    tags = {**found["format"].get("tags", {})}
    for stream in found["streams"]:
        tags |= stream.get("tags", {})
    lowered = {name.lower(): text for name, text in tags.items()}
    return {"tags": lowered, "codecs": [stream.get("codec_name") for stream in found["streams"]]}


def write_changed(content: bytes, genres: tuple[str, ...], path: Path) -> Path:
    splice = Splice.of(tag_file(io.BytesIO(content)).edits({"genre": genres}))
    path.write_bytes(SplicedView(io.BytesIO(content), splice).read())
    return path


def real_musepack(folder: Path) -> bytes:
    if shutil.which("mpcenc") is None:
        pytest.skip("mpcenc (musepack-tools) is not installed")
    sound = write(folder / "sound.wav", music(0.4), 44_100)
    subprocess.run(["mpcenc", "--silent", str(sound), str(folder / "sound.mpc")], check=True, capture_output=True)
    return (folder / "sound.mpc").read_bytes()


def meant(kind: str, genres: tuple[str, ...], content: bytes) -> list[str]:
    """How a reader that knows lists sees them: ID3v2.3 and 2.2, and INFO, have one text alone."""
    version = tag_file(io.BytesIO(content)).id3_version
    joined = kind == "wav-info" or (version is not None and version < "2.4")
    return ["; ".join(genres)] if joined and genres else list(genres)


@pytest.mark.parametrize("kind", [kind for kind in MAKERS if kind not in ("ape", "musepack", "mp3-v1")])
def test_taglib_reads_what_was_written_and_all_else_as_before(kind: str, tmp_path: Path) -> None:
    content, suffix = tagged(kind), suffix_of(kind)
    before = tmp_path / f"before{suffix}"
    before.write_bytes(content)
    paths = [write_changed(content, genres, tmp_path / f"{n}{suffix}") for n, genres in enumerate(GENRES)]
    found = by_taglib([before, *paths])
    others = {name: texts for name, texts in found[str(before)]["tags"].items() if name != "GENRE"}
    for path, genres in zip(paths, GENRES, strict=True):
        tags = found[str(path)]["tags"]
        assert kind == UNREAD_BY_TAGLIB or tags.get("GENRE", []) == meant(kind, genres, content), genres[:2]
        assert {name: texts for name, texts in tags.items() if name != "GENRE"} == others
        for what in ("length", "channels", "rate"):
            assert found[str(path)][what] == found[str(before)][what]


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe is not installed")
@pytest.mark.parametrize("kind", [kind for kind in MAKERS if kind not in ("ape", "musepack", "mp3-v1", "dsf")])
def test_ffprobe_reads_what_was_written_and_all_else_as_before(kind: str, tmp_path: Path) -> None:
    content, suffix = tagged(kind), suffix_of(kind)
    before = tmp_path / f"before{suffix}"
    before.write_bytes(content)
    then = by_ffprobe(before)
    for number, genres in enumerate(GENRES):
        now = by_ffprobe(write_changed(content, genres, tmp_path / f"{number}{suffix}"))
        assert now["codecs"] == then["codecs"]
        assert {k: v for k, v in now["tags"].items() if k != "genre"} == {
            k: v for k, v in then["tags"].items() if k != "genre"
        }
        told = now["tags"].get("genre", "")
        # It names one value (of WMA the last), or joins them by marks of its own.
        if kind not in UNREAD_BY_FFPROBE:
            wanted = genres[-1 if kind.startswith("wma") else 0][:200] if genres else ""
            assert told.startswith(wanted) and bool(told) == bool(genres)


def test_a_real_musepack_file_is_read_by_both(tmp_path: Path) -> None:
    content = real_musepack(tmp_path)
    path = write_changed(content, ("Soul", "Hip Hop"), tmp_path / "new.mpc")
    assert by_taglib([path])[str(path)]["tags"]["GENRE"] == ["Soul", "Hip Hop"]
    if shutil.which("ffprobe") is not None:
        assert by_ffprobe(path)["tags"]["genre"].startswith("Soul")
