"""What a model must show before it is deployed: that it can learn at all, and that it is good enough."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from musicgenre.bundle.versions import Version
from musicgenre.data.manifest import Manifest, Track
from musicgenre.errors import DataError, MusicgenreError, RunError
from musicgenre.evaluation.compare import LabelComparison, compare
from musicgenre.evaluation.evaluate import evaluate
from musicgenre.evaluation.report import LabelReport
from musicgenre.pipeline.file import GateSection, OverfitSection
from musicgenre.training.recipes import AugmentationSection, Recipe, StreamSection


class RefusedError(MusicgenreError):
    """A model that is not deployed, since a step of the pipeline says no."""


def set_to_learn(manifest: Manifest, tracks_a_label: int) -> Manifest:
    """A few training tracks of every label, each in all three parts: what is learnt is asked again.

    Parameters
    ----------
    manifest : Manifest
        With a split.
    tracks_a_label : int
        So many, the first by their ids.

    Raises
    ------
    DataError
        No track trains.
    """
    by_label: dict[str, list[Track]] = {}
    for track in sorted(manifest.tracks, key=lambda track: track.track_id):
        if track.split == "train" and not track.augmented:
            by_label.setdefault(track.label, []).append(track)
    if not by_label:
        raise DataError("no track of the manifest trains", next_step="Split it: see 'split' in docs/pipeline.md")

    rows = []
    for tracks in by_label.values():
        for track in tracks[:tracks_a_label]:
            rows.append(replace(track, source_id=""))
            for part in ("validation", "test"):
                rows.append(replace(track, track_id=f"{track.track_id}~{part}", split=part, source_id=""))
    return manifest.with_tracks(rows)


def recipe_to_learn(recipe: Recipe, wanted: OverfitSection) -> Recipe:
    """The same model without what keeps it from learning by heart: augmentation, and an early end."""
    training = recipe.training.model_copy(
        update={
            "epochs": wanted.epochs,
            "patience": None,
            "monitor": "validation_loss",
            "examples": "all",
            "stream": StreamSection(),
        }
    )
    return recipe.model_copy(update={"augmentation": AugmentationSection(), "training": training})


def check_learnt(run: Path, wanted: OverfitSection) -> dict[str, Any]:
    """Hold what a run says of the tracks it has learnt against what it must.

    Raises
    ------
    RefusedError
        It names too few of them.
    """
    report = _labels_of(run)
    accuracy = report.accuracy.value
    if accuracy < wanted.accuracy:
        raise RefusedError(
            f"after {wanted.epochs} epochs the model names {accuracy:.3f} of the {report.n_tracks} tracks that it was "
            "to learn by heart",
            valid=f"{wanted.accuracy:g} at least (overfit.accuracy)",
            next_step="Look at labels and features, or give it more epochs (overfit.epochs)",
        )
    return {"accuracy": accuracy, "n_tracks": report.n_tracks}


def check_gate(run: Path, wanted: GateSection, deployed: Version | None) -> dict[str, Any]:
    """Let a run pass whose accuracy is enough, and that is not worse than the deployed model.

    Worse: right on fewer of the tracks that stand in the test part of both, with a one-sided p of the paired test
    below the level. That p is half the two-sided one of `musicgenre compare`: McNemar's, exact.

    Raises
    ------
    RefusedError
        It does not pass, or cannot be compared.
    """
    report = _labels_of(run)
    accuracy = report.accuracy
    found: dict[str, Any] = {"accuracy": accuracy.value, "low": accuracy.low, "high": accuracy.high}
    found |= {"n_tracks": report.n_tracks, "against": ""}
    if accuracy.value < wanted.accuracy:
        raise RefusedError(f"the accuracy is {accuracy}", valid=f"{wanted.accuracy:g} at least (gate.accuracy)")
    if wanted.against == "nothing" or deployed is None:
        return found

    try:
        compared = compare(deployed.run, run)
    except RunError as error:
        raise RefusedError(
            f"the run cannot be compared with the deployed {deployed.name}: {error.problem}",
            valid=error.valid,
            next_step="Train on the same labels and split, or write 'against: nothing' under gate",
        ) from error
    assert isinstance(compared, LabelComparison), "a run of labels was evaluated above"

    p_value = compared.p_value / 2 if compared.difference < 0 else None
    found |= {
        "against": deployed.name,
        "n_shared_tracks": compared.n_tracks,
        "difference": compared.difference,
        "difference_low": compared.low,
        "difference_high": compared.high,
        "p_one_sided": p_value,
        "test": compared.test,
    }
    if p_value is not None and p_value < wanted.level:
        raise RefusedError(
            f"the run is worse than the deployed {deployed.name}: {compared.second_accuracy:.3f} against "
            f"{compared.first_accuracy:.3f} on the {compared.n_tracks} test tracks of both "
            f"(one-sided p = {p_value:.4f}, {compared.test})",
            valid=f"no fewer right, or a p of {wanted.level:g} and more (gate.level)",
        )
    return found


def _labels_of(run: Path) -> LabelReport:
    report = evaluate(run)
    if not isinstance(report, LabelReport):
        raise RunError(f"{run} names tags", valid="a recipe with task: single_label")
    return report
