"""show: the picture is one, the changed sound is the chain's, and misuse is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from musicgenre.audio import load
from musicgenre.augment import show
from musicgenre.augment.show import describe, show_track
from musicgenre.augment.waveform import apply, get_chain
from musicgenre.errors import AudioError, UsageError
from musicgenre.features.mel.reference import melspectrogram
from tests.cli import run

RATE_HZ = 16_000


@pytest.fixture
def track(tmp_path: Path, rng: np.random.Generator) -> Path:
    path = tmp_path / "track é.wav"
    times_s = np.arange(2 * RATE_HZ) / RATE_HZ
    soundfile.write(path, 0.4 * np.sin(2 * np.pi * 440 * times_s) + 0.01 * rng.standard_normal(len(times_s)), RATE_HZ)
    return path


def width_of(picture: Path) -> int:
    from PIL import Image

    with Image.open(picture) as opened:
        opened.load()
        assert opened.format == "PNG"
        assert len(opened.convert("RGB").getcolors(1 << 24)) > 100, "something is drawn"
        return opened.width


def test_one_column_as_it_is_and_two_with_an_augmentation(track: Path, tmp_path: Path) -> None:
    assert show_track(track, tmp_path / "one.png") is None
    drawn = show_track(track, tmp_path / "two.png", chain=get_chain("time-stretch"), seed=4)
    assert drawn is not None
    assert width_of(tmp_path / "two.png") == 2 * width_of(tmp_path / "one.png")
    assert describe(drawn).startswith("TimeStretch rate ")


@pytest.mark.parametrize("frequency_hz", [250, 1_000, 8_000])
def test_a_tone_stands_at_its_frequency(frequency_hz: int) -> None:
    times_s = np.arange(RATE_HZ * 2) / 22_050
    mel = melspectrogram(np.sin(2 * np.pi * frequency_hz * times_s).astype(np.float32), show._MEL)
    [row] = show._rows_of([frequency_hz])
    assert abs(mel.mean(axis=1).argmax() - row) <= 1


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_the_sound_is_what_the_chain_makes(track: Path, tmp_path: Path, suffix: str) -> None:
    sound = tmp_path / f"changed{suffix}"
    drawn = show_track(track, tmp_path / "p.png", chain=get_chain("b2"), seed=9, sound=sound)
    assert drawn is not None
    expected = apply(drawn, load(track, RATE_HZ).waveform, RATE_HZ)
    np.testing.assert_allclose(load(sound, RATE_HZ).waveform, expected, atol=1e-4)


def test_silence_and_a_seed_that_changes_nothing_are_drawn(tmp_path: Path) -> None:
    silence = tmp_path / "silence.wav"
    soundfile.write(silence, np.zeros(RATE_HZ), RATE_HZ)
    quiet_seed = next(seed for seed in range(1000) if not get_chain("a3").draw(seed)["steps"])
    drawn = show_track(silence, tmp_path / "p.png", chain=get_chain("a3"), seed=quiet_seed)
    assert drawn is not None
    assert describe(drawn) == "nothing happened"


def test_misuse_is_named(track: Path, tmp_path: Path) -> None:
    for sound, chain in ((tmp_path / "x.wav", None), (tmp_path / "x.mp3", get_chain("a3"))):
        with pytest.raises(UsageError, match="cannot be written"):
            show_track(track, tmp_path / "p.png", chain=chain, sound=sound)
    tiny = tmp_path / "tiny.wav"
    soundfile.write(tiny, np.zeros(3), RATE_HZ)
    with pytest.raises(AudioError, match="too short"):
        show_track(tiny, tmp_path / "p.png")
    assert not (tmp_path / "p.png").exists()


def test_the_command(track: Path, tmp_path: Path) -> None:
    done = run("show", track, "--augment", "B2", "--seed", "1", "--output", "p.png", "--sound", "s.wav", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert b"b2, seed 1: AddGaussianNoise amplitude" in done.stdout
    assert (tmp_path / "p.png").stat().st_size > 10_000
    assert (tmp_path / "s.wav").exists()
    wrong = run("show", track, "--augment", "pitchshift", "--output", "p.png", cwd=tmp_path)
    assert wrong.returncode == 2
    assert b"Nearest" in wrong.stderr
