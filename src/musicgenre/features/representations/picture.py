"""Spectrograms as colour pictures, for networks that were made to look at photographs.

Either drawn from the sound (a log-mel spectrogram, low notes at the bottom, dark violet for quiet to yellow for loud)
or read from PNG files with their border cropped away. `crop="auto"` finds that border: one box for all pictures of a
manifest, from a sample of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from musicgenre._text import unknown_name
from musicgenre.errors import DataError, UsageError, needing
from musicgenre.features.base import Float32, Representation, check_size, fit_length, segment_samples
from musicgenre.features.mel.specification import MelSpec
from musicgenre.features.registry import register
from musicgenre.features.representations.melspectrogram import fast_melspectrogram

if TYPE_CHECKING:
    from PIL.Image import Image as Opened

SOURCES = ("waveform", "file")
SPEC = MelSpec(sample_rate_hz=22_050, n_fft=2_048, hop_length=512, n_mels=128, top_db=80.0)

# From quiet to loud: even steps in lightness, told apart by colour-blind eyes and on paper.
COLOURS = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))

AUTO = "auto"
"""A crop that is found from the pictures."""

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels from the upper left corner, right and bottom outside."""

_SAMPLE = 32  # pictures that a border is found from, evenly spaced in the order of their paths
_SAME_COLOUR = 8  # levels of 255 by which a border's pixels may differ, as JPEG makes them
_LEAST_SHARE = 0.25  # of a line's pixels unlike the border: ticks and lettering cover less
_REACH = 1  # pixels by which a picture may miss a side of the common box and still confirm it

_BILINEAR = 2  # Pillow's number for it
_HALF_BYTE = 127.5  # half the range of a colour: takes 0 to 255 to -1 to 1


@register("picture")
class Picture(Representation):
    """Picture of a spectrogram, values in [-1, 1], shape (3, size, size), or (size, size, 3).

    Parameters
    ----------
    source : {"waveform", "file"}
        Draw from the sound, or read the picture file that the manifest's `path` names.
    crop : (left, top, right, bottom) or "auto", optional
        For files: what to keep, in pixels from the upper left corner; everything by default. `auto` is settled by
        `settled`, from the border that the pictures of a manifest have in common (`common_crop`).
    picture_size : (width, height), optional
        For files: the size in pixels that the crop was found at; pictures of another size are refused.
    size : int
        Width and height.
    segment_s : float
        For sound: segment length.
    channels_first : bool
        Colours on the first axis, as torch reads pictures, or on the last.
    """

    name = "picture"
    sample_rate_hz = SPEC.sample_rate_hz
    graph_front_end = True
    extra = "features"

    def __init__(
        self,
        *,
        source: str = "waveform",
        crop: Sequence[int] | str | None = None,
        picture_size: Sequence[int] | None = None,
        size: int = 224,
        segment_s: float | None = 30.0,
        channels_first: bool = True,
    ) -> None:
        if source not in SOURCES:
            raise unknown_name("source of pictures", str(source), SOURCES)
        if size < 1 or (source == "waveform" and (segment_s is None or segment_s <= 0)):
            raise UsageError(f"size={size}, segment_s={segment_s}: both must be positive")
        if isinstance(crop, str):
            if crop != AUTO:
                raise UsageError(f"crop={crop} is no box", valid=f"{AUTO}, or left, top, right, bottom in pixels")
        elif crop is not None and (len(crop) != 4 or not (0 <= crop[0] < crop[2] and 0 <= crop[1] < crop[3])):
            raise UsageError(
                f"crop={list(crop)} is no box", valid="left, top, right, bottom in pixels, left < right ..."
            )
        if picture_size is not None and len(picture_size) != 2:
            raise UsageError(f"picture_size={list(picture_size)} is no size", valid="width, height in pixels")

        if source == "waveform" and segment_s is not None:
            n_frames = SPEC.n_frames(segment_samples(self.sample_rate_hz, segment_s))
            check_size("the scaling of a picture", size * n_frames)

        self.crop: Box | None = None
        if crop is not None and not isinstance(crop, str):
            self.crop = (crop[0], crop[1], crop[2], crop[3])
        self.is_to_find = crop == AUTO and source == "file"  # what is drawn from sound has no border
        self.picture_size: tuple[int, int] | None = None
        if picture_size is not None:
            self.picture_size = (picture_size[0], picture_size[1])
        self.size = size
        self.channels_first = channels_first
        self.row_axis = 0 if channels_first else 2  # each colour by itself

        if source == "waveform":
            self.segment_s = segment_s
        else:
            self.reads = "file"

    def shape(self) -> tuple[int, ...]:
        """(3, size, size) or (size, size, 3)."""
        if self.channels_first:
            return (3, self.size, self.size)
        return (self.size, self.size, 3)

    def compute(self, waveform: Float32) -> Float32:
        """Draw `waveform`, shape (n_samples,), cut or zero-padded to the segment (of any length without one)."""
        if self.segment_s is not None:
            waveform = fit_length(waveform, segment_samples(self.sample_rate_hz, self.segment_s))

        decibels = fast_melspectrogram(waveform, SPEC)  # (n_mels, n_frames)
        height = 1.0 + (decibels - decibels.max()) / 80.0  # 0 at the floor, 1 at the loudest
        upright = resampled(height[::-1], self.size, self.size)  # rows count downwards: low notes last
        return self._in_order(coloured(upright))

    def compute_file(self, path: Path) -> Float32:
        """Read the picture at `path`, crop and resize it.

        Raises
        ------
        DataError
            If it is no picture, or smaller than the crop.
        """
        if self.is_to_find:
            raise UsageError(f"crop={AUTO} is found from several pictures", next_step="Call settled with their paths")
        picture = _opened(path)
        if self.picture_size is not None and picture.size != self.picture_size:
            raise DataError(
                f"{path} is {picture.width} x {picture.height} pixels",
                valid=f"{self.picture_size[0]} x {self.picture_size[1]}, as the pictures whose border was found",
            )

        if self.crop is not None:
            # Beyond its edge Pillow would fill in black.
            if self.crop[2] > picture.width or self.crop[3] > picture.height:
                raise DataError(
                    f"{path} is {picture.width} x {picture.height} pixels", valid=f"The crop is {list(self.crop)}"
                )
            picture = picture.crop(self.crop)

        resized = picture.resize((self.size, self.size), resample=_BILINEAR)
        return self._in_order(np.asarray(resized, dtype=np.float32) / np.float32(_HALF_BYTE) - np.float32(1.0))

    def settled(self, paths: Sequence[Path]) -> Self:
        """Find the crop that the pictures at `paths` have in common, where it is `auto`; else return itself.

        Raises
        ------
        DataError
            They have no border in common; the message names the option.
        """
        if not self.is_to_find:
            return self
        crop, picture_size = common_crop(paths)
        return type(self)(
            source="file",
            crop=crop,
            picture_size=picture_size,
            size=self.size,
            segment_s=None,
            channels_first=self.channels_first,
        )

    def settings(self) -> dict[str, Any]:
        """Return every option, under its own name."""
        crop: Sequence[int] | str | None = self.crop
        if self.is_to_find:
            crop = AUTO
        elif self.crop is not None:
            crop = list(self.crop)

        return super().settings() | {
            "source": self.reads,
            "crop": crop,
            "picture_size": None if self.picture_size is None else list(self.picture_size),
            "size": self.size,
            "segment_s": self.segment_s,
            "channels_first": self.channels_first,
        }

    def _in_order(self, picture: Float32) -> Float32:
        """Put the axes of a picture, (size, size, 3), in the order that was asked for."""
        if self.channels_first:
            picture = picture.transpose(2, 0, 1)
        return np.ascontiguousarray(picture)


def common_crop(paths: Sequence[Path]) -> tuple[Box, tuple[int, int]]:
    """Find the box inside the border that pictures have in common.

    Of 32 pictures, evenly spaced in the order of their paths, each says where its own border ends (`crop_of`). The
    common box is the outermost of these, since a quiet beginning may look like border in one picture, not in all. At
    least half of the pictures must reach each of its sides.

    Parameters
    ----------
    paths : sequence of Path
        Pictures; those that cannot be read, or show hardly anything, have no say.

    Returns
    -------
    crop : Box
        What to keep.
    size : (int, int)
        Width and height of every picture looked at.

    Raises
    ------
    DataError
        None can be read, they differ in size, or disagree about a side.
    """
    ordered = sorted(set(paths))
    places = np.unique(np.linspace(0, len(ordered) - 1, min(_SAMPLE, len(ordered))).round().astype(int))
    sample: dict[Path, tuple[Box | None, tuple[int, int]]] = {}
    failure: DataError | None = None
    for place in places:
        path = ordered[place]
        try:
            picture = _opened(path)
        except DataError as error:
            failure = failure or error
            continue
        sample[path] = crop_of(np.asarray(picture)), picture.size
    if not sample:
        raise failure or DataError("there is no picture", next_step="Look at the manifest's column path")

    by_hand = "Give representation.options.crop=[left,top,right,bottom] (in pixels), or null to take them whole"
    first, (_, size) = next(iter(sample.items()))
    for path, (_, other) in sample.items():
        if other != size:
            raise DataError(
                f"the pictures differ in size: {first} has {size[0]} x {size[1]} pixels, "
                f"{path} {other[0]} x {other[1]}",
                valid="One size, where their border is to be found",
                next_step=by_hand,
            )

    found = {path: box for path, (box, _) in sample.items() if box is not None}
    if not found:
        return (0, 0, *size), size

    boxes = np.array(list(found.values()))  # (n_pictures, 4)
    outermost = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
    confirmed = (np.abs(boxes - outermost) <= _REACH).mean(axis=0)  # share of the pictures, for each side
    if confirmed.min() < 0.5:
        distances = np.abs(boxes - outermost).max(axis=1)
        widest, narrowest = list(found)[int(distances.argmin())], list(found)[int(distances.argmax())]
        raise DataError(
            f"the pictures disagree about their border: inside it {widest} has {list(found[widest])}, "
            f"{narrowest} {list(found[narrowest])}",
            valid="One border for all pictures",
            next_step=by_hand,
        )
    left, top, right, bottom = outermost.tolist()
    return (left, top, right, bottom), size


def crop_of(pixels: NDArray[np.uint8]) -> Box | None:
    """Find what a picture holds inside a border of one colour.

    The border has the colour of the four corners; where these differ there is none. A line belongs to the picture
    where a quarter of its pixels have another colour: titles, ticks and numbers beside it cover less. Of several
    stretches of such lines (a bar of colours beside the picture) the longest counts.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width, 3)

    Returns
    -------
    Box or None
        The whole picture where there is no border; none where there is hardly anything but border.
    """
    levels = pixels.astype(np.int16)
    height, width = levels.shape[:2]
    corners = levels[[0, 0, -1, -1], [0, -1, 0, -1]]
    if np.abs(corners - corners[0]).max() > _SAME_COLOUR:
        return 0, 0, width, height

    unlike = (np.abs(levels - corners[0]) > _SAME_COLOUR).any(axis=2)  # (height, width)
    left, right = _longest_stretch(unlike.mean(axis=0) >= _LEAST_SHARE)
    top, bottom = _longest_stretch(unlike.mean(axis=1) >= _LEAST_SHARE)
    if left == right or top == bottom:
        return None
    return left, top, right, bottom


def _longest_stretch(belongs: NDArray[np.bool_]) -> tuple[int, int]:
    """First and one past the last place of the longest run of true values; (0, 0) without any."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], belongs, [False]]).astype(np.int8)))
    begins, ends = edges[::2], edges[1::2]
    if not len(begins):
        return 0, 0
    longest = int((ends - begins).argmax())
    return int(begins[longest]), int(ends[longest])


def _opened(path: Path) -> Opened:
    """Read a picture file as red, green and blue; what is transparent is white, as on a page."""
    with needing("reading pictures", "plot"):
        from PIL import Image

    try:
        with Image.open(path) as opened:
            n_pictures = getattr(opened, "n_frames", 1)
            if n_pictures > 1:
                raise DataError(f"{path} holds {n_pictures} pictures", valid="One picture a file")
            if opened.mode.startswith(("I", "F")):  # Pillow would cut off what is beyond 255
                raise DataError(
                    f"{path} has more than 8 bits a colour (Pillow calls it {opened.mode})",
                    valid="8 bits a colour, from black to white",
                    next_step="Save it anew with 8 bits",
                )

            if not opened.has_transparency_data:
                return opened.convert("RGB")
            see_through = opened.convert("RGBA")
            page = Image.new("RGBA", see_through.size, "white")
            return Image.alpha_composite(page, see_through).convert("RGB")
    except (OSError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        raise DataError(
            f"{path} cannot be read as a picture ({error})", valid="PNG, JPEG or another format of Pillow"
        ) from error


def coloured(height: Float32) -> Float32:
    """Colour values from 0 to 1, shape (rows, columns), as (rows, columns, 3) in [-1, 1]."""
    steps = np.linspace(0.0, 1.0, len(COLOURS))
    channels = [np.interp(height, steps, values) for values in zip(*COLOURS, strict=True)]  # red, green, blue
    return (np.stack(channels, axis=-1) / _HALF_BYTE - 1.0).astype(np.float32)


def resampled(values: Float32, n_rows: int, n_columns: int) -> Float32:
    """Resize a table by linear interpolation; when shrinking, wide enough that every value counts."""
    rows, columns = _weights(values.shape[0], n_rows), _weights(values.shape[1], n_columns)
    return np.asarray(rows @ values @ columns.T, dtype=np.float32)


@lru_cache(maxsize=16)
def _weights(n_old: int, n_new: int) -> NDArray[np.float32]:
    """Triangular weights of old positions for each new one, shape (n_new, n_old)."""
    step = n_old / n_new
    centres = (np.arange(n_new) + 0.5) * step - 0.5
    reach = max(step, 1.0)

    distances = np.abs(np.arange(n_old)[None, :] - centres[:, None])
    weights = np.maximum(0.0, 1.0 - distances / reach)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)
