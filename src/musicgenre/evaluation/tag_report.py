"""The report on a tagger: areas under both curves by tag and on the mean, decisions, and what to hold them against."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from musicgenre.evaluation.metrics import Estimate
from musicgenre.evaluation.report import Curve, describe
from musicgenre.runs.tag_predictions import n_top_tags

TAG_REPORT_FORMAT_VERSION = 1


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
        Share of right decisions. It says little: see ``zeros_accuracy``.
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
class TagReport:
    """Everything an evaluation of a tagger found; :func:`musicgenre.evaluation.tag_evaluate.evaluate_tags` builds it.

    Parameters
    ----------
    name, recipe : str
        Name of the run's folder and of its recipe.
    systems : tuple of str
        Row codes of the systems the recipe rebuilds.
    protocol : str
        How the tracks were split.
    leaky : bool
        Whether tracks stand on both sides.
    warnings : tuple of str
        What a reader must know about the numbers, the gravest first.
    part : str
        ``test`` or ``validation``.
    how : str
        How the segments of a track scored together.
    tags : tuple of str
        The k tags.
    n_tracks, n_segments, n_folds : int
        Different tracks, segments of one seed, folds (1 when not k-fold).
    parameter_count : int or None
        Trainable parameters of the model.
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
        One entry a tag.
    agreement : Agreement or None
        Set where the targets were soft.
    curves : tuple of Curve
        Learning curves, one entry a run.
    """

    name: str
    recipe: str
    systems: tuple[str, ...]
    protocol: str
    leaky: bool
    warnings: tuple[str, ...]
    part: str
    how: str
    tags: tuple[str, ...]
    n_tracks: int
    n_segments: int
    n_folds: int
    parameter_count: int | None
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
    curves: tuple[Curve, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        plain = {name: _plain(getattr(self, name)) for name in self.__slots__}
        return {"format_version": TAG_REPORT_FORMAT_VERSION, "task": "multi_label", **plain}

    def to_json(self) -> str:
        """JSON text, indented."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n"

    def to_text(self) -> str:
        """Plain text for the terminal."""
        title = self.recipe + (f" ({', '.join(self.systems)})" if self.systems else "")
        lines = [title, f"  {self.setting}", *(f"  ! {warning}." for warning in self.warnings), ""]
        width = max(len(name) for name, _ in self.headline())
        lines += [f"  {name:<{width}}  {words}" for name, words in self.headline()]
        return "\n".join([*lines, "", *_table(self)]) + "\n"

    @property
    def setting(self) -> str:
        """Say in one line what the numbers stand on: protocol, tracks, seeds, folds."""
        folds = f", {self.n_folds} folds pooled" if self.n_folds > 1 else ""
        leak = " (LEAKY)" if self.leaky else ""
        listed = ", ".join(map(str, self.seeds))
        seeds = f"{len(self.seeds)} seeds ({listed})" if len(self.seeds) > 1 else f"one seed ({listed})"
        return f"protocol {self.protocol}{leak}, {self.part} part, {self.n_tracks} tracks, {seeds}{folds}"

    def measures(self) -> tuple[tuple[str, Estimate], ...]:
        """Name and value of the headline, for the card of an exported model."""
        if self.agreement is not None:
            return (("agreement with the teacher, Pearson, mean over tags", self.agreement.pearson),)
        return (("mean ROC-AUC over tags", self.roc_auc), ("mean PR-AUC over tags", self.pr_auc))

    @property
    def short(self) -> str:
        """The headline in one line."""
        if self.agreement is not None:
            return f"agreement with the teacher: Pearson {self.agreement.pearson}, ROC-AUC {self.roc_auc}"
        return f"mean ROC-AUC {self.roc_auc}, mean PR-AUC {self.pr_auc}"

    def headline(self) -> list[tuple[str, str]]:
        """Name and words of every figure above the table."""
        decided = self.decisions
        against = f" against the teacher's {n_top_tags(len(self.tags))} top tags" if self.agreement else ""
        rows = [
            (f"mean ROC-AUC{against}", describe(self.roc_auc) + _spread(self.roc_auc_sd, self.seeds)),
            (f"mean PR-AUC{against}", describe(self.pr_auc) + _spread(self.pr_auc_sd, self.seeds)),
            ("a random order", f"ROC-AUC 0.500, PR-AUC {self.chance_pr_auc:.3f}"),
            ("tags", f"{len(self.tags) - len(self.left_out)} of {len(self.tags)} measured{self._left_out()}"),
            ("decisions by thresholds", f"micro F1 {decided.micro_f1:.3f}, macro F1 {decided.macro_f1:.3f}"),
        ]
        share = f"{decided.accuracy:.4f}; never naming any tag: {decided.zeros_accuracy:.4f}"
        if self.agreement is None:
            rows.append(("right decisions", share))
        else:
            rows = [*_agreement(self.agreement), *rows, ("decisions that agree", share)]
        if self.parameter_count is not None:
            rows.append(("parameters", f"{self.parameter_count:,d}"))
        return rows

    def _left_out(self) -> str:
        return f" (not in this part, or everywhere: {', '.join(self.left_out)})" if self.left_out else ""


def _agreement(found: Agreement) -> list[tuple[str, str]]:
    return [
        ("AGREEMENT", "the targets are another model's answers: nothing here is accuracy"),
        ("Pearson, mean over tags", f"{describe(found.pearson)}; always each tag's mean: 0"),
        ("mean absolute error", describe(found.mean_absolute_error)),
        ("  always each tag's mean", f"{found.baseline_error:.4f}"),
        (
            "  the model is nearer by",
            f"{found.improvement.value:+.4f} (95 % interval {found.improvement.low:+.4f} to "
            f"{found.improvement.high:+.4f}, paired {found.improvement.method})",
        ),
    ]


def _table(report: TagReport) -> list[str]:
    width = max(len("tag"), *(len(tag) for tag in report.tags))
    lines = [f"  {'tag':<{width}}  tracks  ROC-AUC  PR-AUC  threshold  precision  recall     F1"]
    for entry in report.scores:
        curves = [f"{area.value:.3f}" if area is not None else "-" for area in (entry.roc_auc, entry.pr_auc)]
        lines.append(
            f"  {entry.tag:<{width}}  {entry.n_present:6g}  {curves[0]:>7}  {curves[1]:>6}  {entry.threshold:9.3f}  "
            f"{entry.precision:9.3f}  {entry.recall:6.3f}  {entry.f1:5.3f}"
        )
    return lines


def _spread(sd: float | None, seeds: tuple[int, ...]) -> str:
    return "" if sd is None else f"; ± {sd:.3f} (sd over {len(seeds)} seeds)"


def _plain(value: Any) -> Any:
    if isinstance(value, Estimate | TagScore | Decisions | Agreement | Curve):
        return asdict(value)
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return value
