"""An ensemble of runs as export sees it: its members' graphs side by side, and the mixture on its card."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgenre import __version__
from musicgenre.bundle._run_model import NOT_STATED, Float64, RunModel, Sound, scores_of, uncalibrated
from musicgenre.bundle.card import BundleCard
from musicgenre.bundle.ensemble import EnsembleBundle, join, load_ensemble
from musicgenre.errors import DataError, RunError
from musicgenre.evaluation._members import FITTED, aligned
from musicgenre.evaluation.bundle_calibration import RunCalibration, calibrate
from musicgenre.models.pooling import mixture_from_settings, pool_scores
from musicgenre.runs.runs import Run, open_run

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
        scores = [
            pool_scores(own, member.card.scoring)[None] for member, own in zip(self.members, segments, strict=True)
        ]
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
