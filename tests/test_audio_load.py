"""Whole sounds and exact pieces of them, in every format."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from musicgenre import audio
from musicgenre.errors import AudioError
from tests.sounds import FORMATS, LOSSLESS, music, rate_of, write

RATE_HZ = 16_000
DURATION_S = 9.0
# Formats whose decoders know how much padding the encoder added in front.
GAPLESS = tuple(name for name in FORMATS if name not in {".aac", ".wma"})

Make = Callable[[str], Path]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    folder = tmp_path_factory.mktemp("formats")

    def written(name: str) -> Path:
        path = folder / f"music{name}"
        if not path.exists():
            write(path, music(DURATION_S, rate_of(name)), rate_of(name))
        return path

    return written


def original(name: str) -> np.ndarray:
    return original_at(rate_of(name))


@functools.cache
def original_at(rate_hz: int) -> np.ndarray:
    waveform = audio.from_array(music(DURATION_S, rate_hz), rate_hz, RATE_HZ).waveform
    waveform.setflags(write=False)
    return waveform


def best_lag(heard: np.ndarray, truth: np.ndarray, reach: int = 1200) -> tuple[int, float]:
    """Lag of ``heard`` behind ``truth`` in samples, and the correlation there."""
    piece = truth[20_000 : 20_000 + 40_000].astype(np.float64)
    around = heard[20_000 - reach : 20_000 + reach + len(piece)].astype(np.float64)

    # Pearson's correlation of the piece with every window, from sums over them
    n = len(piece)
    dots = scipy.signal.correlate(around, piece - piece.mean(), mode="valid", method="fft")
    totals = np.cumsum(np.r_[0.0, around]), np.cumsum(np.r_[0.0, around**2])
    sums, squares = (total[n:] - total[:-n] for total in totals)
    scores = dots / (np.sqrt(squares - sums**2 / n) * piece.std() * np.sqrt(n))
    return int(np.argmax(scores)) - reach, float(np.max(scores))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_sounds_like_what_was_written(make: Make, name: str) -> None:
    sound = audio.load(make(name), RATE_HZ)
    assert sound.waveform.dtype == np.float32
    assert sound.waveform.ndim == 1
    assert sound.sample_rate_hz == RATE_HZ
    assert sound.warnings == ()
    assert sound.duration_s == pytest.approx(DURATION_S, abs=0.06)
    lag, correlation = best_lag(sound.waveform, original(name))
    assert correlation > 0.97
    assert lag == 0 if name in GAPLESS else abs(lag) < 1100


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_formats_give_the_samples(make: Make, name: str) -> None:
    heard, truth = audio.load(make(name), RATE_HZ).waveform, original(name)
    assert len(heard) == len(truth) == round(DURATION_S * RATE_HZ)
    assert np.abs(heard - truth).max() < 1e-4


@pytest.mark.parametrize("name", FORMATS)
def test_spans_equal_slices_of_the_whole(make: Make, name: str) -> None:
    whole = audio.load(make(name), RATE_HZ).waveform
    n = len(whole)
    # out of order, overlapping, at the start, over the end and beyond it
    spans = [(100_001, 16_000), (0, 5_000), (60_003, 8_000), (64_000, 8_000), (n - 3_000, 3_000), (n - 500, 900)]
    spans += [(n + 50, 100), (30_000, 0)]
    pieces = audio.load_spans(make(name), RATE_HZ, spans)
    assert len(pieces.waveforms) == len(spans)
    for (start, length), piece in zip(spans, pieces.waveforms, strict=True):
        expected = whole[start : start + length]
        assert piece.shape == expected.shape
        assert piece.dtype == np.float32
        if name not in {".m4a", ".mp4", ".mkv", ".aac"}:  # the noise that AAC draws: see below
            assert np.abs(piece - expected).max(initial=0) < 1e-4
        elif len(expected):
            assert np.corrcoef(piece, expected)[0, 1] > 0.99


@pytest.mark.parametrize("name", [".m4a", ".mkv"])
def test_spans_of_aac_without_drawn_noise_are_exact(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / f"plain{name}", music(DURATION_S), 44100, options={"aac_pns": "0"})
    whole = audio.load(path, RATE_HZ).waveform
    spans = [(50_001, 16_000), (110_003, 16_000)]
    for (start, length), piece in zip(spans, audio.load_spans(path, RATE_HZ, spans).waveforms, strict=True):
        assert np.abs(piece - whole[start : start + length]).max() < 1e-4


@settings(max_examples=40)
@given(
    name=st.sampled_from([".wav", ".flac", ".mp3", ".ogg", ".opus"]),
    rate_hz=st.sampled_from([8_000, 16_000, 22_050, 44_100, 44_101, 48_000]),
    spans=st.lists(st.tuples(st.integers(0, 100_000), st.integers(0, 30_000)), min_size=1, max_size=4),
)
def test_any_spans_at_any_rate(make: Make, name: str, rate_hz: int, spans: list[tuple[int, int]]) -> None:
    whole = audio.load(make(name), rate_hz).waveform
    pieces = audio.load_spans(make(name), rate_hz, spans)
    for (start, length), piece in zip(spans, pieces.waveforms, strict=True):
        expected = whole[start : start + length]
        assert piece.shape == expected.shape
        assert np.abs(piece - expected).max(initial=0) < 1e-4


def test_a_part_is_a_slice_of_the_whole(make: Make) -> None:
    whole = audio.load(make(".mp3"), RATE_HZ).waveform
    part = audio.load(make(".mp3"), RATE_HZ, start_s=2.5, duration_s=1.25)
    assert len(part.waveform) == 20_000
    assert np.abs(part.waveform - whole[40_000:60_000]).max() < 1e-4
    assert part.duration_s == pytest.approx(DURATION_S)
    rest = audio.load(make(".mp3"), RATE_HZ, start_s=8.0)
    assert np.abs(rest.waveform - whole[128_000:]).max() < 1e-4


@pytest.mark.parametrize(("start_s", "duration_s"), [(-1.0, None), (0.0, -2.0), (float("nan"), None)])
def test_an_impossible_part_is_refused(make: Make, start_s: float, duration_s: float | None) -> None:
    with pytest.raises(AudioError, match=r"start_s|duration_s"):
        audio.load(make(".wav"), RATE_HZ, start_s=start_s, duration_s=duration_s)


def test_a_part_behind_the_end_is_refused(make: Make) -> None:
    with pytest.raises(AudioError, match=r"nothing at 20 s\. It is 9\.00 s long"):
        audio.load(make(".wav"), RATE_HZ, start_s=20)


def test_a_negative_span_is_refused(make: Make) -> None:
    with pytest.raises(AudioError, match="negative"):
        audio.load_spans(make(".wav"), RATE_HZ, [(-1, 100)])


@pytest.mark.parametrize("rate", [0, -1, 999, 768_001, True, 44100.5, "16000", None])
def test_an_impossible_wanted_rate_is_refused(make: Make, rate: object) -> None:
    with pytest.raises(AudioError, match=r"sample_rate_hz is .*1000 to 768000"):
        audio.load(make(".wav"), rate)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [".wav", ".mp3", ".m4a", ".opus"])
def test_file_objects_sound_like_files_and_stay_where_they_were(make: Make, name: str) -> None:
    expected = audio.load(make(name), RATE_HZ).waveform
    source = io.BytesIO(make(name).read_bytes())
    source.seek(17)
    assert np.array_equal(audio.load(source, RATE_HZ).waveform, expected)
    assert source.tell() == 17
    piece = audio.load_spans(source, RATE_HZ, [(60_000, 4_000)]).waveforms[0]
    assert np.corrcoef(piece, expected[60_000:64_000])[0, 1] > 0.99
    assert source.tell() == 17
    assert not source.closed


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
def test_every_sample_type(tmp_path: Path, subtype: str) -> None:
    samples = music(1.0, channels=1)
    soundfile.write(tmp_path / "a.wav", samples, 44100, subtype=subtype)
    heard = audio.load(tmp_path / "a.wav", 44100).waveform
    tolerance = {"PCM_U8": 0.01, "ULAW": 0.03, "ALAW": 0.03}.get(subtype, 1e-4)
    assert np.abs(heard - samples[:, 0]).max() < tolerance


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 8, 32])
def test_channels_are_averaged(tmp_path: Path, channels: int) -> None:
    samples = music(0.5, channels=channels)
    soundfile.write(tmp_path / "a.wav", samples, 44100, subtype="FLOAT")
    heard = audio.load(tmp_path / "a.wav", 44100).waveform
    assert np.abs(heard - samples.mean(axis=1)).max() < 1e-6


@pytest.mark.parametrize("rate_hz", [1_000, 4_000, 8_000, 11_025, 96_000, 192_000, 384_000, 768_000])
def test_file_rates_from_low_to_absurd(tmp_path: Path, rate_hz: int) -> None:
    soundfile.write(tmp_path / "a.wav", music(1.0, rate_hz, channels=1), rate_hz)
    sound = audio.load(tmp_path / "a.wav", RATE_HZ)
    assert len(sound.waveform) == RATE_HZ
    assert bool(sound.warnings) == (rate_hz < 8_000)
    piece = audio.load_spans(tmp_path / "a.wav", RATE_HZ, [(5_001, 3_000)]).waveforms[0]
    assert np.abs(piece - sound.waveform[5_001:8_001]).max() < 1e-4


@pytest.mark.parametrize("rate_hz", [1, 999, 1_000_000])
def test_impossible_file_rates_are_refused(tmp_path: Path, rate_hz: int) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(100), rate_hz)
    with pytest.raises(AudioError, match=rf"sample rate of {rate_hz} Hz.*1000 to 768000"):
        audio.load(tmp_path / "a.wav", RATE_HZ)


@pytest.mark.real_data
def test_real_tracks_load_and_cut(shared_data: Path) -> None:
    tracks = sorted(shared_data.glob("gtzan-mini/genres/*/*.wav"))[::25]
    assert tracks
    for track in tracks:
        sound = audio.load(track, RATE_HZ)
        assert sound.duration_s == pytest.approx(30, abs=0.7)
        piece = audio.load_spans(track, RATE_HZ, [(47_872 * 4, 48_128)]).waveforms[0]
        assert np.abs(piece - sound.waveform[47_872 * 4 : 47_872 * 4 + 48_128]).max() < 1e-4
