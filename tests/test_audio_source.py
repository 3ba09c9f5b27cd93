"""Sources that are no sound: each is refused with its own message, and none blocks."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from musicgenre import audio
from musicgenre.errors import AudioError
from tests.sounds import music, write, write_silent_video

RATE_HZ = 16_000
POSIX = pytest.mark.skipif(os.name != "posix", reason="POSIX only")
READERS: tuple[Callable[[Any], object], ...] = (
    audio.probe,
    lambda source: audio.load(source, RATE_HZ),
    lambda source: audio.load_spans(source, RATE_HZ, [(0, 100)]),
    lambda source: list(audio.stream(source, RATE_HZ)),
)


def refusal(source: object) -> str:
    """Give the message, the same from every function, with all of its three parts filled sensibly."""
    messages = set()
    for reader in READERS:
        with pytest.raises(AudioError) as caught:
            reader(source)
        assert caught.value.problem
        assert caught.value.next_step
        messages.add(str(caught.value))
    assert len(messages) == 1
    return messages.pop()


def test_missing(tmp_path: Path) -> None:
    assert "none.wav does not exist" in refusal(tmp_path / "none.wav")


def test_an_empty_name_is_not_the_current_folder() -> None:
    assert "name of the track is empty" in refusal("")


def test_a_folder(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path)


def test_empty(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").touch()
    assert "is empty (0 bytes)" in refusal(tmp_path / "a.mp3")


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.wav", music(0.1))
    real_open = Path.open

    def locked(self: Path, *arguments: Any, **options: Any) -> Any:
        if self == path:
            raise PermissionError(13, "Permission denied")
        return real_open(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", locked)  # a real mode would not stop root
    assert "no permission to read" in refusal(path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_no_permission_for_real(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", music(0.1))
    path.chmod(0)
    assert "no permission to read" in refusal(path)


def test_a_folder_that_may_not_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "no permission to read" in refusal(tmp_path)


@POSIX
def test_a_named_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    assert "is a named pipe" in refusal(tmp_path / "pipe.wav")


@POSIX
def test_a_device() -> None:
    assert "is a device" in refusal("/dev/zero")


@POSIX
def test_a_link_to_itself(tmp_path: Path) -> None:
    (tmp_path / "a.wav").symlink_to(tmp_path / "a.wav")
    assert "leads back to itself" in refusal(tmp_path / "a.wav")


def test_a_nul_in_the_name() -> None:
    assert "not a possible file name" in refusal("a\0b.wav")


@pytest.mark.parametrize(
    "content",
    [
        b"x",
        b"hello world\n" * 5000,
        bytes(100_000),
        b"\xff" * 100_000,
        np.random.default_rng(0).bytes(200_000),
        b"\x89PNG\r\n\x1a\n" + np.random.default_rng(1).bytes(50_000),
        b"#EXTM3U\n#EXTINF:10,\nhttp://localhost:1/a.mp3\n",
        b"ffconcat version 1.0\nfile a.wav\n",
        b"%PDF-1.7\n" + b"0" * 1000,
    ],
    ids=["byte", "text", "zeros", "ones", "noise", "png", "playlist", "concat", "pdf"],
)
def test_not_audio(tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.mp3").write_bytes(content)
    assert "is not audio that can be decoded" in refusal(tmp_path / "a.mp3")
    assert "is not audio that can be decoded" in refusal(io.BytesIO(content))
    assert capfd.readouterr() == ("", "")


def test_a_video_without_sound(tmp_path: Path) -> None:
    assert "has no sound in it" in refusal(write_silent_video(tmp_path / "a.mp4"))


def test_a_headless_file_that_claims_to_be_raw(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(b"12345678" * 10)
    assert "is not audio" in refusal(tmp_path / "a.raw")


def test_an_mp4_without_its_index(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.m4a", music(3.0)).read_bytes()
    (tmp_path / "a.m4a").write_bytes(whole[: len(whole) // 2])
    assert "looks like MP4 or M4A but cannot be decoded: damaged or cut off" in refusal(tmp_path / "a.m4a")


def test_zero_samples(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 44100)
    for reader in (READERS[1], READERS[3]):
        with pytest.raises(AudioError, match="holds no samples"):
            reader(tmp_path / "a.wav")
    assert audio.probe(tmp_path / "a.wav").duration_s == 0
    assert len(audio.load_spans(tmp_path / "a.wav", RATE_HZ, [(0, 10)]).waveforms[0]) == 0


def test_an_object_that_is_no_source() -> None:
    assert "a int is not a source" in refusal(3)
    assert "a StringIO is not a source" in refusal(io.StringIO("text"))
    assert "a ndarray is not a source" in refusal(np.zeros(10))


class OnlyTheBasics:
    """A file object with read, seek and tell, as some libraries make them; a read may give less than asked for."""

    def __init__(self, content: bytes, at_most: int = 1 << 20) -> None:
        self._inner = io.BytesIO(content)
        self._at_most = at_most

    def read(self, n_bytes: int = -1) -> bytes:
        return self._inner.read(min(n_bytes, self._at_most) if n_bytes >= 0 else -1)

    def seek(self, offset: int, whence: int = 0) -> None:
        self._inner.seek(offset, whence)

    def tell(self) -> int:
        return self._inner.tell()


class RawShort(io.RawIOBase):
    """An unbuffered stream that gives seven bytes at a time."""

    def __init__(self, content: bytes) -> None:
        self._inner = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._inner.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        content = self._inner.read(min(len(buffer), 7))
        buffer[: len(content)] = content
        return len(content)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".ogg"])
def test_file_objects_of_few_manners(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"sound{suffix}", music(1.0))
    content, expected = path.read_bytes(), audio.load(path, RATE_HZ)
    for source in (OnlyTheBasics(content), RawShort(content)):
        sound = audio.load(source, RATE_HZ)
        assert np.allclose(sound.waveform, expected.waveform, atol=1e-4) and sound.warnings == expected.warnings


def test_a_file_object_that_is_closed_or_gives_text() -> None:
    closed = io.BytesIO(b"RIFF")
    closed.close()
    assert "<file object> is closed" in refusal(closed)

    class Text(OnlyTheBasics):
        def read(self, n_bytes: int = -1) -> Any:
            return "text"

    assert "gives str, not bytes" in refusal(Text(b"RIFF"))


def test_a_file_object_that_cannot_seek() -> None:
    class OneWay(io.RawIOBase):
        def readable(self) -> bool:
            return True

    assert "cannot seek" in refusal(OneWay())


@pytest.mark.skipif(sys.platform in {"darwin", "win32"}, reason="this file system wants UTF-8 names")
@pytest.mark.parametrize("suffix", [".wav", ".mp3", ".m4a", ".opus"])
def test_names_that_are_not_utf8(tmp_path: Path, suffix: str) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 \n" + suffix.encode()))
    plain = write(tmp_path / f"plain{suffix}", music(1.0, 48000), 48000)
    plain.rename(path)
    assert len(audio.load(path, RATE_HZ).waveform) == pytest.approx(RATE_HZ, abs=1000)
    shown = audio.probe(path).path
    assert shown.endswith(f"caf\\xe9 \\n{suffix}")
    assert shown.isprintable()
    shown.encode("ascii")


@POSIX
@pytest.mark.parametrize("name", ["http:x.m4a", "concat:a|b.m4a", "pipe:.m4a", "-.m4a", "100%d.m4a", "a*?[b].m4a"])
def test_names_that_mean_something_to_decoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    write(tmp_path / "plain.m4a", music(1.0)).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(audio.load(name, RATE_HZ).waveform) >= RATE_HZ


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", music(30.0))
    stream = audio.stream(path, RATE_HZ, block_s=1.0)
    next(stream)
    with path.open("ab") as handle:
        handle.write(b"more")
    assert sum(map(len, stream)) == 29 * RATE_HZ
    assert stream.warnings == ("the file changed while it was read",)


@POSIX
def test_a_file_that_vanishes_while_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", music(30.0))
    stream = audio.stream(path, RATE_HZ, block_s=1.0)
    next(stream)
    path.unlink()
    assert sum(map(len, stream)) == 29 * RATE_HZ
    assert "changed" in stream.warnings[0]


def test_a_codec_that_nobody_knows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", music(0.5))
    path.write_bytes(path.read_bytes().replace(b"A_AAC", b"A_AAX"))
    assert "looks like Matroska or WebM but cannot be decoded" in refusal(path)


def test_headers_that_lead_nowhere_make_no_noise(capfd: pytest.CaptureFixture[str], rng: np.random.Generator) -> None:
    """File objects with scrambled headers: an answer or an AudioError, and nothing on the terminal."""
    handle = io.BytesIO()
    soundfile.write(handle, music(0.2), 44100, format="AIFF")
    plain = np.frombuffer(handle.getvalue(), np.uint8)
    for _ in range(150):
        scrambled = plain.copy()
        scrambled[rng.integers(4, 60, 4)] = rng.integers(0, 256, 4)
        try:
            assert len(audio.load(io.BytesIO(scrambled.tobytes()), RATE_HZ).waveform)
        except AudioError as error:
            assert error.next_step
    assert capfd.readouterr() == ("", "")
