"""The report as one HTML page that needs nothing beside itself: numbers, tables and plots (inline SVG)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from musicgenre.evaluation.metrics import Estimate, wilson_interval
from musicgenre.evaluation.plots import COLOURS, heat_map, interval_chart, line_chart, stacked_bars
from musicgenre.evaluation.ranking import Ranking
from musicgenre.evaluation.report import LabelReport, Report, TagReport, describe

# In the page itself, as is all else: it can be sent as one file.
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 74rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; } th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #eee; }
th:first-child, td:first-child { text-align: left; }
.numbers td { white-space: nowrap; } .words th, .words td { text-align: left; vertical-align: top; }
.runs th, .runs td { padding: .2rem .4rem; vertical-align: top; }
.drawings { display: flex; flex-wrap: wrap; gap: 0 1.5rem; align-items: flex-start; }
@media (max-width: 800px) { .numbers, .runs { display: block; overflow-x: auto; } }
@media (max-width: 500px) { th, td { padding: .2rem .3rem; } .words th, .words td { overflow-wrap: anywhere; } }
.big { font-size: 1.5rem; font-weight: 600; } .note { color: #666; } .overall td { font-weight: 600; }
.warning { background: #fff6e0; border-left: 4px solid #d9a514; padding: .3rem .8rem; margin: .3rem 0; }
.leaky { background: #fdecea; border-color: #b8433f; font-weight: 600; }
svg { max-width: 100%; height: auto; display: block; margin: .8rem 0; }
"""

_CLASS_HEAD = ("tracks", "precision", "recall", "recall, 95 %", "F1", "support")
_TAG_HEAD = ("tag", "tracks", "ROC-AUC", "95 %", "PR-AUC", "95 %", "threshold", "precision", "recall", "F1")

# Title of each plot of learning curves, and the name and column of each of its lines.
_LOSS = ("Loss", (("train", "train_loss"), ("validation", "validation_loss")))
_ACCURACY = ("Accuracy", (("train", "train_accuracy"), ("validation", "validation_accuracy")))
_F1 = ("Macro F1, validation", (("validation", "validation_macro_f1"),))
_AREAS = ("Areas, validation", (("ROC-AUC", "validation_roc_auc"), ("PR-AUC", "validation_pr_auc")))
_Plot = tuple[str, tuple[tuple[str, str], ...]]


def render_html(report: Report) -> str:
    """Write a report of either task as one self-contained HTML page."""
    if isinstance(report, TagReport):
        sections = _tag_sections(report)
    else:
        assert isinstance(report, LabelReport)
        sections = _label_sections(report)

    return html_page(report.title, sections)


def render_ranking(ranking: Ranking, title: str = "Runs compared") -> str:
    """Write runs side by side as one self-contained HTML page: table, intervals, and each run's own plots."""
    heads, rows = ranking.table()
    best = [f"<tr class=overall>{_plain_cells(rows[0])}</tr>", *(f"<tr>{_plain_cells(row)}</tr>" for row in rows[1:])]
    warnings = [f'<p class="warning">{escape(warning)}.</p>' for warning in ranking.warnings]
    scores = [(row.name, row.score(ranking.measure)) for row in ranking.rows]
    sections = [
        f'<h1>{escape(title)}</h1>\n<p class="note">{escape(ranking.caption)}</p>',
        *warnings,
        _table([escape(head) for head in heads], best, kind="runs"),
        _section("Side by side", _intervals(f"{ranking.measure}, 95 % intervals", scores)),
    ]
    for row in ranking.rows:
        report = row.report
        own = [_curves(report, (_LOSS, _ACCURACY, _F1, _AREAS))]
        if isinstance(report, LabelReport):
            own = [_confusion(report), *own]
        sections.append(_section(row.name, "\n".join(part for part in own if part)))
    return html_page(title, sections)


def html_page(title: str, sections: Sequence[str]) -> str:
    """Put sections, HTML each, into a page in the style of all reports; empty ones are left out."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(section for section in sections if section)
        + "\n</body></html>\n"
    )


def _label_sections(report: LabelReport) -> list[str]:
    _, *rows = report.headline()
    rows = [(name, words) for name, words in rows if not name.startswith(" ")]  # single seeds are drawn below

    seeds = ""
    if len(report.seeds) > 1:
        named = [(name, entry.accuracy) for name, entry in zip(report.names_of_scores, report.seeds, strict=True)]
        seeds = _intervals("Track-level accuracy with 95 % intervals", [*named, ("mean", report.accuracy)])

    balance = stacked_bars("Rows of the manifest by label and part", report.balance, report.labels)
    return [
        _headline(report, f"Track-level accuracy {describe(report.accuracy)}", rows),
        _section(f"{report.unit.capitalize()}s", seeds),
        _section("Per class", _class_table(report)),
        _section("Confusion matrix", _confusion(report)),
        _section("What confidence is worth", _reliability(report)),
        _section("Learning curves", _curves(report, (_LOSS, _ACCURACY, _F1))),
        _section("Class balance", balance),
    ]


def _tag_sections(report: TagReport) -> list[str]:
    roc_aucs = [(entry.tag, entry.roc_auc) for entry in report.scores]
    pr_aucs = [(entry.tag, entry.pr_auc) for entry in report.scores]
    return [
        _headline(report, report.short, report.headline()),
        _section("Per tag", _tag_table(report)),
        _section("ROC-AUC by tag", _best_first(report.roc_auc, roc_aucs)),
        _section("PR-AUC by tag", _best_first(report.pr_auc, pr_aucs)),
        _section("Learning curves", _curves(report, (_LOSS, _AREAS))),
    ]


def _headline(report: Report, big: str, rows: Sequence[tuple[str, str]]) -> str:
    warnings = []
    for number, text in enumerate(report.warnings):
        leaky = " leaky" if report.leaky and number == 0 else ""
        warnings.append(f'<p class="warning{leaky}">{escape(text)}.</p>')

    table = "".join(f"<tr><td>{escape(name)}</td><td>{escape(words)}</td></tr>" for name, words in rows)
    return (
        f'<h1>{escape(report.title)}</h1>\n<p class="note">{escape(report.setting)}</p>\n' + "\n".join(warnings) + "\n"
        f'<p class="big">{escape(big)}</p>\n<table class="words">{table}</table>'
    )


def _section(title: str, content: str) -> str:
    """A heading over content; nothing where there is none."""
    return f"<h2>{escape(title)}</h2>\n{content}" if content else ""


def _class_table(report: LabelReport) -> str:
    rows = []
    for entry in (*report.classes, report.macro, report.weighted):
        # means over labels have no number of trials, and so no interval
        overall = entry in (report.macro, report.weighted)
        interval = ""
        if not overall and entry.support:
            low, high = wilson_interval(min(entry.recall, 1.0) * entry.support, entry.support)
            interval = f"{low:.2f} to {high:.2f}"
        cells = (f"{entry.precision:.3f}", f"{entry.recall:.3f}", interval, f"{entry.f1:.3f}", f"{entry.support:g}")
        rows.append(_row(entry.label, cells, " class=overall" if overall else ""))
    return _table(_CLASS_HEAD, rows)


def _tag_table(report: TagReport) -> str:
    rows = []
    for entry in report.scores:
        cells = [f"{entry.n_present:g}"]
        for area in (entry.roc_auc, entry.pr_auc):
            cells += ["-", ""] if area is None else [f"{area.value:.3f}", f"{area.low:.2f} to {area.high:.2f}"]
        cells += [f"{value:.3f}" for value in (entry.threshold, entry.precision, entry.recall, entry.f1)]
        rows.append(_row(entry.tag, cells))

    note = "<p class=note>-: no track has the tag, or every one. Thresholds come from the validation part.</p>"
    return _table(_TAG_HEAD, rows) + note


def _table(head: Sequence[str], rows: Sequence[str], kind: str = "numbers") -> str:
    heads = "".join(f"<th>{name}</th>" for name in head)
    return f'<table class="{kind}"><tr>{heads}</tr>{"".join(rows)}</table>'


def _row(name: str, cells: Iterable[str], attributes: str = "") -> str:
    return f"<tr{attributes}><td>{escape(name)}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _plain_cells(cells: Iterable[str]) -> str:
    """Cells that wrap between a value and its interval, never inside of the interval or behind a sign."""
    kept = (escape(cell).replace(", ", ",&nbsp;").replace("&lt; ", "&lt;&nbsp;") for cell in cells)
    return "".join(f"<td>{cell}</td>" for cell in kept)


def _confusion(report: LabelReport) -> str:
    drawn = heat_map(f"Tracks: truth in rows, answers in columns{report.averaged}", report.labels, report.confusion)

    note = "No track was taken for another label."
    # what a reader would look for in the picture
    wrong = report.confusion - np.diag(np.diag(report.confusion))
    if wrong.any():
        row, column = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
        true, answered = report.labels[int(row)], report.labels[int(column)]
        of_all = f"{wrong[row, column]:.3g} of {report.confusion[row].sum():g}"
        note = f"Largest confusion: {true} taken for {answered}, {of_all}."
    return drawn + f'<p class="note">{escape(note)}</p>'


def _reliability(report: LabelReport) -> str:
    """Groups of tracks of like confidence: what was claimed, and what was right; nothing where none were made."""
    rows = []
    for found in report.confidence_groups:
        low, high = wilson_interval(found.right * found.n_tracks, found.n_tracks)
        cells = (f"{found.confidence:.3f}", f"{found.right:.3f}", f"{low:.2f} to {high:.2f}")
        rows.append(_row(str(found.n_tracks), cells))
    return _table(("tracks", "confidence", "right", "95 %"), rows) if rows else ""


def _best_first(mean: Estimate, by_tag: Sequence[tuple[str, Estimate | None]]) -> str:
    """Intervals of every measured tag, the best first, under the mean."""
    measured = [(tag, area) for tag, area in by_tag if area is not None]
    measured.sort(key=lambda pair: -pair[1].value)
    return _intervals("95 % intervals, bootstrap over tracks", [("mean over tags", mean), *measured])


def _intervals(title: str, rows: Iterable[tuple[str, Estimate]]) -> str:
    return interval_chart(title, [(name, found.value, found.low, found.high) for name, found in rows])


def _curves(report: Report, plots: Iterable[_Plot]) -> str:
    """Learning curves of all runs, those of one column in one colour; the legend says how many runs they are."""
    if not any(curve.is_line for curve in report.curves):
        return ""
    runs = f" ({len(report.curves)} runs)" if len(report.curves) > 1 else ""
    kept = sorted({curve.best_epoch + 1 for curve in report.curves if curve.best_epoch is not None})
    mark_name = "best epochs"
    if len(kept) == 1:
        mark_name = f"best epoch {kept[0]}"

    drawn = []
    for title, lines in plots:
        curves, marks = [], []
        for (name, column), colour in zip(lines, COLOURS, strict=False):
            for curve in report.curves:
                values = curve.columns.get(column, [])
                curves.append((name + runs, values, colour))
                best = curve.best_epoch
                if best is not None and column.startswith("validation_") and best < len(values):
                    value = values[best]
                    marks += [] if value is None else [(best, value)]
        drawn.append(line_chart(title, curves, x_label="epoch", marks=marks, mark_name=mark_name))
    return f'<div class="drawings">{"".join(drawn)}</div>' if any(drawn) else ""
