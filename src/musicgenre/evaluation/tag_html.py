"""The report on a tagger as one HTML page that needs nothing beside itself: numbers, a table and a plot by tag."""

from __future__ import annotations

from html import escape

from musicgenre.evaluation.html import page, section
from musicgenre.evaluation.metrics import Estimate
from musicgenre.evaluation.plots import COLOURS, interval_chart, line_chart
from musicgenre.evaluation.tag_report import TagReport, TagScore

_HEAD = ("tag", "tracks", "ROC-AUC", "95 %", "PR-AUC", "95 %", "threshold", "precision", "recall", "F1")
_CURVES = (
    ("Loss", (("train", "train_loss"), ("validation", "validation_loss"))),
    ("Areas, validation", (("ROC-AUC", "validation_roc_auc"), ("PR-AUC", "validation_pr_auc"))),
)


def render_tag_html(report: TagReport) -> str:
    """Write a report as one self-contained HTML page."""
    title = report.recipe + (f" ({', '.join(report.systems)})" if report.systems else "")
    return page(
        title,
        [
            _headline(report, title),
            section("Per tag", _table(report)),
            section("ROC-AUC by tag", _plot(report, "roc_auc")),
            section("PR-AUC by tag", _plot(report, "pr_auc")),
            section("Learning curves", _curves(report)),
        ],
    )


def _headline(report: TagReport, title: str) -> str:
    warnings = "\n".join(f'<p class="warning">{escape(text)}.</p>' for text in report.warnings)
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(words)}</td></tr>" for name, words in report.headline())
    return (
        f'<h1>{escape(title)}</h1>\n<p class="note">{escape(report.setting)}</p>\n{warnings}\n'
        f'<p class="big">{escape(report.short)}</p>\n<table>{rows}</table>'
    )


def _table(report: TagReport) -> str:
    head = "".join(f"<th>{name}</th>" for name in _HEAD)
    body = "".join(_row(entry) for entry in report.scores)
    note = "<p class=note>-: no track has the tag, or every one. Thresholds come from the validation part.</p>"
    return f'<table class="numbers"><tr>{head}</tr>{body}</table>{note}'


def _row(entry: TagScore) -> str:
    cells = [f"{entry.n_present:g}"]
    for area in (entry.roc_auc, entry.pr_auc):
        cells += ["-", ""] if area is None else [f"{area.value:.3f}", f"{area.low:.2f} to {area.high:.2f}"]
    cells += [f"{value:.3f}" for value in (entry.threshold, entry.precision, entry.recall, entry.f1)]
    return f"<tr><td>{escape(entry.tag)}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _plot(report: TagReport, name: str) -> str:
    """Intervals of every measured tag, the best first, under the mean."""
    mean = report.roc_auc if name == "roc_auc" else report.pr_auc
    found: list[tuple[str, Estimate]] = []
    for entry in report.scores:
        area = entry.roc_auc if name == "roc_auc" else entry.pr_auc
        if area is not None:
            found.append((entry.tag, area))
    found.sort(key=lambda pair: -pair[1].value)
    bars = [(tag, area.value, area.low, area.high) for tag, area in [("mean over tags", mean), *found]]
    return interval_chart("95 % intervals, bootstrap over tracks", bars)


def _curves(report: TagReport) -> str:
    drawn = []
    for title, lines in _CURVES:
        curves = [
            (label, curve.columns[column], colour)
            for (label, column), colour in zip(lines, COLOURS, strict=False)
            for curve in report.curves
            if column in curve.columns
        ]
        drawn.append(line_chart(title, curves, x_label="epoch"))
    return "".join(drawn)
