"""The 57-column table against the published one and against librosa."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musicgenre.errors import UsageError
from musicgenre.features.classical.rhythm import RHYTHM_COLUMNS
from musicgenre.features.representations.table import COLUMNS, Table
from tests.librosa_table import librosa_row

NEAR_ZERO = {"harmony_mean": "harmony_var", "perceptr_mean": "perceptr_var"}


def music(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Chords, clicks and noise, with an odd number of samples."""
    t = np.arange(int(seconds * 22_050) + 77) / 22_050
    chords = sum(np.sin(2 * np.pi * f * (1 + 0.3 * (t % 4 > 2)) * t) for f in (131, 165, 196, 523)) / 8
    clicks = (t % 0.48 < 0.01) * rng.standard_normal(len(t)) * 0.4
    return (chords * (0.5 + 0.5 * np.sin(t)) + clicks + 0.003 * rng.standard_normal(len(t))).astype(np.float32)


def assert_rows_agree(got: np.ndarray, expected: np.ndarray, relative: float) -> None:
    """Compare column by column; the means of harmony and perceptr, near zero, against their standard deviation."""
    places = {name: index for index, name in enumerate(COLUMNS)}
    for name, index in places.items():
        size = abs(expected[index])
        if name in NEAR_ZERO:
            size = np.sqrt(expected[places[NEAR_ZERO[name]]])
        assert abs(got[index] - expected[index]) <= relative * size + 1e-12, (name, got[index], expected[index])


def published(folder: Path) -> dict[str, np.ndarray]:
    with (folder / "gtzan-tables/features_30_sec.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0])[2:-1] == COLUMNS
    return {row["filename"]: np.array([float(row[name]) for name in COLUMNS]) for row in rows}


@pytest.mark.real_data
def test_all_tracks_of_the_published_table(shared_data: Path) -> None:
    expected = published(shared_data)
    paths = sorted((shared_data / "gtzan-mini/genres").glob("*/*.wav"))
    assert len(paths) == 100
    for path in paths:
        waveform, _ = soundfile.read(path, dtype="float32")
        assert_rows_agree(Table().row(waveform), expected[path.name], 1e-4)


@pytest.mark.real_data
def test_equals_librosa_on_real_sound(shared_data: Path) -> None:
    for name in ("jazz.00005", "disco.00008"):
        path = shared_data / f"gtzan-mini/genres/{name.split('.')[0]}/{name}.wav"
        waveform, _ = soundfile.read(path, dtype="float32")
        assert_rows_agree(Table(tail="whole").row(waveform), librosa_row(waveform), 1e-4)


@pytest.mark.parametrize("seconds", [3.0, 9.3])
def test_equals_librosa(rng: np.random.Generator, seconds: float) -> None:
    waveform = music(rng, seconds)
    assert_rows_agree(Table(tail="whole").row(waveform), librosa_row(waveform), 1e-4)


def test_the_published_tail_is_silent(rng: np.random.Generator) -> None:
    waveform = music(rng, 3.0)
    zero, whole = Table().row(waveform), Table(tail="whole").row(waveform)
    changed = {name for name, a, b in zip(COLUMNS, zero, whole, strict=True) if a != b}
    assert changed == {"harmony_mean", "harmony_var", "perceptr_mean", "perceptr_var"}
    even = waveform[: len(waveform) // 512 * 512]
    assert np.array_equal(Table().row(even), Table(tail="whole").row(even))


def test_segments(rng: np.random.Generator) -> None:
    waveform = music(rng, 4.0)
    assert np.array_equal(Table(segment_s=3.0).row(waveform), Table().row(waveform[:66_150]))
    assert Table(segment_s=3.0).shape() == (57,)


def test_rhythm_columns_follow(rng: np.random.Generator) -> None:
    waveform = music(rng, 6.0)
    longer = Table(rhythm=True)
    assert longer.columns == (*COLUMNS, *RHYTHM_COLUMNS)
    assert np.array_equal(longer.row(waveform)[:57], Table().row(waveform))
    assert longer.compute(waveform).shape == longer.shape() == (57 + len(RHYTHM_COLUMNS),)


def test_silence_gives_numbers() -> None:
    row = Table(rhythm=True).row(np.zeros(66_150, np.float32))
    assert np.isfinite(row).all()
    assert dict(zip(COLUMNS, row[:57], strict=True))["tempo"] == 0


def test_options_are_checked() -> None:
    with pytest.raises(UsageError, match="Valid: zero, whole"):
        Table(tail="none")
    with pytest.raises(UsageError, match="not positive"):
        Table(segment_s=-3)
    with pytest.raises(UsageError, match="not finite"):
        Table().compute(np.full(66_150, np.nan, np.float32))
