"""Evaluate a study: several recipes that differ in one thing, each held against the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musicgenre.errors import RunError
from musicgenre.evaluation.compare import Comparison, compare
from musicgenre.evaluation.evaluate import evaluate
from musicgenre.evaluation.report import Report
from musicgenre.models.pooling import Pooling
from musicgenre.runs.runs import RUN_FORMAT_VERSION, children_of, open_runs, read_versioned_json

STUDY_FILE = "study.json"


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
        One a variant.
    differences : tuple of Comparison
        Every variant but the first against the first, on the same test tracks.
    """

    recipe: str
    variants: tuple[str, ...]
    reports: tuple[Report, ...]
    differences: tuple[Comparison, ...]

    def to_text(self) -> str:
        """Plain text for the terminal."""
        width = max(len(name) for name in self.variants)
        first = self.reports[0]
        lines = [f"{self.recipe}: {len(self.variants)} variants", f"  {first.setting}"]
        lines += [f"  ! {warning}." for warning in first.warnings]
        lines.append(f"  {'variant':<{width}}  track-level accuracy, 95 %  against {self.variants[0]}, 95 %, p")
        for number, (name, report) in enumerate(zip(self.variants, self.reports, strict=True)):
            against = _difference(self.differences[number - 1]) if number else ""
            lines.append(f"  {name:<{width}}  {report.accuracy!s:<26}  {against}".rstrip())
        if len(self.variants) > 2:
            lines.append(
                f"  {len(self.differences)} tests at once: a p below 0.05 is to be expected by chance now and then."
            )
        return "\n".join(lines) + "\n"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        return {
            "recipe": self.recipe,
            "variants": dict(zip(self.variants, (report.as_dict() for report in self.reports), strict=True)),
            "differences": [difference.as_dict() for difference in self.differences],
        }


def is_study(folder: Path) -> bool:
    """Whether the folder holds a study."""
    return (folder / STUDY_FILE).is_file()


def evaluate_study(folder: str | Path, *, part: str = "test", how: Pooling | None = None) -> Study:
    """Score every variant of a study and compare it with the first.

    Raises
    ------
    RunError
        The folder holds no study, or one of its runs cannot be read.
    """
    folder = Path(folder)
    if not is_study(folder):
        raise RunError(f"{folder} holds no study: it has no {STUDY_FILE}")
    content = read_versioned_json(folder / STUDY_FILE, RUN_FORMAT_VERSION)
    paths: Sequence[Path] = children_of(folder, content, STUDY_FILE)
    if open_runs(paths[0])[0].is_tagging:
        raise RunError(
            f"{folder} is a study of taggers", valid="evaluate_tag_study of musicgenre.evaluation.tag_study takes it"
        )
    return Study(
        recipe=str(content.get("recipe", folder.name)),
        variants=tuple(path.name for path in paths),
        reports=tuple(evaluate(path, part=part, how=how) for path in paths),
        differences=tuple(compare(paths[0], path, how=how) for path in paths[1:]),
    )


def _difference(found: Comparison) -> str:
    return f"{found.difference:+.3f} [{found.low:+.3f}, {found.high:+.3f}], p = {found.p_value:.3f}"
