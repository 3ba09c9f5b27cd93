"""The report of an evaluation: what was measured, under which protocol, on how many tracks, how surely."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgenre.evaluation.metrics import Estimate
from musicgenre.models.pooling import Pooling

REPORT_FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class SeedScore:
    """Scores of one seed, its folds pooled so that each track counts once.

    Parameters
    ----------
    seed : int
        The seed.
    accuracy : Estimate
        Track-level accuracy with Wilson's interval.
    segment_accuracy, macro_f1 : float
        Share of segments that were right; unweighted mean of the classes' track-level F1.
    """

    seed: int
    accuracy: Estimate
    segment_accuracy: float
    macro_f1: float


@dataclass(frozen=True, slots=True)
class ClassScore:
    """Track-level scores of one label (or a mean over labels), averaged over seeds.

    Parameters
    ----------
    label : str
        The label, or ``macro`` or ``weighted``.
    precision, recall, f1 : float
        Within 0..1; 0 where undefined.
    support : float
        Number of tracks with this label in one seed's predictions, averaged over seeds.
    """

    label: str
    precision: float
    recall: float
    f1: float
    support: float


@dataclass(frozen=True, slots=True)
class Curve:
    """Learning curves of one run: column name to one value an epoch, None where not measured."""

    name: str
    columns: dict[str, list[float | None]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Report:
    """Everything an evaluation found. Build it with :func:`musicgenre.evaluation.evaluate.evaluate`.

    Parameters
    ----------
    name, recipe : str
        Name of the run's folder and of its recipe.
    systems : tuple of str
        Row codes of the systems the recipe rebuilds.
    protocol : str
        How the tracks were split.
    leaky : bool
        Whether the score is inflated by design or by tracks on both sides.
    warnings : tuple of str
        What a reader must know about the numbers, the gravest first.
    part : str
        ``test`` or ``validation``.
    how : str
        How the segments of a track scored together for the headline.
    labels : tuple of str
        The k labels.
    n_tracks, n_segments, n_folds : int
        Different tracks, segments of one seed, folds (1 when not k-fold).
    parameter_count : int or None
        Trainable parameters of the model.
    accuracy : Estimate
        The headline: track-level accuracy, mean over seeds.
    accuracy_sd : float or None
        Standard deviation over seeds; None for one seed.
    segment_accuracy : Estimate
        Accuracy of single segments; the interval's unit is the track all the same.
    accuracy_by_pooling : dict
        Track-level accuracy for each way in which segments can score together.
    majority_share : float
        What always answering the most frequent label would score.
    seeds : tuple of SeedScore
        One entry a seed.
    classes : tuple of ClassScore
        One entry a label.
    macro, weighted : ClassScore
        Means over labels: each the same, and each by its support.
    confusion : ndarray, shape (k, k)
        Rows are the truth, columns the answers; tracks, averaged over seeds.
    balance : dict
        Part of the manifest (``train``, ...) to label to number of rows; augmented rows under ``train (augmented)``.
    curves : tuple of Curve
        One entry a run.
    members : tuple of str
        Members of an ensemble, with how they answer together; empty for a single model.
    """

    name: str
    recipe: str
    systems: tuple[str, ...]
    protocol: str
    leaky: bool
    warnings: tuple[str, ...]
    part: str
    how: Pooling
    labels: tuple[str, ...]
    n_tracks: int
    n_segments: int
    n_folds: int
    parameter_count: int | None
    accuracy: Estimate
    accuracy_sd: float | None
    segment_accuracy: Estimate
    accuracy_by_pooling: dict[str, Estimate]
    majority_share: float
    seeds: tuple[SeedScore, ...]
    classes: tuple[ClassScore, ...]
    macro: ClassScore
    weighted: ClassScore
    confusion: NDArray[np.float64]
    balance: dict[str, dict[str, int]] = field(default_factory=dict)
    curves: tuple[Curve, ...] = ()
    members: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        plain = {name: getattr(self, name) for name in self.__slots__ if name != "confusion"}
        plain = {name: _plain(value) for name, value in plain.items()}
        return {"format_version": REPORT_FORMAT_VERSION, **plain, "confusion": np.round(self.confusion, 6).tolist()}

    def to_json(self) -> str:
        """JSON text, indented."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n"

    def to_text(self) -> str:
        """Plain text for the terminal."""
        return "\n".join([*_header(self), "", *_class_table(self), "", *_confusion_table(self)]) + "\n"

    @property
    def setting(self) -> str:
        """Say in one line what the numbers stand on: protocol, tracks, seeds, folds."""
        folds = f", {self.n_folds} folds pooled" if self.n_folds > 1 else ""
        leak = " (LEAKY)" if self.leaky else ""
        listed = ", ".join(str(entry.seed) for entry in self.seeds)
        seeds = f"{len(self.seeds)} seeds ({listed})" if len(self.seeds) > 1 else f"one seed ({listed})"
        return f"protocol {self.protocol}{leak}, {self.part} part, {self.n_tracks} tracks, {seeds}{folds}"

    def measures(self) -> tuple[tuple[str, Estimate], ...]:
        """Name and value of the headline, for the card of an exported model."""
        return (("track-level accuracy", self.accuracy),)

    @property
    def short(self) -> str:
        """The headline in one line."""
        return f"track-level accuracy {self.accuracy}"

    @property
    def has_segments(self) -> bool:
        """Whether tracks were heard in more than one segment."""
        return self.n_segments > self.n_tracks


def describe(estimate: Estimate) -> str:
    """Write an estimate with its interval and what the interval is."""
    return (
        f"{estimate.value:.3f} (95 % interval {estimate.low:.3f} to {estimate.high:.3f}, {estimate.method}, "
        f"{estimate.n_tracks} tracks)"
    )


def spread(report: Report) -> str:
    """Write mean and standard deviation over seeds, or say that there is one seed only."""
    if report.accuracy_sd is None:
        return "one seed: no spread known"
    return f"{report.accuracy.value:.3f} ± {report.accuracy_sd:.3f} (mean ± sd over {len(report.seeds)} seeds)"


def _header(report: Report) -> list[str]:
    title = report.recipe + (f" ({', '.join(report.systems)})" if report.systems else "")
    lines = [title, f"  {report.setting}"]
    lines += [f"  ! {warning}." for warning in report.warnings]
    lines += [
        "",
        f"  track-level accuracy    {describe(report.accuracy)}",
        f"  over seeds              {spread(report)}",
    ]
    if len(report.seeds) > 1:
        lines += [f"    seed {entry.seed:<16d} {describe(entry.accuracy)}" for entry in report.seeds]
    if report.has_segments:
        lines.append(f"  segment-level accuracy  {describe(report.segment_accuracy)}; {report.n_segments} segments")
        for how, estimate in report.accuracy_by_pooling.items():
            lines.append(f"  segments by {how:<11s} {describe(estimate)}")
    lines.append(f"  always the same answer  {report.majority_share:.3f}")
    if report.parameter_count is not None:
        lines.append(f"  parameters              {report.parameter_count:,d}")
    if report.members:
        lines.append(f"  members                 {', '.join(report.members)}")
    return lines


def _class_table(report: Report) -> list[str]:
    width = max(len("weighted"), *(len(label) for label in report.labels))
    lines = [f"  {'tracks':<{width}}  precision  recall      F1  support"]
    for entry in (*report.classes, report.macro, report.weighted):
        numbers = f"{entry.precision:9.3f}  {entry.recall:6.3f}  {entry.f1:6.3f}  {entry.support:7g}"
        lines.append(f"  {entry.label:<{width}}  {numbers}")
    return lines


def _confusion_table(report: Report) -> list[str]:
    averaged = f", averaged over {len(report.seeds)} seeds" if len(report.seeds) > 1 else ""
    width = max(len(label) for label in report.labels)
    cells = [[f"{value:.3g}" for value in row] for row in report.confusion.tolist()]
    column = max(5, *(len(cell) + 1 for row in cells for cell in row))
    heads = "".join(f"{label[: column - 1]:>{column}}" for label in report.labels)
    lines = [f"  confusion (rows: truth, columns: answers; tracks{averaged})", f"  {'':<{width}}{heads}"]
    for label, row in zip(report.labels, cells, strict=True):
        lines.append(f"  {label:<{width}}" + "".join(f"{cell:>{column}}" for cell in row))
    return lines


def _plain(value: Any) -> Any:
    if isinstance(value, Estimate | SeedScore | ClassScore | Curve):
        return asdict(value)
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return value
