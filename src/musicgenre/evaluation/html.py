"""The report as one HTML page that needs nothing beside itself: numbers, tables and plots (inline SVG)."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from musicgenre.evaluation.metrics import wilson_interval
from musicgenre.evaluation.plots import COLOURS, heat_map, interval_chart, line_chart, stacked_bars
from musicgenre.evaluation.report import Curve, Report, describe, spread

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; } th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #eee; }
th:first-child, td:first-child { text-align: left; }
.numbers { display: block; overflow-x: auto; white-space: nowrap; }
.big { font-size: 1.5rem; font-weight: 600; } .note { color: #666; } .overall td { font-weight: 600; }
.warning { background: #fff6e0; border-left: 4px solid #d9a514; padding: .3rem .8rem; margin: .3rem 0; }
.leaky { background: #fdecea; border-color: #b8433f; font-weight: 600; }
svg { max-width: 100%; height: auto; display: block; margin: .8rem 0; }
"""

_CURVES = (("loss", "train_loss", "validation_loss"), ("accuracy", "train_accuracy", "validation_accuracy"))


def render_html(report: Report) -> str:
    """Write a report as one self-contained HTML page."""
    title = report.recipe + (f" ({', '.join(report.systems)})" if report.systems else "")
    sections = [
        _headline(report, title),
        _seeds(report),
        section("Per class", _class_table(report)),
        section("Confusion matrix", _confusion(report)),
        section("Learning curves", _curves(report.curves)),
        section(
            "Class balance", stacked_bars("Rows of the manifest by label and part", report.balance, report.labels)
        ),
    ]
    return page(title, sections)


def page(title: str, sections: Sequence[str]) -> str:
    """Put sections, empty ones left out, into a page with its style."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(section for section in sections if section)
        + "\n</body></html>\n"
    )


def _headline(report: Report, title: str) -> str:
    warnings = "\n".join(
        f'<p class="warning{" leaky" if report.leaky and number == 0 else ""}">{escape(text)}.</p>'
        for number, text in enumerate(report.warnings)
    )
    rows = [("Track-level accuracy, over seeds", spread(report))]
    if report.has_segments:
        words = f"{describe(report.segment_accuracy)}; {report.n_segments} segments"
        rows.append(("Segment-level accuracy (not the headline)", words))
        rows += [(f"Segments by {how}", describe(entry)) for how, entry in report.accuracy_by_pooling.items()]
    rows.append(("Always the most frequent label", f"{report.majority_share:.3f}"))
    if report.parameter_count is not None:
        rows.append(("Parameters", f"{report.parameter_count:,d}"))
    if report.members:
        rows.append(("Members", ", ".join(report.members)))
    table = "".join(f"<tr><td>{escape(name)}</td><td>{escape(words)}</td></tr>" for name, words in rows)
    return (
        f'<h1>{escape(title)}</h1>\n<p class="note">{escape(report.setting)}</p>\n{warnings}\n'
        f'<p class="big">Track-level accuracy {escape(describe(report.accuracy))}</p>\n<table>{table}</table>'
    )


def _seeds(report: Report) -> str:
    if len(report.seeds) < 2:
        return ""
    rows = [(f"seed {entry.seed}", entry.accuracy) for entry in report.seeds]
    bars = [(name, entry.value, entry.low, entry.high) for name, entry in [*rows, ("mean", report.accuracy)]]
    return section("Seeds", interval_chart("Track-level accuracy with 95 % intervals", bars))


def _class_table(report: Report) -> str:
    head = "<tr><th>tracks</th><th>precision</th><th>recall</th><th>recall, 95 %</th><th>F1</th><th>support</th></tr>"
    body = []
    for entry in (*report.classes, report.macro, report.weighted):
        overall = entry in (report.macro, report.weighted)
        interval = ""
        if not overall and entry.support:
            low, high = wilson_interval(min(entry.recall, 1.0) * entry.support, entry.support)
            interval = f"{low:.2f} to {high:.2f}"
        body.append(
            f"<tr{' class=overall' if overall else ''}><td>{escape(entry.label)}</td><td>{entry.precision:.3f}</td>"
            f"<td>{entry.recall:.3f}</td><td>{interval}</td><td>{entry.f1:.3f}</td><td>{entry.support:g}</td></tr>"
        )
    return f'<table class="numbers">{head}{"".join(body)}</table>'


def _confusion(report: Report) -> str:
    averaged = f", averaged over {len(report.seeds)} seeds" if len(report.seeds) > 1 else ""
    drawn = heat_map(f"Tracks: truth in rows, answers in columns{averaged}", report.labels, report.confusion)
    return drawn + f'<p class="note">{escape(_largest_confusion(report))}</p>'


def _largest_confusion(report: Report) -> str:
    wrong = report.confusion - np.diag(np.diag(report.confusion))
    if not wrong.any():
        return "No track was taken for another label."
    row, column = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    true, answered = report.labels[int(row)], report.labels[int(column)]
    return (
        f"Largest confusion: {true} taken for {answered}, {wrong[row, column]:.3g} of {report.confusion[row].sum():g}."
    )


def _curves(curves: Sequence[Curve]) -> str:
    drawn = []
    for name, train, validation in _CURVES:
        lines = [
            (f"{part} ({len(curves)} runs)" if len(curves) > 1 else part, curve.columns[column], colour)
            for part, column, colour in (("train", train, COLOURS[0]), ("validation", validation, COLOURS[1]))
            for curve in curves
            if column in curve.columns
        ]
        drawn.append(line_chart(name.capitalize(), lines, x_label="epoch"))
    return "".join(drawn)


def section(title: str, content: str) -> str:
    """Put a heading over content; nothing where there is none."""
    return f"<h2>{escape(title)}</h2>\n{content}" if content else ""
