"""The report of an evaluation: what was measured, under which protocol, on how many tracks, how surely.

`Report` holds what both tasks share. A `LabelReport` adds accuracy, classes and confusion; a `TagReport` the areas
under both curves, tag by tag and on the mean, decisions, and what to hold them against.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgenre._json import pretty_json
from musicgenre._text import how_many
from musicgenre.evaluation.metrics import Estimate
from musicgenre.models.pooling import Pooling
from musicgenre.runs.predictions import n_top_tags

FORMAT_VERSION = 1

_NARROWEST_NAME = 22
"""Width of the column of names above the tables; longer names make it wider."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Learning curves of one run.

    Parameters
    ----------
    name : str
        Seed and fold.
    columns : dict
        Column name to one value an epoch, None where not measured.
    best_epoch : int or None
        Number of the epoch, from 0, whose weights were kept; None where there is none to choose.
    """

    name: str
    columns: dict[str, list[float | None]]
    best_epoch: int | None = None

    @property
    def is_line(self) -> bool:
        """Whether there are two epochs to draw a line between; a classical model is fitted at once."""
        return any(len(values) > 1 for values in self.columns.values())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Report(ABC):
    """Everything an evaluation found. Build it with `musicgenre.evaluation.evaluate.evaluate`.

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
        `test` or `validation`.
    pooling : str
        How the segments of a track scored together for the headline; `how` in JSON.
    n_tracks, n_segments, n_folds : int
        Different tracks, segments of one seed, folds (1 when not k-fold).
    parameter_count : int or None
        Parameters of the model.
    curves : tuple of Curve
        Learning curves, one entry per run.
    continued : tuple of str
        How runs were given more epochs after they were finished, in words.
    """

    name: str
    recipe: str
    systems: tuple[str, ...]
    protocol: str
    leaky: bool
    warnings: tuple[str, ...]
    part: str
    pooling: Pooling
    n_tracks: int
    n_segments: int
    n_folds: int
    parameter_count: int | None
    curves: tuple[Curve, ...] = ()
    continued: tuple[str, ...] = ()

    @property
    @abstractmethod
    def seed_numbers(self) -> tuple[int, ...]:
        """The seeds."""

    @property
    def unit(self) -> str:
        """What scores are averaged over, where there are several."""
        return "seed"

    @property
    @abstractmethod
    def short(self) -> str:
        """The headline in one line."""

    @abstractmethod
    def measures(self) -> tuple[tuple[str, Estimate], ...]:
        """Name and value of the headline, for the card of an exported model."""

    @abstractmethod
    def columns(self) -> tuple[tuple[str, Estimate], ...]:
        """Name and value of what stands side by side where several reports are listed."""

    @abstractmethod
    def headline(self) -> list[tuple[str, str]]:
        """Name and words of every figure above the tables."""

    @abstractmethod
    def tables(self) -> list[list[str]]:
        """Tables for the terminal, as lines."""

    @property
    def title(self) -> str:
        """Recipe, and the systems it rebuilds."""
        return self.recipe + (f" ({', '.join(self.systems)})" if self.systems else "")

    @property
    def setting(self) -> str:
        """Say in one line what the numbers stand on: protocol, tracks, seeds, folds."""
        leak = " (LEAKY)" if self.leaky else ""
        listed = ", ".join(map(str, self.seed_numbers))
        n_seeds = len(self.seed_numbers)
        seeds = f"{n_seeds} seeds ({listed})" if n_seeds > 1 else f"one seed ({listed})"
        folds = f", {self.n_folds} folds pooled" if self.n_folds > 1 else ""
        return f"protocol {self.protocol}{leak}, {self.part} part, {how_many(self.n_tracks, 'track')}, {seeds}{folds}"

    @property
    def has_segments(self) -> bool:
        """Whether tracks were heard in more than one segment."""
        return self.n_segments > self.n_tracks

    def as_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        plain = {entry.name: _plain(getattr(self, entry.name)) for entry in fields(self)}
        plain["how"] = plain.pop("pooling")  # reports have always called it so
        return {"format_version": FORMAT_VERSION, **plain}

    def to_json(self) -> str:
        """JSON text, indented."""
        return pretty_json(self.as_dict())

    def to_text(self) -> str:
        """Plain text for the terminal."""
        lines = [self.title, f"  {self.setting}", *(f"  ! {warning}." for warning in self.warnings), ""]
        rows = self.headline()
        width = max(_NARROWEST_NAME, *(len(name) for name, _ in rows))
        lines += [f"  {name:<{width}}  {words}" for name, words in rows]
        for table in self.tables():
            lines += ["", *table]
        return "\n".join(lines) + "\n"


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
        The label, or `macro` or `weighted`.
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
class CalibrationBin:
    """Tracks of like confidence: how many, their mean confidence, and the share that was right."""

    n_tracks: int
    confidence: float
    right: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelReport(Report):
    """Everything an evaluation of a run with one label per track found; what `Report` holds, and more.

    Parameters
    ----------
    labels : tuple of str
        The k labels.
    accuracy : Estimate
        The headline: track-level accuracy, mean over seeds.
    accuracy_sd : float or None
        Its standard deviation over seeds; None for one seed.
    macro_f1 : Estimate
        Track-level F1, mean over labels and then over seeds: what to look at where labels are not equally frequent.
    segment_accuracy : Estimate
        Accuracy of single segments; the interval's unit is the track all the same.
    accuracy_by_pooling : dict
        Track-level accuracy for each way in which segments can score together.
    majority_share : float
        What always answering the most frequent label would score.
    seeds : tuple of SeedScore
        One entry per seed.
    classes : tuple of ClassScore
        One entry per label.
    macro, weighted : ClassScore
        Means over labels: each the same, and each by its support.
    confusion : ndarray, shape (k, k)
        Rows are the truth, columns the answers; tracks, averaged over seeds.
    balance : dict
        Part of the manifest (`train`, ...) to label to number of rows; augmented rows under `train (augmented)`.
    members : tuple of str
        Members of an ensemble, with how they answer together; empty for a single model.
    """

    labels: tuple[str, ...]
    accuracy: Estimate
    accuracy_sd: float | None
    macro_f1: Estimate
    segment_accuracy: Estimate
    accuracy_by_pooling: dict[str, Estimate]
    majority_share: float
    seeds: tuple[SeedScore, ...]
    classes: tuple[ClassScore, ...]
    macro: ClassScore
    weighted: ClassScore
    confusion: NDArray[np.float64]
    balance: dict[str, dict[str, int]] = field(default_factory=dict)
    members: tuple[str, ...] = ()

    @property
    def seed_numbers(self) -> tuple[int, ...]:
        """The seeds."""
        return tuple(entry.seed for entry in self.seeds)

    @property
    def names_of_scores(self) -> tuple[str, ...]:
        """What each entry of `seeds` is called."""
        return tuple(f"seed {entry.seed}" for entry in self.seeds)

    @property
    def confidence_groups(self) -> tuple[CalibrationBin, ...]:
        """Groups of tracks of like confidence, the least confident first; none where they were not made."""
        return ()

    @property
    def averaged(self) -> str:
        """What tables hold means over, to stand behind their title; nothing for one seed."""
        return f", averaged over {len(self.seeds)} {self.unit}s" if len(self.seeds) > 1 else ""

    @property
    def short(self) -> str:
        """The headline in one line."""
        return f"track-level accuracy {self.accuracy}"

    @property
    def spread(self) -> str:
        """Mean and standard deviation over seeds, or that there is one seed only."""
        if self.accuracy_sd is None:
            return f"one {self.unit}: no spread known"
        return f"{self.accuracy.value:.3f} ± {self.accuracy_sd:.3f} (mean ± sd over {len(self.seeds)} {self.unit}s)"

    def measures(self) -> tuple[tuple[str, Estimate], ...]:
        """Name and value of the headline, for the card of an exported model."""
        return (("track-level accuracy", self.accuracy),)

    def columns(self) -> tuple[tuple[str, Estimate], ...]:
        """Name and value of what stands side by side where several reports are listed."""
        return (*self.measures(), ("macro F1", self.macro_f1))

    def headline(self) -> list[tuple[str, str]]:
        """Name and words of every figure above the tables."""
        rows = [("track-level accuracy", describe(self.accuracy)), (f"over {self.unit}s", self.spread)]
        if len(self.seeds) > 1:
            for name, entry in zip(self.names_of_scores, self.seeds, strict=True):
                rows.append((f"  {name}", describe(entry.accuracy)))
        rows.append(("macro F1", describe(self.macro_f1)))
        if self.has_segments:
            segments = f"{describe(self.segment_accuracy)}; {how_many(self.n_segments, 'segment')}"
            rows.append(("segment-level accuracy", segments))
            rows += [(f"segments by {name}", describe(entry)) for name, entry in self.accuracy_by_pooling.items()]
        rows.append(("always the same answer", f"{self.majority_share:.3f}"))
        if self.parameter_count is not None:
            rows.append(("parameters", f"{self.parameter_count:,d}"))
        if self.members:
            rows.append(("members", ", ".join(self.members)))
        return [*rows, *(("continued", words) for words in self.continued)]

    def tables(self) -> list[list[str]]:
        """Scores of the classes, and the confusion matrix, as lines."""
        width = max(len("weighted"), *(len(label) for label in self.labels))
        classes = [f"  {'tracks':<{width}}  precision  recall      F1  support"]
        for entry in (*self.classes, self.macro, self.weighted):
            numbers = f"{entry.precision:9.3f}  {entry.recall:6.3f}  {entry.f1:6.3f}  {entry.support:7g}"
            classes.append(f"  {entry.label:<{width}}  {numbers}")

        # Means over seeds may need more digits than counts: the columns are as wide as the widest.
        width = max(len(label) for label in self.labels)
        cells = [[f"{value:.3g}" for value in row] for row in self.confusion.tolist()]
        column = max(5, *(len(cell) + 1 for row in cells for cell in row))
        heads = "".join(f"{label[: column - 1]:>{column}}" for label in self.labels)
        confusion = [f"  confusion (rows: truth, columns: answers; tracks{self.averaged})", f"  {'':<{width}}{heads}"]
        for label, row in zip(self.labels, cells, strict=True):
            confusion.append(f"  {label:<{width}}" + "".join(f"{cell:>{column}}" for cell in row))

        return [classes, confusion]


@dataclass(frozen=True, slots=True)
class TagScore:
    """Track-level scores of one tag, averaged over seeds.

    Parameters
    ----------
    tag : str
        The tag.
    n_present, n_known : float
        Tracks that have the tag, and tracks of which that is known.
    roc_auc, pr_auc : Estimate or None
        Areas under both curves; None where no track has the tag, or every one has.
    threshold : float
        Fitted on the validation part; mean over folds and seeds.
    precision, recall, f1 : float
        Of the decisions by that threshold; 0 where undefined.
    """

    tag: str
    n_present: float
    n_known: float
    roc_auc: Estimate | None
    pr_auc: Estimate | None
    threshold: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class Decisions:
    """Yes-or-no decisions by the thresholds, over all tags and tracks, averaged over seeds.

    Parameters
    ----------
    micro_f1, macro_f1 : float
        F1 of all decisions together; mean of the F1 of the measured tags.
    accuracy : float
        Share of right decisions. It says little: see `zeros_accuracy`.
    zeros_accuracy : float
        The same share of an answer that never names any tag.
    """

    micro_f1: float
    macro_f1: float
    accuracy: float
    zeros_accuracy: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """How near the scores come to soft targets, as another model's answers: agreement, never accuracy.

    Parameters
    ----------
    mean_absolute_error : Estimate
        Over tags and tracks.
    baseline_error : float
        The same of a predictor that always says each tag's mean in the training part.
    improvement : Estimate
        Baseline's error less the model's, paired by track: above 0 where the model comes nearer.
    pearson : Estimate
        Correlation over tracks, mean over tags; 0 for the baseline.
    """

    mean_absolute_error: Estimate
    baseline_error: float
    improvement: Estimate
    pearson: Estimate


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TagReport(Report):
    """Everything an evaluation of a tagger found; what `Report` holds, and more.

    Parameters
    ----------
    tags : tuple of str
        The k tags.
    seeds : tuple of int
        The seeds.
    roc_auc, pr_auc : Estimate
        The headline: mean over the measured tags, then over seeds.
    roc_auc_sd, pr_auc_sd : float or None
        Standard deviation over seeds; None for one seed.
    chance_pr_auc : float
        What a random order would score: the mean share of tracks that have a measured tag.
    left_out : tuple of str
        Tags that no track of the part has, or every one: left out of all means.
    decisions : Decisions
        What the thresholds do.
    scores : tuple of TagScore
        One entry per tag.
    agreement : Agreement or None
        Set where the targets were soft.
    """

    tags: tuple[str, ...]
    seeds: tuple[int, ...]
    roc_auc: Estimate
    pr_auc: Estimate
    roc_auc_sd: float | None
    pr_auc_sd: float | None
    chance_pr_auc: float
    left_out: tuple[str, ...]
    decisions: Decisions
    scores: tuple[TagScore, ...]
    agreement: Agreement | None = None

    @property
    def seed_numbers(self) -> tuple[int, ...]:
        """The seeds."""
        return self.seeds

    @property
    def short(self) -> str:
        """The headline in one line."""
        if self.agreement is not None:
            return f"agreement with the teacher: Pearson {self.agreement.pearson}, ROC-AUC {self.roc_auc}"
        return ", ".join(f"{name} {found}" for name, found in self.columns())

    def measures(self) -> tuple[tuple[str, Estimate], ...]:
        """Name and value of the headline, for the card of an exported model."""
        if self.agreement is not None:
            return (("agreement with the teacher, Pearson, mean over tags", self.agreement.pearson),)
        return (("mean ROC-AUC over tags", self.roc_auc), ("mean PR-AUC over tags", self.pr_auc))

    def columns(self) -> tuple[tuple[str, Estimate], ...]:
        """Name and value of what stands side by side where several reports are listed."""
        return (("mean ROC-AUC", self.roc_auc), ("mean PR-AUC", self.pr_auc))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        return {"task": "multi_label", **Report.as_dict(self)}

    def headline(self) -> list[tuple[str, str]]:
        """Name and words of every figure above the tables."""
        rows = []
        against = ""  # what yes-or-no the areas are held against, where the targets are degrees
        if (found := self.agreement) is not None:
            nearer = found.improvement
            against = f" against the teacher's {n_top_tags(len(self.tags))} top tags"
            rows += [
                ("AGREEMENT", "the targets are another model's answers: nothing here is accuracy"),
                ("Pearson, mean over tags", f"{describe(found.pearson)}; always each tag's mean: 0"),
                ("mean absolute error", describe(found.mean_absolute_error)),
                ("  always each tag's mean", f"{found.baseline_error:.4f}"),
                (
                    "  the model is nearer by",
                    f"{nearer.value:+.4f} (95 % interval {nearer.low:+.4f} to {nearer.high:+.4f}, "
                    f"paired {nearer.method})",
                ),
            ]

        for name, area, sd in (("ROC", self.roc_auc, self.roc_auc_sd), ("PR", self.pr_auc, self.pr_auc_sd)):
            spread = "" if sd is None else f"; ± {sd:.3f} (sd over {len(self.seeds)} {self.unit}s)"
            rows.append((f"mean {name}-AUC{against}", describe(area) + spread))
        rows.append(("a random order", f"ROC-AUC 0.500, PR-AUC {self.chance_pr_auc:.3f}"))

        left_out = f" (not in this part, or everywhere: {', '.join(self.left_out)})" if self.left_out else ""
        rows.append(("tags", f"{len(self.tags) - len(self.left_out)} of {len(self.tags)} measured{left_out}"))

        decided = self.decisions
        rows.append(("decisions by thresholds", f"micro F1 {decided.micro_f1:.3f}, macro F1 {decided.macro_f1:.3f}"))
        # the share of right decisions never stands alone: naming nothing is right most of the time
        what = "right decisions" if self.agreement is None else "decisions that agree"
        rows.append((what, f"{decided.accuracy:.4f}; never naming any tag: {decided.zeros_accuracy:.4f}"))
        if self.parameter_count is not None:
            rows.append(("parameters", f"{self.parameter_count:,d}"))
        return [*rows, *(("continued", words) for words in self.continued)]

    def tables(self) -> list[list[str]]:
        """Scores of the tags, as lines."""
        width = max(len("tag"), *(len(tag) for tag in self.tags))
        lines = [f"  {'tag':<{width}}  tracks  ROC-AUC  PR-AUC  threshold  precision  recall     F1"]
        for entry in self.scores:
            roc_auc, pr_auc = (f"{area.value:.3f}" if area else "-" for area in (entry.roc_auc, entry.pr_auc))
            lines.append(
                f"  {entry.tag:<{width}}  {entry.n_present:6g}  {roc_auc:>7}  {pr_auc:>6}  {entry.threshold:9.3f}  "
                f"{entry.precision:9.3f}  {entry.recall:6.3f}  {entry.f1:5.3f}"
            )
        return [lines]


def describe(estimate: Estimate) -> str:
    """Write an estimate with its interval and what the interval is."""
    return (
        f"{estimate.value:.3f} (95 % interval {estimate.low:.3f} to {estimate.high:.3f}, {estimate.method}, "
        f"{how_many(estimate.n_tracks, 'track')})"
    )


def _plain(value: Any) -> Any:
    """Lists, dicts and numbers out of what reports hold."""
    if isinstance(value, np.ndarray):
        return np.round(value, 6).tolist()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(entry) for entry in value]
    return value
