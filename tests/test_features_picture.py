"""Pictures drawn from sound and read from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from musicgenre.errors import DataError, UsageError
from musicgenre.features.registry import create_representation
from musicgenre.features.representations.picture import Picture, coloured, common_crop, crop_of, resampled


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


def test_transparent_places_are_white(tmp_path: Path, rng: np.random.Generator) -> None:
    pixels = np.zeros((40, 50, 4))  # without its transparency the border would be as black as some of the picture
    pixels[5:35, 10:40] = rng.integers(0, 256, (30, 30, 4))
    pixels[5:35, 10:40, 3] = 255
    save(tmp_path / "a.png", pixels)
    assert common_crop([tmp_path / "a.png"]) == ((10, 5, 40, 35), (50, 40))
    clear = save(tmp_path / "clear.png", np.zeros((9, 9, 4)))
    assert Picture(source="file", size=4).compute_file(clear).min() == 1.0
    opaque = Picture(source="file", size=16, crop=[10, 5, 40, 35])
    plain = save(tmp_path / "plain.png", pixels[..., :3])
    assert np.array_equal(opaque.compute_file(tmp_path / "a.png"), opaque.compute_file(plain))


def test_several_pictures_and_more_bits_are_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((9, 9, 3), level, np.uint8)) for level in (0, 90, 250)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    Image.fromarray(np.full((9, 9), 30_000, np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(np.full((9, 9), 0.5, np.float32)).save(tmp_path / "float.tiff")
    for name, message in (("moving.gif", "holds 3 pictures"), ("deep.png", "8 bits"), ("float.tiff", "8 bits")):
        with pytest.raises(DataError, match=message):
            Picture(source="file").compute_file(tmp_path / name)
        with pytest.raises(DataError, match=message):
            common_crop([tmp_path / name])


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
        ({"crop": "border"}, "Valid: auto"),
        ({"picture_size": [432]}, "no size"),
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


def framed(
    rng: np.random.Generator, size: tuple[int, int], box: tuple[int, int, int, int], *, border: int
) -> np.ndarray:
    """A picture of width and height `size` with noise inside of `box`, and ticks and a title on its border."""
    left, top, right, bottom = box
    pixels = np.full((size[1], size[0], 3), border)
    pixels[top:bottom, left:right] = rng.integers(0, 200, (bottom - top, right - left, 3))
    pixels[bottom : bottom + 4, left:right:40] = 0
    pixels[top - 8 : top - 3, left + 20 : left + 90] = 0
    return pixels


KAGGLE_SIZE, KAGGLE_BOX = (432, 288), (54, 35, 389, 253)


def test_the_border_of_pictures_is_found(tmp_path: Path, rng: np.random.Generator) -> None:
    paths = []
    for number in range(40):
        pixels = framed(rng, KAGGLE_SIZE, KAGGLE_BOX, border=255)
        if number % 4 == 0:  # a quiet beginning, as white as the border
            pixels[:, : 54 + 10 * (number + 1)] = 255
        paths.append(save(tmp_path / f"{number:02}.png", pixels))

    picture = Picture(source="file", crop="auto", size=32)
    with pytest.raises(UsageError, match="several pictures"):
        picture.compute_file(paths[0])
    found = picture.settled(paths)
    assert found.settings()["crop"] == list(KAGGLE_BOX)
    assert found.settings()["picture_size"] == list(KAGGLE_SIZE)
    by_hand = Picture(source="file", crop=KAGGLE_BOX, size=32)
    assert np.array_equal(found.compute_file(paths[1]), by_hand.compute_file(paths[1]))

    # what was found is an option like any other, and is found no more
    again = create_representation(
        "picture", **{k: v for k, v in found.settings().items() if k not in ("name", "version")}
    )
    assert again.settings() == found.settings()
    assert again.settled([tmp_path / "nowhere.png"]) is again
    other = save(tmp_path / "other.png", framed(rng, (515, 389), (10, 9, 506, 379), border=255))
    with pytest.raises(DataError, match=r"is 515 x 389 pixels\. Valid: 432 x 288"):
        found.compute_file(other)


def test_a_bar_of_colours_is_border_and_jpeg_is_told_from_it(tmp_path: Path, rng: np.random.Generator) -> None:
    pixels = framed(rng, KAGGLE_SIZE, KAGGLE_BOX, border=255)
    pixels[35:253, 400:415] = (200, 30, 30)
    assert crop_of(pixels.astype(np.uint8)) == KAGGLE_BOX
    black = framed(rng, KAGGLE_SIZE, KAGGLE_BOX, border=0)
    black[35:253, 54:389] += 55
    assert crop_of(black.astype(np.uint8)) == KAGGLE_BOX
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "a.jpg", quality=90)
    (left, top, right, bottom), _ = common_crop([tmp_path / "a.jpg"])
    assert np.abs(np.subtract((left, top, right, bottom), KAGGLE_BOX)).max() <= 8, "JPEG smears by a block of 8 pixels"


def test_pictures_without_border_are_whole(rng: np.random.Generator) -> None:
    assert crop_of(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)) == (0, 0, 30, 20)


def test_empty_pictures_have_no_say(tmp_path: Path, rng: np.random.Generator) -> None:
    empty = np.full((288, 432, 3), 255, np.uint8)
    assert crop_of(empty) is None
    paths = [save(tmp_path / f"{number}.png", empty) for number in range(3)]
    assert common_crop(paths) == ((0, 0, *KAGGLE_SIZE), KAGGLE_SIZE)
    paths.append(save(tmp_path / "full.png", framed(rng, KAGGLE_SIZE, KAGGLE_BOX, border=255)))
    assert common_crop(paths) == (KAGGLE_BOX, KAGGLE_SIZE)


def test_pictures_that_disagree_name_the_option(tmp_path: Path, rng: np.random.Generator) -> None:
    paths = []
    for number in range(6):
        box = (10 + 12 * number, 20, 390 - 12 * number, 250)
        paths.append(save(tmp_path / f"{number}.png", framed(rng, KAGGLE_SIZE, box, border=255)))
    with pytest.raises(DataError, match=r"disagree about their border.*representation\.options\.crop=\[left,top"):
        common_crop(paths)
    large = save(tmp_path / "large.png", framed(rng, (515, 389), (10, 9, 506, 379), border=255))
    with pytest.raises(DataError, match=r"differ in size: .*0\.png has 432 x 288 pixels.*options\.crop="):
        common_crop([paths[0], large])
    (tmp_path / "no.png").write_bytes(b"nothing")
    assert common_crop([tmp_path / "no.png", paths[0]])[1] == KAGGLE_SIZE
    with pytest.raises(DataError, match="cannot be read as a picture"):
        common_crop([tmp_path / "no.png"])


@pytest.mark.real_data
def test_the_border_of_real_pictures(shared_data: Path) -> None:
    paths = sorted((shared_data / "gtzan-spectrogram-png").glob("*/*.png"))
    assert common_crop(paths) == ((10, 9, 506, 379), (515, 389))
