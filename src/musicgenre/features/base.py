"""What every representation offers, and the small helpers they share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from musicgenre.errors import MissingExtraError, UsageError

Float32 = NDArray[np.float32]


@runtime_checkable
class Representation(Protocol):
    """A front end: mono sound in, one array of fixed shape out.

    Attributes
    ----------
    name : str
        The registered name.
    sample_rate_hz : int
        Rate of the waveform that :meth:`compute` reads.
    segment_s : float or None
        Length of the waveform that one array stands for; ``None``: any length, the whole track.
    row_axis : int or None
        Axis whose entries (bands, coefficients, columns) are normalised one by one; ``None``: all values together.

    Notes
    -----
    Those that use published weights have two things more: ``weight_cards``, names of the cards of these weights, and
    ``make_ready()``, which fetches them. Those that hear several waveforms at once offer ``compute_many(waveforms,
    threads=...)``, a list of arrays for a list of waveforms; preparation then decodes in threads ahead of it. Networks
    in torch offer ``load()``, which reads their weights into this process, and ``weights_sha256``.
    """

    name: str
    sample_rate_hz: int
    segment_s: float | None
    row_axis: int | None

    def shape(self) -> tuple[int, ...]:
        """Shape of what :meth:`compute` returns."""
        ...

    def compute(self, waveform: Float32) -> Float32:
        """Turn one segment, shape (n_samples,), into an array of :meth:`shape`."""
        ...

    def settings(self) -> dict[str, Any]:
        """All that decides the values: JSON, with ``name`` and ``version``; equal settings give equal arrays."""
        ...


def make_ready(representation: Representation) -> None:
    """Let a representation fetch what it needs (weights) here, once, not in every worker process."""
    fetch = getattr(representation, "make_ready", None)
    if fetch is not None:
        fetch()


def runs_network(representation: Representation) -> bool:
    """Whether a representation, or a part of it, is a network with weights to fetch."""
    parts = getattr(representation, "parts", ())
    if parts:
        return any(runs_network(part.representation) for part in parts)
    return hasattr(representation, "make_ready")


def fit_length(waveform: Float32, n_samples: int) -> Float32:
    """Cut ``waveform`` to ``n_samples`` or pad it with zeros at its end.

    Raises
    ------
    UsageError
        If it is not one-dimensional.
    """
    sound = np.ascontiguousarray(waveform, dtype=np.float32)
    if sound.ndim != 1:
        raise UsageError(f"the waveform has shape {sound.shape}", valid="A mono waveform has shape (n_samples,)")
    if len(sound) >= n_samples:
        return sound[:n_samples]
    return np.pad(sound, (0, n_samples - len(sound)))


@contextmanager
def needing(what: str, extra: str) -> Iterator[None]:
    """Turn an absent third-party package, imported in the block, into a `MissingExtraError`."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "musicgenre":
            raise
        raise MissingExtraError(what, extra) from error
