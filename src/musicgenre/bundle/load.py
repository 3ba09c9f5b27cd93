"""Load a bundle and run it. Needs onnxruntime and NumPy, nothing else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from musicgenre.bundle._container import read_sealed
from musicgenre.bundle.card import BundleCard
from musicgenre.errors import BundleError, MissingExtraError, UsageError

if TYPE_CHECKING:
    import onnxruntime

Float32 = NDArray[np.float32]


class Bundle:
    """A loaded model. Safe to share between threads.

    Parameters
    ----------
    card : BundleCard
        What the model hears and says.
    session : onnxruntime.InferenceSession
        The graph, ready to run.
    """

    def __init__(self, card: BundleCard, session: onnxruntime.InferenceSession) -> None:
        self.card = card
        self._session = session
        self._outputs = [output.name for output in session.get_outputs()]
        self._has_padding = "padding" in {entry.name for entry in session.get_overridable_initializers()}

    def run(self, rows: NDArray[np.floating]) -> dict[str, Float32]:
        """Run the model on segments.

        Parameters
        ----------
        rows : ndarray, shape (n_rows, card.segment_samples)
            One segment of sound a row, at ``card.sample_rate_hz``, cut as the card says.

        Returns
        -------
        dict of str to float32 ndarray
            ``tags`` and ``embedding``, or ``logits``; each of shape (n_rows, width).

        Raises
        ------
        UsageError
            When the rows have another shape.
        """
        if rows.ndim != 2 or rows.shape[1] != self.card.segment_samples or len(rows) == 0:
            raise UsageError(
                f"rows of shape {rows.shape} do not fit {self.card.name}",
                valid=f"(n, {self.card.segment_samples}), n at least 1",
            )
        feeds = {"waveform": np.ascontiguousarray(rows, dtype=np.float32)}
        if self._has_padding:
            feeds["padding"] = np.zeros((), dtype=np.int64)
        results = self._session.run(self._outputs, feeds)
        return dict(zip(self._outputs, results, strict=True))


def read_card(path: str | os.PathLike[str]) -> BundleCard:
    """Read and check a bundle's card without loading the model.

    Raises
    ------
    BundleError
        When the file is missing, not a bundle, too new, or damaged.
    """
    return read_sealed(Path(path))[1]


def load_bundle(path: str | os.PathLike[str], *, threads: int | None = None) -> Bundle:
    """Load a bundle.

    Parameters
    ----------
    path : path
        The ``.onnx`` file.
    threads : int, optional
        Threads one :meth:`Bundle.run` may use; all cores by default.

    Raises
    ------
    BundleError
        When the file is missing, not a bundle, too new, or damaged.
    MissingExtraError
        When the bundle's front end needs packages that are not installed.
    """
    content, card = read_sealed(Path(path))
    if card.extra:
        _require_extra(card)
    import onnxruntime

    # The C++ errors of onnxruntime share no base but Exception's children listed in its own module.
    from onnxruntime.capi import onnxruntime_pybind11_state as states

    failures = (
        states.Fail,
        states.InvalidGraph,
        states.InvalidProtobuf,
        states.InvalidArgument,
        states.NotImplemented,
    )
    options = _session_options(threads)
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except failures as error:
        reason = str(error).splitlines()[0]
        raise BundleError(f"onnxruntime {onnxruntime.__version__} cannot load {path} ({reason})") from error
    return Bundle(card, session)


def _session_options(threads: int | None) -> onnxruntime.SessionOptions:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    return options


def _require_extra(card: BundleCard) -> None:
    from importlib.util import find_spec

    needed = {"features": ("librosa", "scipy"), "train": ("torch",), "plot": ("matplotlib",)}.get(card.extra, ())
    if any(find_spec(name) is None for name in needed):
        raise MissingExtraError(f"the bundle {card.name}", card.extra)
