"""The values that the audio room hands out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

Float32: TypeAlias = NDArray[np.float32]
Source: TypeAlias = str | os.PathLike[str] | BinaryIO

MAX_DURATION_S = 86_400.0
"""Longest track that is heard unless more is asked for, in seconds: 24 hours."""


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a file says about itself, before anything is decoded.

    Attributes
    ----------
    path : str
        The file's name in printable form; `<file object>` where it has none.
    format : str
        Container, in lower case: `wav`, `flac`, `mp3`, `ogg`, `mp4`, `matroska`, ...
    codec : str
        How the samples are stored, in lower case: `pcm_16`, `aac`, `opus`, ...
    sample_rate_hz : int
        The file's own sample rate.
    channels : int
        Number of channels.
    duration_s : float or None
        Length in seconds, None where the file does not tell. Containers that round their times or count
        codec padding may be off by a few hundredths of a second.
    """

    path: str
    format: str
    codec: str
    sample_rate_hz: int
    channels: int
    duration_s: float | None


@dataclass(frozen=True, slots=True)
class Sound:
    """Decoded sound.

    Attributes
    ----------
    waveform : ndarray of float32, shape (n_samples,)
        Mono samples, full scale is 1.
    sample_rate_hz : int
        Rate of `waveform`.
    duration_s : float or None
        Length in seconds of the whole source, not only of `waveform`; None where it is not known.
    warnings : tuple of str
        What was odd about the source, one clause each; empty when nothing was.
    """

    waveform: Float32
    sample_rate_hz: int
    duration_s: float | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Spans:
    """Pieces of one source.

    Attributes
    ----------
    waveforms : tuple of ndarray of float32, each of shape (n_samples,)
        One array a span, in the order asked for; shorter than asked (down to empty) where the source ends.
    sample_rate_hz : int
        Rate of the waveforms.
    duration_s : float or None
        Length in seconds of the whole source; None where it is not known.
    warnings : tuple of str
        What was odd about the source, one clause each.
    """

    waveforms: tuple[Float32, ...]
    sample_rate_hz: int
    duration_s: float | None
    warnings: tuple[str, ...] = ()
