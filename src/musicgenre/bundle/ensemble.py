"""A bundle of several classifiers that answer together; each cuts tracks and computes features in its own way."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from musicgenre._numbers import log_probabilities, softmax
from musicgenre._protobuf import ProtobufError, bytes_field, fields
from musicgenre.bundle.card import BundleCard
from musicgenre.bundle.container import GRAPH_FIELD, MOST_MODEL_MB
from musicgenre.bundle.load import Bundle, BundleFile, bundle_of, open_bundle
from musicgenre.errors import BundleError, needing

# Fields of GraphProto, and where each keeps the name it is known by (a node: the names of its outputs).
_NODE, _INITIALIZER, _INPUT, _OUTPUT, _VALUE_INFO = 1, 5, 11, 12, 13
_NAME_IN = {_NODE: 2, _INITIALIZER: 8, _INPUT: 1, _OUTPUT: 1, _VALUE_INFO: 1}


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
        aligned = []
        for bundle, scores in zip(self.members, members, strict=True):
            columns = [bundle.card.labels.index(label) for label in self.card.labels]
            aligned.append(scores[:, columns])

        mixed = self.card.mix(np.stack(aligned))
        if self.card.temperature == 1.0:
            return mixed  # not through logarithms, which would cut off what is nearly zero
        return softmax(log_probabilities(mixed) / self.card.temperature)


def load_ensemble(
    source: str | os.PathLike[str] | BundleFile, *, threads: int | None = None, max_model_mb: int = MOST_MODEL_MB
) -> EnsembleBundle:
    """Load an ensemble.

    Parameters
    ----------
    source : path or BundleFile
        The `.onnx` file, or what `musicgenre.bundle.load.open_bundle` gave.
    threads : int, optional
        Rows that each member may run at a time; as many as there are cores by default.
    max_model_mb : int
        How large the file may be, and how much memory its members may need together, in millions of bytes.

    Raises
    ------
    BundleError
        When the file is missing, no ensemble, too new, or damaged.
    MissingExtraError
        When the front end of a member needs packages that are not installed.
    """
    file = open_bundle(source, max_model_mb=max_model_mb)
    if file.card.kind != "ensemble":
        raise BundleError(
            f"{file.path} is no ensemble but one {file.card.kind}", next_step="Use musicgenre.bundle.load_bundle"
        )

    members = []
    cards = file.card.member_cards
    for number, card in enumerate(cards):
        model = taken_out(file.content, number, str(file.path))
        where = f"{card.name} in {file.path}"
        share_mb = max_model_mb // len(cards)
        members.append(bundle_of(model, card, where, threads=threads, max_model_mb=share_mb, prefix=prefix_of(number)))
    return EnsembleBundle(file.card, tuple(members))


def prefix_of(number: int) -> str:
    """What stands before all names of one model in the joined graph."""
    return f"{number}/"


def join(models: Sequence[bytes]) -> bytes:
    """Put ONNX models side by side in one graph; the names of model `n` begin with `n/`.

    Raises
    ------
    MissingExtraError
        `onnx` is not installed.
    """
    with needing("exporting an ensemble", "train"):
        import onnx
        from onnx import compose

    parts = []
    for number, model in enumerate(models):
        parts.append(compose.add_prefix(onnx.load_from_string(model), prefix_of(number)))

    # With prefixes no two names clash: the parts of the graphs stand side by side in the first.
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
    kept = []
    try:
        for field, value, (start, end) in fields(model):
            if field == GRAPH_FIELD:
                kept.append(bytes_field(GRAPH_FIELD, _part(value, prefix_of(number).encode())))
            else:
                kept.append(model[start:end])
    except ProtobufError as error:
        raise BundleError(f"{where} is damaged ({error})", next_step="Export it anew") from error
    return b"".join(kept)


def _part(graph: int | bytes, prefix: bytes) -> bytes:
    """Keep of a graph what belongs to the model whose names begin so."""
    if isinstance(graph, int):
        raise ProtobufError("the graph is a number")

    kept = []
    has_input = False
    for field, value, (start, end) in fields(graph):
        if field in _NAME_IN:
            message = value if isinstance(value, bytes) else b""
            names = [part for number, part, _ in fields(message) if number == _NAME_IN[field]]
            if not any(isinstance(name, bytes) and name.startswith(prefix) for name in names):
                continue

        kept.append(graph[start:end])
        has_input = has_input or field == _INPUT
    if not has_input:
        raise ProtobufError(f"it lacks the model {prefix.decode()}")
    return b"".join(kept)
