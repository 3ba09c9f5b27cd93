"""Evaluate a study, recipes that differ in one thing, each held against the first; leave reports in run folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musicgenre._files import write_text_atomic
from musicgenre._text import how_many
from musicgenre.evaluation.compare import Comparison, compare
from musicgenre.evaluation.evaluate import PARTS, evaluate
from musicgenre.evaluation.html import render_html
from musicgenre.evaluation.metrics import holm, p_in_words
from musicgenre.evaluation.report import Report, TagReport
from musicgenre.models.pooling import Pooling
from musicgenre.runs.folder import is_study, open_runs, open_study
from musicgenre.runs.predictions import write_predictions

_NARROWEST_COLUMN = 22
"""An estimate with its interval and two blanks fit into a column of this width."""


@dataclass(frozen=True, slots=True)
class Study:
    """Reports of all variants and how each differs from the first.

    Parameters
    ----------
    recipe : str
        Name of the recipe that holds the study.
    variants : tuple of str
        Names of the variants.
    reports : tuple of Report
        One a variant, all of one task.
    differences : tuple of Comparison
        Every variant but the first against the first, on the same test tracks.
    """

    recipe: str
    variants: tuple[str, ...]
    reports: tuple[Report, ...]
    differences: tuple[Comparison, ...]

    def to_text(self) -> str:
        """Plain text for the terminal."""
        first = self.reports[0]
        lines = [f"{self.recipe}: {how_many(len(self.variants), 'variant')}", f"  {first.setting}"]
        lines += [f"  ! {warning}." for warning in first.warnings]

        heads = [f"{name + ', 95 %':<{_NARROWEST_COLUMN}}" for name, _ in first.columns()]
        measure = self.differences[0].brief[0] if self.differences else ""
        against = f"{measure} against {self.variants[0]}, 95 %, p".strip()
        width = max(len("variant"), *(len(name) for name in self.variants))
        lines.append("  ".join([f"  {'variant':<{width}}", *heads, against]))

        # The first variant is what all others are held against; of several tests p is corrected for their number.
        words = [""]
        corrected = holm([comparison.brief[2] for comparison in self.differences])
        for comparison, p_value in zip(self.differences, corrected, strict=True):
            found = comparison.brief[1]
            words.append(f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}], {p_in_words(p_value)}")
        for name, report, difference in zip(self.variants, self.reports, words, strict=True):
            cells = []
            for head, (_, found) in zip(heads, report.columns(), strict=True):
                cells.append(f"{found!s:<{len(head)}}")
            lines.append("  ".join([f"  {name:<{width}}", *cells, difference]).rstrip())

        if len(self.differences) > 1:
            lines.append(f"  p corrected for {len(self.differences)} tests (Holm)")
        return "\n".join(lines) + "\n"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        plain: dict[str, Any] = {"recipe": self.recipe}
        if isinstance(self.reports[0], TagReport):
            plain["task"] = "multi_label"
        plain["variants"] = dict(zip(self.variants, (report.as_dict() for report in self.reports), strict=True))
        plain["differences"] = [difference.as_dict() for difference in self.differences]
        return plain


def evaluate_study(folder: str | Path, *, part: str = "test", pooling: Pooling | None = None) -> Study:
    """Score every variant of a study and compare it with the first.

    Parameters
    ----------
    folder : str or Path
        The folder with `study.json`.
    part : {"test", "validation"}
        Which predictions are scored and compared: nothing told of one part is measured on the other.
    pooling : {"mean", "max", "vote"}, optional
        How the segments of a track score together; what each recipe says by default. Tags take no vote.

    Raises
    ------
    RunError
        The folder holds no study, or one of its runs cannot be read.
    """
    recipe, paths = open_study(Path(folder))
    return Study(
        recipe=recipe,
        variants=tuple(path.name for path in paths),
        reports=tuple(evaluate(path, part=part, pooling=pooling) for path in paths),
        differences=tuple(compare(paths[0], path, part=part, pooling=pooling) for path in paths[1:]),
    )


def write_reports(folder: str | Path) -> tuple[Report, ...]:
    """Write `report.json` and `report.html` into a run, a group of runs or every variant of a study.

    Every single run gets its predictions per track as well: `predictions_test_tracks.csv` and the same for validation,
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
    paths = open_study(folder)[1] if is_study(folder) else [folder]
    reports = []
    for path in paths:
        report = evaluate(path)
        write_text_atomic(path / "report.json", report.to_json())
        write_text_atomic(path / "report.html", render_html(report))
        reports.append(report)

        for run in open_runs(path):
            for part in PARTS:  # a run need not have both
                if not run.files.predictions(part).is_file():
                    continue
                segments = run.tag_predictions(part) if run.is_tagging else run.predictions(part)
                write_predictions(segments.by_track(run.pooling), run.files.predictions(f"{part}_tracks"))
    return tuple(reports)
