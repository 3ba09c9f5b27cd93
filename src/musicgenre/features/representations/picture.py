"""Spectrograms as colour pictures, for networks that were made to look at photographs.

Either drawn from the sound (a log-mel spectrogram, low notes at the bottom, dark violet for quiet to yellow for loud)
or read from PNG files with their border cropped away.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgenre._text import unknown_name
from musicgenre.errors import DataError, UsageError, needing
from musicgenre.features.base import Float32, Representation, check_size, fit_length, segment_samples
from musicgenre.features.mel.specification import MelSpec
from musicgenre.features.registry import register
from musicgenre.features.representations.melspectrogram import fast_melspectrogram

SOURCES = ("waveform", "file")
SPEC = MelSpec(sample_rate_hz=22_050, n_fft=2_048, hop_length=512, n_mels=128, top_db=80.0)

# From quiet to loud: even steps in lightness, told apart by colour-blind eyes and on paper.
COLOURS = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))

_HALF_BYTE = 127.5  # half the range of a colour: takes 0 to 255 to -1 to 1


@register("picture")
class Picture(Representation):
    """Picture of a spectrogram, values in [-1, 1], shape (3, size, size), or (size, size, 3).

    Parameters
    ----------
    source : {"waveform", "file"}
        Draw from the sound, or read the picture file that the manifest's `path` names.
    crop : (left, top, right, bottom), optional
        For files: what to keep, in pixels from the upper left corner; everything by default. The pictures of
        `gtzan-spectrogram-png` have a white border: (10, 9, 506, 379).
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
        crop: Sequence[int] | None = None,
        size: int = 224,
        segment_s: float | None = 30.0,
        channels_first: bool = True,
    ) -> None:
        if source not in SOURCES:
            raise unknown_name("source of pictures", str(source), SOURCES)
        if size < 1 or (source == "waveform" and (segment_s is None or segment_s <= 0)):
            raise UsageError(f"size={size}, segment_s={segment_s}: both must be positive")
        if crop is not None and (len(crop) != 4 or not (0 <= crop[0] < crop[2] and 0 <= crop[1] < crop[3])):
            raise UsageError(
                f"crop={list(crop)} is no box", valid="left, top, right, bottom in pixels, left < right ..."
            )

        if source == "waveform" and segment_s is not None:
            n_frames = SPEC.n_frames(segment_samples(self.sample_rate_hz, segment_s))
            check_size("the scaling of a picture", size * n_frames)

        self.crop: tuple[int, int, int, int] | None = None
        if crop is not None:
            self.crop = (crop[0], crop[1], crop[2], crop[3])
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
        with needing("reading pictures", "plot"):
            from PIL import Image

        try:
            with Image.open(path) as opened:
                picture = opened.convert("RGB")
        except (OSError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
            raise DataError(f"{path} cannot be read as a picture ({error})", valid="PNG, JPEG, ...") from error

        if self.crop is not None:
            # Beyond its edge Pillow would fill in black.
            if self.crop[2] > picture.width or self.crop[3] > picture.height:
                raise DataError(
                    f"{path} is {picture.width} x {picture.height} pixels", valid=f"The crop is {list(self.crop)}"
                )
            picture = picture.crop(self.crop)

        resized = picture.resize((self.size, self.size), Image.Resampling.BILINEAR)
        return self._in_order(np.asarray(resized, dtype=np.float32) / np.float32(_HALF_BYTE) - np.float32(1.0))

    def settings(self) -> dict[str, Any]:
        """Return every option, under its own name."""
        return super().settings() | {
            "source": self.reads,
            "crop": None if self.crop is None else list(self.crop),
            "size": self.size,
            "segment_s": self.segment_s,
            "channels_first": self.channels_first,
        }

    def _in_order(self, picture: Float32) -> Float32:
        """Put the axes of a picture, (size, size, 3), in the order that was asked for."""
        if self.channels_first:
            picture = picture.transpose(2, 0, 1)
        return np.ascontiguousarray(picture)


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
