"""The report of a run, whatever its task, and what is left of it in the run folder beside what made it."""

from __future__ import annotations

from pathlib import Path

from musicgenre._files import write_text_atomic
from musicgenre.errors import RunError
from musicgenre.evaluation.compare import Comparison, compare
from musicgenre.evaluation.evaluate import PARTS, evaluate
from musicgenre.evaluation.html import render_html
from musicgenre.evaluation.report import Report
from musicgenre.evaluation.study import STUDY_FILE, Study, evaluate_study, is_study
from musicgenre.evaluation.tag_compare import TagComparison, compare_tags
from musicgenre.evaluation.tag_evaluate import evaluate_tags
from musicgenre.evaluation.tag_html import render_tag_html
from musicgenre.evaluation.tag_report import TagReport
from musicgenre.evaluation.tag_study import TagStudy, evaluate_tag_study
from musicgenre.models.pooling import Pooling
from musicgenre.runs.predictions import write_predictions
from musicgenre.runs.runs import RUN_FORMAT_VERSION, Run, children_of, open_runs, read_versioned_json
from musicgenre.runs.tag_predictions import write_tag_predictions


def report_on(folder: str | Path, *, part: str = "test", how: Pooling | None = None) -> Report | TagReport:
    """Score a run folder or a group of them: labels or tags, as it was trained."""
    if open_runs(Path(folder))[0].is_tagging:
        return evaluate_tags(folder, part=part, how=how)
    return evaluate(folder, part=part, how=how)


def report_on_study(folder: str | Path, *, part: str = "test", how: Pooling | None = None) -> Study | TagStudy:
    """Score every variant of a study: labels or tags, as it was trained."""
    content = read_versioned_json(Path(folder) / STUDY_FILE, RUN_FORMAT_VERSION)
    first = children_of(Path(folder), content, STUDY_FILE)[0]
    if open_runs(first)[0].is_tagging:
        return evaluate_tag_study(folder, part=part, how=how)
    return evaluate_study(folder, part=part, how=how)


def compare_runs(first: str | Path, second: str | Path, *, how: Pooling | None = None) -> Comparison | TagComparison:
    """Compare two runs (or groups of them) of the same task.

    Raises
    ------
    RunError
        One names labels and the other tags, or they cannot be compared otherwise.
    """
    tagging = [open_runs(Path(folder))[0].is_tagging for folder in (first, second)]
    if tagging[0] != tagging[1]:
        raise RunError(
            f"{first} names {'tags' if tagging[0] else 'one label a track'}, "
            f"{second} {'tags' if tagging[1] else 'one label a track'}",
            valid="two runs of the same task",
        )
    return compare_tags(first, second, how=how) if tagging[0] else compare(first, second, how=how)


def render(report: Report | TagReport) -> str:
    """Write a report as one self-contained HTML page."""
    return render_tag_html(report) if isinstance(report, TagReport) else render_html(report)


def write_reports(folder: str | Path) -> tuple[Report | TagReport, ...]:
    """Write ``report.json`` and ``report.html`` into a run, a group of runs or every variant of a study.

    Every single run gets its predictions a track as well: ``predictions_test_tracks.csv`` and the same for validation,
    the segments scored together as the recipe says.

    Returns
    -------
    tuple of Report
        One; for a study, one a variant.

    Raises
    ------
    RunError
        A run is unfinished or damaged.
    """
    folder = Path(folder)
    if is_study(folder):
        content = read_versioned_json(folder / STUDY_FILE, RUN_FORMAT_VERSION)
        return tuple(_write(path) for path in children_of(folder, content, STUDY_FILE))
    return (_write(folder),)


def _write(folder: Path) -> Report | TagReport:
    report = report_on(folder)
    write_text_atomic(folder / "report.json", report.to_json())
    write_text_atomic(folder / "report.html", render(report))
    for run in open_runs(folder):
        for part in PARTS:
            if (run.folder / f"predictions_{part}.csv").is_file():
                _write_tracks(run, part)
    return report


def _write_tracks(run: Run, part: str) -> None:
    """Write the predictions of a part once more, one row a track."""
    path = run.folder / f"predictions_{part}_tracks.csv"
    if run.is_tagging:
        write_tag_predictions(run.tag_predictions(part).by_track(run.scoring), path)
    else:
        write_predictions(run.predictions(part).by_track(run.scoring), path)
