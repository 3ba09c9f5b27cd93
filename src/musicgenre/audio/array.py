"""Samples that are in memory already."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from musicgenre.audio._mix import Tally
from musicgenre.audio._resample import Resampler, checked_rate
from musicgenre.audio.sound import Float32, Sound
from musicgenre.errors import AudioError

# More columns than this are samples in the wrong direction, not channels.
_MAX_CHANNELS = 64


def from_array(array: ArrayLike, array_rate_hz: int, sample_rate_hz: int) -> Sound:
    """Mix samples in memory down to mono float32 and resample them.

    Parameters
    ----------
    array : array-like, shape (n_samples,) or (n_samples, n_channels)
        Floats with full scale 1, or integers with the full scale of their type.
    array_rate_hz : int
        The array's own sample rate, 1000 to 768000.
    sample_rate_hz : int
        Rate of the result, 1000 to 768000.

    Returns
    -------
    Sound
        A copy, never a view of ``array``.

    Raises
    ------
    AudioError
        When the array has no samples, not one valid sample, the wrong shape or a type that is no sound.
    """
    from_hz = checked_rate(array_rate_hz, "array_rate_hz")
    to_hz = checked_rate(sample_rate_hz, "sample_rate_hz")
    tally = Tally()
    mono = tally.take(_as_columns(np.asarray(array)))
    if tally.nothing_valid:
        raise AudioError(
            "the array holds only NaN or infinite samples", valid="Numbers", next_step="Check where it comes from"
        )
    waveform = Resampler(from_hz, to_hz).push(mono, last=True)
    if not len(waveform):
        raise AudioError(
            f"the array holds no sound: {len(mono)} samples at {from_hz} Hz",
            valid="At least one sample at the wanted rate",
            next_step="Check where it comes from",
        )
    return Sound(waveform, to_hz, len(mono) / from_hz, tuple(tally.notes()))


def _as_columns(array: NDArray[np.generic]) -> Float32:
    """Check the shape and scale to float32: (n, channels), always a copy."""
    valid = f"(n_samples,) or (n_samples, n_channels) with 1 to {_MAX_CHANNELS} channels"
    if array.ndim not in (1, 2):
        raise AudioError(f"an array of shape {array.shape} is no sound", valid=valid, next_step="Reshape it")
    columns = array[:, np.newaxis] if array.ndim == 1 else array
    channels = columns.shape[1]
    if not 1 <= channels <= _MAX_CHANNELS:
        raise AudioError(
            f"an array of shape {array.shape} has {channels} channels",
            valid=valid,
            next_step="Pass array.T if the channels come first",
        )
    kind = array.dtype.kind
    if kind == "f":
        with np.errstate(over="ignore"):  # what becomes infinite is counted by Tally
            return columns.astype(np.float32)
    if kind in "iu":
        half = 2.0 ** (8 * array.dtype.itemsize - 1)
        shift = half if kind == "u" else 0.0
        return ((columns.astype(np.float64) - shift) / half).astype(np.float32)
    raise AudioError(
        f"an array of {array.dtype} is no sound", valid="Floats or integers", next_step="Convert it to float32"
    )
