"""A bundle of several classifiers that answer together; each cuts tracks and computes features in its own way."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgenre import __version__
from musicgenre._onnx import ProtobufError, bytes_field, fields
from musicgenre.bundle._container import read_sealed
from musicgenre.bundle.card import BundleCard
from musicgenre.bundle.export import NOT_STATED, Float64, RunModel, Sound, scores_of, uncalibrated
from musicgenre.bundle.load import Bundle, bundle_of
from musicgenre.errors import BundleError, DataError, MissingExtraError, RunError
from musicgenre.evaluation._members import FITTED, aligned
from musicgenre.evaluation.bundle_calibration import RunCalibration, calibrate
from musicgenre.models.discriminant import logits_of, softmax
from musicgenre.models.pooling import mixture_from_settings, pooled
from musicgenre.runs.runs import Run, open_run


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
        return mixed if self.card.temperature == 1.0 else softmax(logits_of(mixed) / self.card.temperature)


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


_CHANGED = 1e-4
"""Largest difference in probability between what an ensemble wrote down and what its members say now."""


@dataclass(frozen=True, slots=True, eq=False)
class EnsembleModel:
    """One ensemble, ready for export.

    Parameters
    ----------
    members : tuple of RunModel
        Its runs.
    card : BundleCard
        Its card, those of the members inside.
    """

    members: tuple[RunModel, ...]
    card: BundleCard

    @classmethod
    def of_run(cls, run: Run, *, licence: str = "", citation: str = "") -> EnsembleModel:
        """Open the members of an ensemble.

        Raises
        ------
        RunError
            A member is gone, was trained anew, or is an ensemble itself.
        """
        runs = [_open_member(run, number, member) for number, member in enumerate(run.info["ensemble"]["members"])]
        _check_unchanged(run, runs)
        members = tuple(RunModel.of_run(one, licence=licence, citation=citation) for one in runs)
        return cls(members, _card(run, members, licence=licence, citation=citation))

    def graph(self) -> bytes:
        """Write the members as one ONNX model."""
        return join([member.graph() for member in self.members])

    def segments_of(self, path: Path) -> Sound:
        """Cut the first segments out of a track, once for each member."""
        return [rows for member in self.members for rows in member.segments_of(path)]

    def noise(self, n_rows: int, seed: int) -> Sound:
        """Make segments of noise for each member."""
        return [rows for member in self.members for rows in member.noise(n_rows, seed)]

    def difference(self, trial: Path, sounds: Sequence[Sound]) -> float:
        """Largest difference in probability between a bundle and the models as training computed them.

        Both the members' segments and the ensemble's answer to all of them together are compared.
        """
        bundle = load_ensemble(trial, threads=1)
        plain = EnsembleBundle(replace(bundle.card, temperature=1.0), bundle.members)
        return max(self._difference(plain, sound) for sound in sounds)

    def _difference(self, bundle: EnsembleBundle, sound: Sound) -> float:
        says = [uncalibrated(member, rows) for member, rows in zip(bundle.members, sound, strict=True)]
        said = [member.said(rows) for member, rows in zip(self.members, sound, strict=True)]
        alone = max(float(np.abs(one - other).max()) for one, other in zip(says, said, strict=True))
        return max(alone, float(np.abs(self._together(bundle, says) - self._together(bundle, said)).max()))

    def _together(self, bundle: EnsembleBundle, segments: Sequence[Float64]) -> Float64:
        scores = [pooled(own, member.card.scoring)[None] for member, own in zip(self.members, segments, strict=True)]
        return bundle.probabilities(np.stack(scores))


def _open_member(ensemble: Run, number: int, member: dict[str, Any]) -> Run:
    folder = Path(os.path.normpath(ensemble.folder / member["folder"]))
    if not (folder / "run.json").is_file():
        raise RunError(
            f"{folder}, run {number + 1} of the ensemble {ensemble.folder}, is not there",
            valid="The runs of an ensemble where they were when it was made",
            next_step="Put it back, or make the ensemble again",
        )
    run = open_run(folder)
    if "ensemble" in run.info:
        raise RunError(
            f"{folder}, a member of {ensemble.folder}, is an ensemble itself",
            valid="An ensemble of runs that training left behind",
            next_step="Make one ensemble of all those runs, and export that",
        )
    return run


def _check_unchanged(ensemble: Run, runs: Sequence[Run]) -> None:
    """Refuse members that do not say what the ensemble was made of, or a mixture that was not kept."""
    made, test = ensemble.info["ensemble"], ensemble.predictions("test")
    if not {"weights", "coefficients"} & made.keys() or made.get("weights") == []:
        raise RunError(
            f"{ensemble.folder} does not say how its runs answer together", next_step="Make the ensemble again"
        )
    members: NDArray[np.float64] = np.stack([part.scores for part in aligned(runs, "test")])
    try:
        mixed = mixture_from_settings(made, len(runs), len(ensemble.labels))(members)
    except DataError as error:
        raise RunError(
            f"{ensemble.folder / 'run.json'} is damaged ({error.problem})", next_step="Make the ensemble again"
        ) from error
    if mixed.shape != test.scores.shape or np.abs(mixed - test.scores).max() > _CHANGED:
        raise RunError(
            f"the runs of {ensemble.folder} do not answer as they did when it was made",
            valid="Runs that were not trained anew since",
            next_step="Make the ensemble again",
        )


def _card(run: Run, members: Sequence[RunModel], *, licence: str, citation: str) -> BundleCard:
    cards = [replace(member.card, temperature=1.0, unsure_threshold=0.0, scores=()) for member in members]
    slowest = max(cards, key=lambda card: card.hop_samples / card.sample_rate_hz)
    how = run.info["ensemble"]["how"]
    calibration = _calibration(run, how)
    weights = {weight["name"]: weight for card in cards for weight in card.weights}
    made_of = ", ".join(f"{card.name} (seed {member.run.seed})" for card, member in zip(cards, members, strict=True))
    return BundleCard(
        name=run.recipe,
        kind="ensemble",
        labels=run.labels,
        sample_rate_hz=slowest.sample_rate_hz,
        segment_samples=slowest.segment_samples,
        hop_samples=slowest.hop_samples,
        temperature=calibration.temperature,
        unsure_threshold=calibration.unsure_threshold,
        licence=licence or NOT_STATED,
        citation=citation,
        origin=f"ensemble ({how}) by musicgenre {__version__} of {made_of}",
        scores=scores_of(run),
        weights=tuple(weights.values()),
        members=tuple(card.as_values() for card in cards),
        mixture=_mixture(run),
        notes=f"{calibration.note}.",
        extra=", ".join(dict.fromkeys(card.extra for card in cards if card.extra)),
    )


def _mixture(run: Run) -> dict[str, Any]:
    made = run.info["ensemble"]
    names = ("coefficients", "intercepts") if "coefficients" in made else ("weights",)
    return {name: made[name] for name in names}


def _calibration(run: Run, how: str) -> RunCalibration:
    if how in FITTED:
        return RunCalibration(note="Confidence is not calibrated: the validation part fitted how the runs are mixed")
    return calibrate(run)


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
