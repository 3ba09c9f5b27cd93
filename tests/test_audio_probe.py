"""What files say about themselves, and what the room costs."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from musicgenre import audio
from tests.sounds import FORMATS, music, rate_of, write

EXPECTED = {
    ".wav": ("wav", "pcm_16"),
    ".flac": ("flac", "pcm_16"),
    ".ogg": ("ogg", "vorbis"),
    ".aiff": ("aiff", "pcm_16"),
    ".au": ("au", "pcm_16"),
    ".mp3": ("mp3", "mp3"),
    ".opus": ("ogg", "opus"),
    ".m4a": ("mp4", "aac"),
    ".alac.m4a": ("mp4", "alac"),
    ".aac": ("aac", "aac"),
    ".wma": ("asf", "wmav2"),
    ".wv": ("wv", "wavpack"),
    ".mp4": ("mp4", "aac"),
    ".mkv": ("matroska", "aac"),
    ".webm": ("matroska", "opus"),
    ".vorbis.webm": ("matroska", "vorbis"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_probe_names_format_rate_channels_and_length(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / f"a{name}", music(3.0, rate_of(name)), rate_of(name))
    info = audio.probe(path)
    assert (info.format, info.codec) == EXPECTED[name]
    assert (info.path, info.sample_rate_hz, info.channels) == (str(path), rate_of(name), 2)
    assert info.duration_s == pytest.approx(3.0, abs=0.06)
    source = io.BytesIO(path.read_bytes())
    assert audio.probe(source).duration_s == info.duration_s
    assert audio.probe(source).path == "<file object>"


def test_an_open_file_tells_its_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", music(0.5))
    with path.open("rb") as handle:
        assert audio.probe(handle).path == str(path)


def test_decoders_are_imported_when_they_are_needed(tmp_path: Path) -> None:
    """A fresh process: nothing heavy at import, and no PyAV for what libsndfile reads."""
    wav = write(tmp_path / "a.wav", music(0.5))
    code = (
        "import sys; from musicgenre import audio\n"
        "heavy = {'av', 'soundfile', 'soxr', 'scipy', 'torch', 'librosa'}\n"
        "assert not heavy & set(sys.modules)\n"
        f"audio.load({str(wav)!r}, 16000)\n"
        "assert heavy & set(sys.modules) == {'soundfile', 'soxr'}, heavy & set(sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
