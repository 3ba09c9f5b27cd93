"""Damaged and odd files: what decodes is used, and the rest is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from musicgenre import audio
from musicgenre.errors import AudioError
from tests.sounds import FORMATS, music, rate_of, write

RATE_HZ = 16_000
DURATION_S = 12.0
# Without their index at the end, MP4 files cannot be decoded at all.
CUT_ANYWHERE = tuple(name for name in FORMATS if not name.endswith((".m4a", ".mp4")))


@pytest.mark.parametrize("name", CUT_ANYWHERE)
def test_a_truncated_file_is_heard_as_far_as_it_goes(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / f"a{name}", music(DURATION_S, rate_of(name)), rate_of(name))
    whole = audio.load(path, RATE_HZ).waveform
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2 + 11])
    sound = audio.load(path, RATE_HZ)
    assert 0.1 * len(whole) < len(sound.waveform) < 0.75 * len(whole)
    assert any("truncated" in warning or "damaged" in warning for warning in sound.warnings)
    n = min(20_000, len(sound.waveform) - 2_000)
    assert np.abs(sound.waveform[:n] - whole[:n]).max() < 1e-3
    pieces = audio.load_spans(path, RATE_HZ, [(4_000, 4_000), (len(whole) - 5_000, 4_000)])
    assert np.corrcoef(pieces.waveforms[0], whole[4_000:8_000])[0, 1] > 0.99
    assert len(pieces.waveforms[1]) == 0
    assert pieces.warnings


@pytest.mark.parametrize("name", [".mp3", ".flac", ".ogg", ".opus", ".m4a", ".aac", ".mkv", ".wma", ".wv"])
def test_damage_in_the_middle_costs_only_its_surroundings(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / f"a{name}", music(DURATION_S, rate_of(name)), rate_of(name))
    whole = audio.load(path, RATE_HZ).waveform
    data = bytearray(path.read_bytes())
    half = len(data) // 2
    data[half : half + 3000] = np.random.default_rng(3).bytes(3000)
    path.write_bytes(bytes(data))
    sound = audio.load(path, RATE_HZ)
    assert np.isfinite(sound.waveform).all()
    assert len(sound.waveform) > 0.6 * len(whole)
    n = len(whole) // 4
    assert np.corrcoef(sound.waveform[:n], whole[:n])[0, 1] > 0.95


def test_no_noise_on_the_terminal_about_truncated_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in CUT_ANYWHERE:
        path = write(tmp_path / f"a{name}", music(3.0, rate_of(name)), rate_of(name))
        capfd.readouterr()  # what encoders say is not our matter
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        audio.load(path, RATE_HZ)
        assert capfd.readouterr() == ("", ""), name


def test_an_mp3_without_a_length_header_is_heard_to_its_end(tmp_path: Path) -> None:
    """A VBR file whose loud half comes last: a length guessed from the first frames would be far too short."""
    samples = music(20.0)
    samples[: len(samples) // 2] *= 1e-4
    path = write(tmp_path / "a.mp3", samples, options={"qscale": "4"})
    data = path.read_bytes()
    mark = max(data.find(b"Xing"), data.find(b"Info"))
    path.write_bytes(data[data.find(b"\xff\xfb", mark) :])
    assert audio.probe(path).duration_s == pytest.approx(20.0, abs=0.1)
    sound = audio.load(path, RATE_HZ)
    assert len(sound.waveform) == pytest.approx(20 * RATE_HZ, abs=1600)
    piece = audio.load_spans(path, RATE_HZ, [(15 * RATE_HZ, 8_000)]).waveforms[0]
    assert np.abs(piece - sound.waveform[15 * RATE_HZ : 15 * RATE_HZ + 8_000]).max() < 1e-4


def test_a_cover_picture_in_front_of_an_mp3(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp3", music(3.0))
    data = path.read_bytes()
    tag_bytes = 300_000
    size = bytes(tag_bytes >> shift & 0x7F for shift in (21, 14, 7, 0))
    sound_start = data.find(b"\xff\xfb")
    path.write_bytes(b"ID3\x03\x00\x00" + size + bytes(tag_bytes) + data[sound_start:])
    sound = audio.load(path, RATE_HZ)
    assert len(sound.waveform) == 3 * RATE_HZ
    assert sound.warnings == ()


@pytest.mark.parametrize("name", [".wav", ".m4a"])
def test_silence_is_a_warning(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / f"a{name}", np.zeros((44100, 2), np.float32))
    sound = audio.load(path, RATE_HZ)
    assert sound.warnings == ("silence: no sound in what was heard",)
    assert len(sound.waveform) >= RATE_HZ


def test_channels_that_cancel_are_a_warning(tmp_path: Path) -> None:
    left = music(1.0, channels=1)
    path = write(tmp_path / "a.flac", np.hstack([left, -left]))
    assert audio.load(path, RATE_HZ).warnings == ("silence: the channels cancel each other in the mix to mono",)


def test_samples_that_are_no_numbers_become_zero(tmp_path: Path) -> None:
    samples = music(1.0)
    samples[100, 0], samples[2000, 1], samples[3000:3010] = np.nan, np.inf, -np.inf
    soundfile.write(tmp_path / "a.wav", samples, 44100, subtype="FLOAT")
    sound = audio.load(tmp_path / "a.wav", RATE_HZ)
    assert np.isfinite(sound.waveform).all()
    assert sound.warnings == ("12 of 44100 samples are NaN or infinite: replaced by 0",)


def test_no_number_at_all_is_an_error(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(1000, np.nan), 44100, subtype="FLOAT")
    with pytest.raises(AudioError, match="holds only NaN or infinite samples"):
        audio.load(tmp_path / "a.wav", RATE_HZ)
    with pytest.raises(AudioError, match="holds only NaN or infinite samples"):
        list(audio.stream(tmp_path / "a.wav", RATE_HZ))


def test_integers_stored_as_floats_are_a_warning(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", music(1.0) * 32768, 44100, subtype="FLOAT")
    assert "integers stored as floats?" in audio.load(tmp_path / "a.wav", RATE_HZ).warnings[0]


def test_a_length_in_the_header_that_a_streaming_writer_left_open(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", music(1.0))
    data = bytearray(path.read_bytes())
    at = data.find(b"data") + 4
    data[4:8] = data[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(bytes(data))
    sound = audio.load(path, RATE_HZ)
    assert sound.warnings == ()
    assert len(sound.waveform) == RATE_HZ
