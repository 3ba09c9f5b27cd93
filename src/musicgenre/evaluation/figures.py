"""Figures of runs for papers and slides, each as SVG and as PDF.

For every run: learning curves with the best epoch marked; the confusion matrix in counts and in per cent of each true
label; how far its confidence can be believed (reliability); what is gained by answering less (risk and coverage). For
taggers: curves of ROC and of precision against recall. And all runs beside each other, with their intervals.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from musicgenre._files import replacing
from musicgenre._text import printable
from musicgenre.errors import require
from musicgenre.evaluation.evaluate import runs_by_seed, segments_of, tag_answers, track_level
from musicgenre.evaluation.metrics import Float64
from musicgenre.evaluation.plots import COLOURS, epoch_ticks
from musicgenre.evaluation.ranking import RankedRun, Ranking
from musicgenre.evaluation.report import LabelReport, Report, TagReport
from musicgenre.models.pooling import Pooling
from musicgenre.runs.folder import Run, open_runs
from musicgenre.runs.predictions import concatenate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("svg", "pdf")

_WIDTH_IN, _HEIGHT_IN = 5.2, 3.6
_N_BINS = 10
_MOST_NUMBERS = 25
"""A confusion matrix of more labels shows colours alone."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure and the name of its files, without their endings."""

    name: str
    figure: Figure


def file_names(ranking: Ranking) -> list[str]:
    """Names of all files that `save_figures` writes, to be checked before any work."""
    kinds = ["curves", "confusion", "confusion-percent", "reliability", "risk-coverage"]
    if isinstance(ranking.rows[0].report, TagReport):
        kinds = ["curves", "roc", "precision-recall"]
    names = ["scores", *(f"{_file_name(row.name)}-{kind}" for row in ranking.rows for kind in kinds)]
    return [f"{name}.{ending}" for name in names for ending in FORMATS]


def save_figures(ranking: Ranking, output: Path) -> list[Path]:
    """Write the figures of all runs into a folder.

    Parameters
    ----------
    ranking : Ranking
        The runs.
    output : Path
        Made if need be.

    Returns
    -------
    list of Path
        The files, in the order in which they were written.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    """
    require("figures of runs", "plot", "matplotlib")
    output.mkdir(parents=True, exist_ok=True)
    written = []
    for drawing in _drawings(ranking):
        for ending in FORMATS:
            path = output / f"{drawing.name}.{ending}"
            # without its date the same runs give the same file
            dated = "Date" if ending == "svg" else "CreationDate"
            with replacing(path) as target:
                drawing.figure.savefig(target, format=ending, metadata={dated: None}, bbox_inches="tight")
            written.append(path)
    return written


def _drawings(ranking: Ranking) -> Iterator[Drawing]:
    yield Drawing("scores", _scores(ranking))
    for row in ranking.rows:
        name, report = _file_name(row.name), row.report
        if any(curve.is_line for curve in report.curves):
            yield Drawing(f"{name}-curves", _curves(row))

        runs = open_runs(row.folder)
        if isinstance(report, TagReport):
            yield from _of_tags(name, report, runs)
        elif isinstance(report, LabelReport):
            yield from _of_labels(name, report, runs)


def _of_labels(name: str, report: LabelReport, runs: Sequence[Run]) -> Iterator[Drawing]:
    yield Drawing(f"{name}-confusion", _confusion(report, in_percent=False))
    yield Drawing(f"{name}-confusion-percent", _confusion(report, in_percent=True))
    confidences, hits = _confidences(runs, report.part, report.pooling)
    yield Drawing(f"{name}-reliability", _reliability(confidences, hits))
    yield Drawing(f"{name}-risk-coverage", _risk_coverage(confidences, hits))


def _of_tags(name: str, report: TagReport, runs: Sequence[Run]) -> Iterator[Drawing]:
    seeds = [tag_answers(folds, report.part, report.pooling) for folds in runs_by_seed(runs).values()]
    first = seeds[0]
    roc, axes = _square("share of the absent that are named", "share of the present that are named")
    precision_recall, others = _square("recall", "precision")
    for tag, score in enumerate(report.scores):
        if score.roc_auc is None:  # no track has it, or every one
            continue
        known = ~np.isnan(first.presence[:, tag])
        present, scores = first.presence[known, tag], first.tracks.scores[known, tag]
        hits, false = _steps(present, scores)
        axes.plot(false / false[-1], hits / hits[-1], color=COLOURS[7], linewidth=0.6, alpha=0.6)
        answered = np.maximum(hits + false, 1e-12)
        others.plot(hits[1:] / hits[-1], (hits / answered)[1:], color=COLOURS[7], linewidth=0.6, alpha=0.6)

    axes.plot([0, 1], [0, 1], color="#888888", linestyle=":", linewidth=1)
    axes.set_title(f"ROC of every tag, mean area {report.roc_auc.value:.3f}")
    others.set_title(f"Precision and recall of every tag, mean area {report.pr_auc.value:.3f}")
    yield Drawing(f"{name}-roc", roc)
    yield Drawing(f"{name}-precision-recall", precision_recall)


def _scores(ranking: Ranking) -> Figure:
    """Every run with its interval, the best at the top."""
    figure, axes = _axes(height_in=0.9 + 0.32 * len(ranking.rows))
    for place, row in enumerate(ranking.rows):
        found = row.score(ranking.measure)
        axes.plot([found.low, found.high], [place, place], color=COLOURS[0], linewidth=2)
        axes.plot([found.value], [place], "o", color=COLOURS[0])
    axes.set_yticks(range(len(ranking.rows)), [row.name for row in ranking.rows])
    axes.set_ylim(len(ranking.rows) - 0.5, -0.5)  # half a row above the first and below the last
    axes.set_xlabel(f"{ranking.measure}, 95 % intervals")
    axes.grid(axis="x", color="#dddddd")
    return figure


def _curves(row: RankedRun) -> Figure:
    """Loss above, what else was measured below; a ring marks the epoch whose weights were kept."""
    from matplotlib.figure import Figure

    columns: dict[str, None] = {}
    for curve in row.report.curves:
        columns |= dict.fromkeys(name for name in curve.columns if name.startswith(("train_", "validation_")))
    measured = [name for name in columns if any(_values(row.report, name))]
    losses = [name for name in measured if name.endswith("_loss")]
    others = [name for name in measured if name not in losses]

    groups = [group for group in (losses, others) if group]
    figure = Figure(figsize=(_WIDTH_IN, 2.6 * len(groups)), layout="constrained")
    for place, group in enumerate(groups):
        axes = figure.add_subplot(len(groups), 1, 1 + place)
        for name, colour in zip(group, COLOURS, strict=False):
            for number, curve in enumerate(row.report.curves):
                values = [np.nan if value is None else value for value in curve.columns.get(name, ())]
                label = name.replace("_", " ") if number == 0 else None
                axes.plot(range(1, 1 + len(values)), values, color=colour, linewidth=1, alpha=0.8, label=label)
                best = curve.best_epoch
                if best is not None and name.startswith("validation_") and best < len(values):
                    axes.plot([best + 1], [values[best]], "o", color=colour, markerfacecolor="none")
        last = max(len(values) for curve in row.report.curves for values in curve.columns.values()) - 1
        axes.set_xticks([1 + epoch for epoch in epoch_ticks(last)])
        if min(value for name in group for value in _values(row.report, name)) >= 0:
            axes.set_ylim(bottom=0)  # half of a height is half of the value
        axes.legend(fontsize="small", frameon=False)
        axes.grid(color="#eeeeee")
        axes.set_xlabel("epoch (ring: the best, whose weights are kept)")
    figure.suptitle(row.name)
    return figure


def _values(report: Report, name: str) -> list[float]:
    return [value for curve in report.curves for value in curve.columns.get(name, ()) if value is not None]


def _confusion(report: LabelReport, *, in_percent: bool) -> Figure:
    """Rows are the truth; colour is the share of the row, the number the count or that share in per cent."""
    shares = report.confusion / np.maximum(report.confusion.sum(axis=1, keepdims=True), 1e-12)
    shown = 100 * shares if in_percent else report.confusion
    side_in = max(_HEIGHT_IN, 1.4 + 0.34 * len(report.labels))
    figure, axes = _axes(width_in=side_in, height_in=side_in)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(report.labels) <= _MOST_NUMBERS:
        for true, values in enumerate(shown):
            for answered, value in enumerate(values):
                if value:
                    ink = "white" if shares[true, answered] > 0.55 else "#222222"
                    words = f"{value:.0f}" if in_percent else f"{value:.3g}"
                    axes.text(answered, true, words, ha="center", va="center", color=ink, fontsize="small")
    axes.set_xticks(range(len(report.labels)), report.labels, rotation=45, ha="right")
    axes.set_yticks(range(len(report.labels)), report.labels)
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")
    axes.set_title("per cent of each true label" if in_percent else "tracks")
    return figure


def _confidences(runs: Sequence[Run], part: str, pooling: Pooling) -> tuple[Float64, Float64]:
    """Confidence of the answer to every track, all seeds together, and whether it was right; shape (n,) each."""
    seeds = [track_level(segments_of(folds, part), pooling) for folds in runs_by_seed(runs).values()]
    tracks = concatenate(seeds)
    return tracks.scores.max(axis=1), (tracks.predicted == tracks.truth).astype(np.float64)


def _reliability(confidences: Float64, hits: Float64) -> Figure:
    """Share of right answers among those of about the same confidence; on the diagonal it can be believed."""
    figure, axes = _square("confidence", "share of right answers")
    edges = np.linspace(0.0, 1.0, _N_BINS + 1)
    bins = np.clip(np.digitize(confidences, edges) - 1, 0, _N_BINS - 1)
    for number in range(_N_BINS):
        own = bins == number
        if own.any():
            area = 12 + 300 * own.mean()
            axes.scatter(
                [confidences[own].mean()], [hits[own].mean()], s=area, color=COLOURS[0], alpha=0.8, clip_on=False
            )
    axes.plot([0, 1], [0, 1], color="#888888", linestyle=":", linewidth=1)
    axes.set_title("Reliability (area: share of tracks)")
    return figure


def _risk_coverage(confidences: Float64, hits: Float64) -> Figure:
    """Share of wrong answers when only the surest tracks are answered."""
    order = np.argsort(-confidences, kind="stable")
    n_answered = np.arange(1, len(order) + 1)
    risk = np.cumsum(1.0 - hits[order]) / n_answered
    figure, axes = _axes()
    axes.plot(n_answered / len(order), risk, color=COLOURS[0])
    axes.set_xlim(0, 1)
    axes.set_ylim(0, max(0.05, 1.05 * float(risk.max())))
    axes.set_xlabel("share of tracks answered, the surest first")
    axes.set_ylabel("share of wrong answers")
    axes.grid(color="#eeeeee")
    axes.set_title("Risk and coverage")
    return figure


def _steps(present: Float64, scores: Float64) -> tuple[Float64, Float64]:
    """Present and absent rows that are named as the threshold falls, from none to all; equal scores are one step."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    hits = np.concatenate([[0.0], np.cumsum(present[order])[ends]])
    false = np.concatenate([[0.0], np.cumsum(1.0 - present[order])[ends]])
    return hits, false


def _axes(width_in: float = _WIDTH_IN, height_in: float = _HEIGHT_IN) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    return figure, figure.add_subplot()


def _square(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    """Axes from 0 to 1 both ways."""
    figure, axes = _axes(width_in=4.2, height_in=4.2)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel=x_label, ylabel=y_label, aspect="equal")
    axes.grid(color="#eeeeee")
    return figure, axes


def _file_name(name: str) -> str:
    """A run's name as that of a file."""
    return re.sub(r"[^\w.-]+", "-", printable(name)).strip("-.") or "run"
