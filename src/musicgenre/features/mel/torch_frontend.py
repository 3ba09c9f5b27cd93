"""The mel front end as a torch module, the Fourier transform as a convolution, which every exporter knows."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from musicgenre.features.mel import reference
from musicgenre.features.mel.specification import MelSpec


class MelFrontEnd(nn.Module):
    """Waveform to mel spectrogram or MFCCs, agreeing with :mod:`musicgenre.features.mel.reference`.

    Parameters
    ----------
    spec : MelSpec
        What to compute.
    frames_first : bool
        Give (batch, n_frames, rows), as the representation ``mfcc`` does, in place of (batch, rows, n_frames).
    """

    kernels: Tensor
    filters: Tensor
    cosines: Tensor

    def __init__(self, spec: MelSpec, *, frames_first: bool = False) -> None:
        super().__init__()
        self.spec = spec
        self.frames_first = frames_first
        filters = reference.mel_filters(spec)
        used = np.flatnonzero(filters.any(axis=0))
        bins = np.arange(used[0], used[-1] + 1) if len(used) else np.arange(1)
        angles = 2.0 * np.pi / spec.n_fft * (np.outer(bins, np.arange(spec.n_fft)) % spec.n_fft)
        waves = np.concatenate([np.cos(angles), np.sin(angles)]) * reference.hann_window(spec)
        self.register_buffer("kernels", _tensor(waves[:, None, :]), persistent=False)  # (2 n_bins, 1, n_fft)
        self.register_buffer("filters", _tensor(filters[:, bins]), persistent=False)  # (n_mels, n_bins)
        cosines = reference.dct_matrix(spec.n_rows, spec.n_mels)
        self.register_buffer("cosines", _tensor(cosines), persistent=False)  # (n_mfcc, n_mels)

    def forward(self, waveform: Tensor) -> Tensor:
        """Map (batch, n_samples) to (batch, rows, n_frames)."""
        x = waveform[:, None, :]  # (batch, 1, n_samples)
        if any(self.spec.padding):
            x = nn.functional.pad(x, self.spec.padding, mode=self.spec.pad_mode if self.spec.center else "constant")
        parts = nn.functional.conv1d(x, self.kernels, stride=self.spec.hop_length)  # (batch, 2 n_bins, n_frames)
        real, imaginary = parts.chunk(2, dim=1)
        power = real * real + imaginary * imaginary
        if self.spec.power != 2.0:
            power = power.sqrt() if self.spec.power == 1.0 else power.pow(self.spec.power / 2.0)
        rows = self._scaled(torch.matmul(self.filters, power))  # (batch, n_mels, n_frames)
        if self.spec.n_mfcc is not None:
            rows = torch.matmul(self.cosines, rows)  # (batch, n_mfcc, n_frames)
        return rows.transpose(1, 2) if self.frames_first else rows

    def _scaled(self, mel: Tensor) -> Tensor:
        spec = self.spec
        if spec.scaling == "power":
            return mel
        if spec.scaling == "log_offset":
            return torch.log(mel + spec.log_offset)
        if spec.scaling == "log10_1p":
            return torch.log(1.0 + mel * spec.log_multiplier) / math.log(10.0)
        decibels = 10.0 / math.log(10.0) * torch.log(mel.clamp(min=spec.amin))
        if spec.top_db is None:
            return decibels
        return torch.maximum(decibels, decibels.amax(dim=(1, 2), keepdim=True) - spec.top_db)


def _tensor(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
