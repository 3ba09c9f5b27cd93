"""Leave the report in the run folder: what was measured lies beside what made it."""

from __future__ import annotations

from pathlib import Path

from musicgenre._files import write_text_atomic
from musicgenre.evaluation.evaluate import PARTS, evaluate
from musicgenre.evaluation.html_report import render_html
from musicgenre.evaluation.predictions import write_predictions
from musicgenre.evaluation.report import Report
from musicgenre.evaluation.runs import RUN_FORMAT_VERSION, children_of, open_runs, read_versioned_json
from musicgenre.evaluation.study import STUDY_FILE, is_study


def write_reports(folder: str | Path) -> tuple[Report, ...]:
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


def _write(folder: Path) -> Report:
    report = evaluate(folder)
    write_text_atomic(folder / "report.json", report.to_json())
    write_text_atomic(folder / "report.html", render_html(report))
    for run in open_runs(folder):
        for part in PARTS:
            if (run.folder / f"predictions_{part}.csv").is_file():
                tracks = run.predictions(part).by_track(run.scoring)
                write_predictions(tracks, run.folder / f"predictions_{part}_tracks.csv")
    return report
