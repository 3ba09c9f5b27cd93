"""Evaluate a study of taggers: several recipes that differ in one thing, each held against the first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musicgenre.evaluation.tag_compare import Difference, TagComparison, compare_tags
from musicgenre.evaluation.tag_evaluate import evaluate_tags
from musicgenre.evaluation.tag_report import TagReport
from musicgenre.models.pooling import Pooling
from musicgenre.runs.runs import RUN_FORMAT_VERSION, children_of, read_versioned_json

STUDY_FILE = "study.json"


@dataclass(frozen=True, slots=True)
class TagStudy:
    """Reports of all variants and how each differs from the first.

    Parameters
    ----------
    recipe : str
        Name of the recipe that holds the study.
    variants : tuple of str
        Names of the variants.
    reports : tuple of TagReport
        One a variant.
    differences : tuple of TagComparison
        Every variant but the first against the first, on the same test tracks.
    """

    recipe: str
    variants: tuple[str, ...]
    reports: tuple[TagReport, ...]
    differences: tuple[TagComparison, ...]

    def to_text(self) -> str:
        """Plain text for the terminal."""
        width = max(len("variant"), *(len(name) for name in self.variants))
        first = self.reports[0]
        lines = [f"{self.recipe}: {len(self.variants)} variants", f"  {first.setting}"]
        lines += [f"  ! {warning}." for warning in first.warnings]
        against = f"against {self.variants[0]}, 95 %, p"
        lines.append(
            f"  {'variant':<{width}}  {'mean ROC-AUC, 95 %':<22}  {'mean PR-AUC, 95 %':<22}  PR-AUC {against}"
        )
        for number, (name, report) in enumerate(zip(self.variants, self.reports, strict=True)):
            difference = _words(self.differences[number - 1].differences[1]) if number else ""
            lines.append(f"  {name:<{width}}  {report.roc_auc!s:<22}  {report.pr_auc!s:<22}  {difference}".rstrip())
        if len(self.variants) > 2:
            lines.append(
                f"  {len(self.differences)} tests at once: a p below 0.05 is to be expected by chance now and then."
            )
        return "\n".join(lines) + "\n"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        return {
            "recipe": self.recipe,
            "task": "multi_label",
            "variants": dict(zip(self.variants, (report.as_dict() for report in self.reports), strict=True)),
            "differences": [difference.as_dict() for difference in self.differences],
        }


def evaluate_tag_study(folder: str | Path, *, part: str = "test", how: Pooling | None = None) -> TagStudy:
    """Score every variant of a study of taggers and compare it with the first.

    Raises
    ------
    RunError
        One of its runs cannot be read, or names labels.
    """
    folder = Path(folder)
    content = read_versioned_json(folder / STUDY_FILE, RUN_FORMAT_VERSION)
    paths = children_of(folder, content, STUDY_FILE)
    return TagStudy(
        recipe=str(content.get("recipe", folder.name)),
        variants=tuple(path.name for path in paths),
        reports=tuple(evaluate_tags(path, part=part, how=how) for path in paths),
        differences=tuple(compare_tags(paths[0], path, how=how) for path in paths[1:]),
    )


def _words(found: Difference) -> str:
    estimate = found.difference
    return f"{estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}], p = {found.p_value:.3f}"
