"""A8's proposal: the classical features of the table joined to the linear layers of A5's network.

The input is one flat vector, the spectrogram's values followed by the table's (the representation ``joined``).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from musicgenre.errors import UsageError
from musicgenre.models._network import Network
from musicgenre.models.cnn2d import mel_cnn_convolutions
from musicgenre.models.registry import register


class _JoinedBody(nn.Module):
    """Convolutions on the first values, the rest passed by, both through one linear layer."""

    def __init__(self, picture_shape: tuple[int, int], n_columns: int, width: int, dropout: float) -> None:
        super().__init__()
        self.picture_shape = picture_shape
        self.convolutions = nn.Sequential(*mel_cnn_convolutions())
        flat = 64 * (picture_shape[0] // 4) * (picture_shape[1] // 4)
        self.linear = nn.Sequential(nn.Linear(flat + n_columns, width), nn.ReLU(), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        size = math.prod(self.picture_shape)
        picture = x[:, :size].reshape(-1, *self.picture_shape)  # (batch, bands, frames)
        joined = torch.cat([self.convolutions(picture), x[:, size:]], dim=1)
        features: Tensor = self.linear(joined)
        return features


@register("mel-cnn-table", tiny_shape=(128 * 8 + 57,))
def mel_cnn_table(
    input_shape: tuple[int, ...],
    n_classes: int,
    *,
    n_columns: int = 57,
    bands: int = 128,
    width: int = 128,
    dropout: float = 0.5,
) -> Network:
    """A8: A5's convolutions with ``n_columns`` further values joined in front of its linear layers."""
    size = input_shape[0] - n_columns
    if size < 4 * bands or size % bands:
        raise UsageError(
            f"{input_shape[0]} values are not {bands} bands of a spectrogram and {n_columns} columns",
            valid="bands * frames + n_columns values",
        )
    body = _JoinedBody((bands, size // bands), n_columns, width, dropout)
    return Network(body, input_shape, n_classes)
