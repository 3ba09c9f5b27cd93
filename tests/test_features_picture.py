"""Pictures drawn from sound and read from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from musicgenre.errors import DataError, UsageError
from musicgenre.features.representations.picture import Picture, coloured, resampled


def save(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def test_a_rising_tone_rises(rng: np.random.Generator) -> None:
    t = np.arange(66_150) / 22_050
    sweep = np.sin(2 * np.pi * (200 * t + 800 * t**2)).astype(np.float32)
    picture = Picture(segment_s=3.0, size=64)
    drawn = picture.compute(sweep)
    assert drawn.shape == picture.shape() == (3, 64, 64)
    assert -1 <= drawn.min() < drawn.max() <= 1
    yellow = drawn[0] + drawn[1] - drawn[2]
    rows = yellow.argmax(axis=0)[5:-5]
    assert rows[0] > rows[-1] + 10, "high notes at the top"
    last = Picture(segment_s=3.0, size=64, channels_first=False)
    assert np.array_equal(last.compute(sweep).transpose(2, 0, 1), drawn)


def test_files_are_cropped_and_resized(tmp_path: Path) -> None:
    pixels = np.full((40, 50, 3), 255)
    pixels[5:35, 10:40] = (255, 0, 127)
    path = save(tmp_path / "a.png", pixels)
    picture = Picture(source="file", crop=[10, 5, 40, 35], size=16)
    assert picture.reads == "file"
    assert picture.segment_s is None
    got = picture.compute_file(path)
    assert got.shape == (3, 16, 16)
    np.testing.assert_allclose(got[:, 3, 3], [1, -1, 127 / 127.5 - 1], atol=1e-6)
    assert np.ptp(got, axis=(1, 2)).max() == 0
    assert np.ptp(Picture(source="file", size=16).compute_file(path)) > 0


def test_palette_and_grey_files(tmp_path: Path) -> None:
    grey = Image.fromarray(np.full((9, 9), 51, np.uint8))
    grey.save(tmp_path / "grey.png")
    grey.convert("P").save(tmp_path / "palette.png")
    for name in ("grey.png", "palette.png"):
        np.testing.assert_allclose(Picture(source="file", size=4).compute_file(tmp_path / name), -0.6, atol=1e-6)


@pytest.mark.real_data
def test_a_real_picture(shared_data: Path) -> None:
    path = shared_data / "gtzan-spectrogram-png/blues/blues.00000.png"
    got = Picture(source="file", crop=(10, 9, 506, 379)).compute_file(path)
    assert got.shape == (3, 224, 224)
    white = (got > 0.98).all(axis=0)
    assert not white[0].all()
    assert not white[:, 0].all()


def test_bad_files(tmp_path: Path) -> None:
    (tmp_path / "no.png").write_bytes(b"nothing")
    good = save(tmp_path / "small.png", np.zeros((5, 5, 3)))
    cut_off = tmp_path / "cut.png"
    cut_off.write_bytes(
        save(tmp_path / "big.png", np.random.default_rng(0).integers(0, 255, (90, 90, 3))).read_bytes()[:900]
    )
    picture = Picture(source="file", crop=(0, 0, 6, 6))
    for path in (tmp_path / "no.png", tmp_path / "absent.png", cut_off):
        with pytest.raises(DataError, match="cannot be read as a picture"):
            picture.compute_file(path)
    with pytest.raises(DataError, match="5 x 5"):
        picture.compute_file(good)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "disk"}, "Valid: waveform, file"),
        ({"crop": [5, 5, 5, 9]}, "no box"),
        ({"crop": [1, 2, 3]}, "no box"),
        ({"size": 0}, "positive"),
        ({"segment_s": None}, "positive"),
    ],
)
def test_options_are_checked(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Picture(**options)  # type: ignore[arg-type]


def test_resampling_keeps_the_mean(rng: np.random.Generator) -> None:
    values = rng.random((128, 1_292), dtype=np.float32)
    assert resampled(values, 64, 323).mean() == pytest.approx(values.mean(), rel=1e-3)
    ramp = np.linspace(0, 1, 10, dtype=np.float32)[None, :]
    wider = resampled(ramp, 1, 40)[0]
    assert (np.diff(wider) >= -1e-6).all()


def test_colours_get_lighter() -> None:
    colours = coloured(np.linspace(0, 1, 50, dtype=np.float32)[None, :])[0]
    lightness = colours @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(lightness) > 0).all()
    assert np.array_equal(coloured(np.array([[-1.0, 2.0]], np.float32)), coloured(np.array([[0.0, 1.0]], np.float32)))
