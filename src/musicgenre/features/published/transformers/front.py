"""What stands in front of a hearing network, as torch layers: it trains, embeds and exports with the network.

Equal to what the transformers library's own processors compute in NumPy (`tests/test_transformers_hearing.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

_SMALLEST_VARIANCE = 1e-7  # as transformers' Wav2Vec2FeatureExtractor has it


class Scale(nn.Module):
    """Scale every waveform of a batch by itself, (batch, n_samples) to the same shape.

    Parameters
    ----------
    kind : {"none", "peak", "standard"}
        As decoded, loudest sample 1 or -1, or mean 0 and variance 1.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        """Scale the batch."""
        if self.kind == "peak":
            return x / x.abs().amax(dim=1, keepdim=True).clamp(min=_SMALLEST_VARIANCE)
        if self.kind == "standard":
            centred = x - x.mean(dim=1, keepdim=True)
            return centred / torch.sqrt((centred * centred).mean(dim=1, keepdim=True) + _SMALLEST_VARIANCE)
        return x


@dataclass(frozen=True, slots=True)
class Spectrum:
    """A log-mel spectrogram as a processor describes it.

    Parameters
    ----------
    frames : ndarray of float64, shape (window_length, window_length)
        What happens to a frame before the transform (mean taken off, pre-emphasis, window), as one matrix.
    n_fft, hop : int
        Samples.
    filters : ndarray, shape (n_fft // 2 + 1, n_mels)
        Mel filters for powers.
    center : bool
        Mirror half a window of sound at both ends.
    floor : float
        Smallest power.
    decibels : bool
        10 log10 in place of the natural logarithm.
    """

    frames: NDArray[np.float64]
    n_fft: int
    hop: int
    filters: NDArray[np.floating]
    center: bool
    floor: float
    decibels: bool


class LogMel(nn.Module):
    """A log-mel spectrogram; all that is linear in a frame is one convolution.

    Parameters
    ----------
    spectrum : Spectrum
        What to compute.
    """

    kernels: Tensor
    filters: Tensor

    def __init__(self, spectrum: Spectrum) -> None:
        super().__init__()
        self.spectrum = spectrum

        # Fourier transform and what happens to a frame before it, as one matrix: rows of cosines, then of sines.
        length = len(spectrum.frames)
        turns = np.outer(np.arange(spectrum.n_fft // 2 + 1), np.arange(length)) % spectrum.n_fft / spectrum.n_fft
        waves = np.concatenate([np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)]) @ spectrum.frames

        # Made anew with the network: nothing here is learnt, so nothing is stored.
        kernels = torch.tensor(waves[:, None, :], dtype=torch.float32)  # (2 * bins, 1, length)
        self.register_buffer("kernels", kernels, persistent=False)
        filters = torch.tensor(np.asarray(spectrum.filters), dtype=torch.float32)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, n_samples) to (batch, frames, n_mels)."""
        rows = x.unsqueeze(1)
        if self.spectrum.center:
            margin = self.kernels.shape[2] // 2
            rows = functional.pad(rows, (margin, margin), mode="reflect")

        waves = functional.conv1d(rows, self.kernels, stride=self.spectrum.hop)  # (batch, 2 * bins, frames)
        real, imaginary = waves.chunk(2, dim=1)
        power = (real * real + imaginary * imaginary).transpose(1, 2)  # (batch, frames, bins)

        logarithm = torch.log((power @ self.filters).clamp(min=self.spectrum.floor))
        return logarithm * (10.0 / float(np.log(10.0))) if self.spectrum.decibels else logarithm


class FitFrames(nn.Module):
    """Zeros behind a spectrogram up to `n_frames`, then mean and deviation of the processor.

    Parameters
    ----------
    n_frames : int
        Length the network was built for.
    mean, std : float
        Taken off, and divided by; 0 and 1 leave it as it is.
    """

    def __init__(self, n_frames: int, mean: float, std: float) -> None:
        super().__init__()
        self.n_frames, self.mean, self.std = n_frames, mean, std

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frames, n_mels) to (batch, n_frames, n_mels)."""
        padded = functional.pad(x, (0, 0, 0, self.n_frames - int(x.shape[1])))
        return (padded - self.mean) / self.std


class Repeat(nn.Module):
    """Bring a short waveform to `n_samples`.

    Parameters
    ----------
    n_samples : int
        Length the network was built for.
    kind : {"repeatpad", "repeat", "pad"}
        Repeat it as often as it fits whole and put zeros behind, repeat it and cut, or only put zeros behind.
    """

    def __init__(self, n_samples: int, kind: str) -> None:
        super().__init__()
        self.n_samples, self.kind = n_samples, kind

    def forward(self, x: Tensor) -> Tensor:
        """(batch, n) to (batch, n_samples)."""
        length = int(x.shape[1])
        times = 1
        if self.kind == "repeatpad":
            times = self.n_samples // length
        elif self.kind == "repeat":
            times = -(-self.n_samples // length)  # rounded up: what is too much is cut

        repeated = torch.cat([x] * times, dim=1)[:, : self.n_samples]
        return functional.pad(repeated, (0, self.n_samples - min(times * length, self.n_samples)))


def kaldi_frames(window: NDArray[np.float64], preemphasis: float) -> NDArray[np.float64]:
    """Take Kaldi's steps on a frame as one matrix: mean off, pre-emphasis (first sample by itself), window."""
    size = len(window)
    mean_off = np.eye(size) - 1.0 / size

    emphasis = np.eye(size) - preemphasis * np.eye(size, k=-1)
    emphasis[0, 0] = 1.0 - preemphasis
    return np.asarray(window[:, None] * (emphasis @ mean_off))
