"""Recurrent networks on MFCCs, time first (E4)."""

from __future__ import annotations

from torch import Tensor, nn

from musicgenre.models.network import Network
from musicgenre.models.registry import register


@register("lstm", tiny_shape=(12, 13))
def lstm(
    input_shape: tuple[int, ...], n_classes: int, *, hidden: int = 64, layers: int = 2, dropout: float = 0.3
) -> Network:
    """E4: two LSTM layers of 64, last step, linear 64, ReLU, dropout."""
    return _recurrent(nn.LSTM(input_shape[1], hidden, layers, batch_first=True), input_shape, n_classes, dropout)


@register("gru", tiny_shape=(12, 13))
def gru(
    input_shape: tuple[int, ...], n_classes: int, *, hidden: int = 64, layers: int = 2, dropout: float = 0.3
) -> Network:
    """E4: two GRU layers of 64, last step, linear 64, ReLU, dropout."""
    return _recurrent(nn.GRU(input_shape[1], hidden, layers, batch_first=True), input_shape, n_classes, dropout)


def _recurrent(net: nn.RNNBase, input_shape: tuple[int, ...], n_classes: int, dropout: float) -> Network:
    """Make a network that hears `net`'s last step."""
    width = net.hidden_size
    body = nn.Sequential(_LastStep(net), nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout))
    return Network(body, input_shape, n_classes)


class _LastStep(nn.Module):
    """Run a recurrent net over (batch, frames, values) and keep its last step, (batch, hidden)."""

    def __init__(self, net: nn.RNNBase) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        steps: Tensor = self.net(x)[0]  # (batch, frames, hidden)
        return steps[:, -1]
