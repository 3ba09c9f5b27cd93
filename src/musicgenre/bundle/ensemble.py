"""A bundle of several classifiers that answer together; each cuts tracks and computes features in its own way."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from musicgenre._numbers import log_probabilities, softmax
from musicgenre._onnx import ProtobufError, bytes_field, fields
from musicgenre.bundle._container import read_sealed
from musicgenre.bundle.card import BundleCard
from musicgenre.bundle.load import Bundle, bundle_of
from musicgenre.errors import BundleError, MissingExtraError


@dataclass(frozen=True, slots=True, eq=False)
class EnsembleBundle:
    """A loaded ensemble. Safe to share between threads.

    Parameters
    ----------
    card : BundleCard
        What it says, and how the members answer together.
    members : tuple of Bundle
        The classifiers.
    """

    card: BundleCard
    members: tuple[Bundle, ...]

    def probabilities(self, members: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mix what the members say.

        Parameters
        ----------
        members : ndarray, shape (n_models, n, n_labels)
            Probabilities of tracks or of segments, in the order of each member's own labels.

        Returns
        -------
        ndarray, shape (n, n_labels)
            Calibrated probabilities, in the order of the ensemble's labels.
        """
        aligned = [
            scores[:, [bundle.card.labels.index(label) for label in self.card.labels]]
            for bundle, scores in zip(self.members, members, strict=True)
        ]
        mixed = self.card.mix(np.stack(aligned))
        return mixed if self.card.temperature == 1.0 else softmax(log_probabilities(mixed) / self.card.temperature)


def load_ensemble(path: str | os.PathLike[str], *, threads: int | None = None) -> EnsembleBundle:
    """Load an ensemble.

    Parameters
    ----------
    path : path
        The ``.onnx`` file.
    threads : int, optional
        Rows that each member may run at a time; as many as there are cores by default.

    Raises
    ------
    BundleError
        When the file is missing, no ensemble, too new, or damaged.
    MissingExtraError
        When the front end of a member needs packages that are not installed.
    """
    content, card = read_sealed(Path(path))
    if card.kind != "ensemble":
        raise BundleError(f"{path} is no ensemble but one {card.kind}", next_step="Use musicgenre.bundle.load_bundle")
    members = (
        bundle_of(taken_out(content, n, str(path)), own, f"{own.name} in {path}", threads=threads, prefix=prefix_of(n))
        for n, own in enumerate(card.member_cards)
    )
    return EnsembleBundle(card, tuple(members))


"""Largest difference in probability between what an ensemble wrote down and what its members say now."""


_GRAPH_FIELD = 7  # ModelProto.graph
_NODE, _INITIALIZER, _INPUT, _OUTPUT, _VALUE_INFO = 1, 5, 11, 12, 13  # GraphProto
_NAME_IN = {_NODE: 2, _INITIALIZER: 8, _INPUT: 1, _OUTPUT: 1, _VALUE_INFO: 1}  # a node is known by its outputs


def prefix_of(number: int) -> str:
    """What stands before all names of one model in the joined graph."""
    return f"{number}/"


def join(models: Sequence[bytes]) -> bytes:
    """Put ONNX models side by side in one graph; the names of model ``n`` begin with ``n/``.

    Raises
    ------
    MissingExtraError
        ``onnx`` is not installed.
    """
    try:
        import onnx
        from onnx import compose
    except ModuleNotFoundError as error:
        raise MissingExtraError("exporting an ensemble", "train") from error
    parts = [compose.add_prefix(onnx.load_from_string(one), prefix_of(n)) for n, one in enumerate(models)]
    joined = parts[0]
    joined.graph.name = "ensemble"
    joined.ir_version = max(part.ir_version for part in parts)
    for part in parts[1:]:
        for name in ("node", "initializer", "input", "output", "value_info"):
            getattr(joined.graph, name).extend(getattr(part.graph, name))
    onnx.checker.check_model(joined, full_check=True)
    return bytes(joined.SerializeToString(deterministic=True))


def taken_out(model: bytes, number: int, where: str) -> bytes:
    """Take one model out of a joined graph; its names keep their prefix.

    Raises
    ------
    BundleError
        There is no such model in it.
    """
    prefix = prefix_of(number).encode()
    try:
        kept = [_part(value, prefix) if field == _GRAPH_FIELD else model[slice(*span)]
                for field, value, span in fields(model)]  # fmt: skip
    except ProtobufError as error:
        raise BundleError(f"{where} is damaged ({error})", next_step="Export it anew") from error
    return b"".join(kept)


def _part(graph: int | bytes, prefix: bytes) -> bytes:
    if isinstance(graph, int):
        raise ProtobufError("the graph is a number")
    kept = [
        graph[slice(*span)]
        for field, value, span in fields(graph)
        if field not in _NAME_IN or any(name.startswith(prefix) for name in _names(value, _NAME_IN[field]))
    ]
    if not any(field == _INPUT for field, _, _ in fields(b"".join(kept))):
        raise ProtobufError(f"it lacks the model {prefix.decode()}")
    return bytes_field(_GRAPH_FIELD, b"".join(kept))


def _names(message: int | bytes, field: int) -> Iterator[bytes]:
    if isinstance(message, bytes):
        yield from (value for number, value, _ in fields(message) if number == field and isinstance(value, bytes))
