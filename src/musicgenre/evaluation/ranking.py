"""Any number of runs in one table: sorted by score, each held against one of them, and written for a paper.

The tests are paired by track and corrected for their number. A row also says what a run cost: parameters, epochs,
seconds an epoch and the size of its weights.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from musicgenre._text import how_many, printable
from musicgenre.errors import RunError, UsageError
from musicgenre.evaluation.compare import Comparison, compare
from musicgenre.evaluation.evaluate import evaluate
from musicgenre.evaluation.metrics import Estimate, holm, p_in_words
from musicgenre.evaluation.report import Report
from musicgenre.models.pooling import Pooling
from musicgenre.runs.folder import Run, names_of_runs, open_runs

FEWEST_RUNS = 2

_LATEX_NAME = 20  # characters of a name on one line
_MEGABYTE = 1e6
_LATEX = {
    **{character: "\\" + character for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",  # which the plain font has no sign for
    ">": "$>$",
    "±": r"$\pm$",
    "−": "$-$",
}


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run cost, mean over its seeds and folds; None where its folder does not say.

    Parameters
    ----------
    parameter_count : int or None
        Parameters of the model.
    epochs, best_epoch : float or None
        Epochs trained, and the one whose weights were kept, counted from 1; None of a model that is fitted at once.
    seconds_per_epoch : float or None
        Wall-clock time.
    size_mb : float or None
        Weights in the run folder, in megabytes (10^6 bytes).
    """

    parameter_count: int | None
    epochs: float | None
    best_epoch: float | None
    seconds_per_epoch: float | None
    size_mb: float | None


@dataclass(frozen=True, slots=True)
class RankedRun:
    """One row.

    Parameters
    ----------
    name : str
        Name of the folder, as far as it takes to tell the runs apart.
    folder : Path
        The folder.
    report : Report
        What was measured.
    cost : Cost
        What it cost.
    difference : Estimate or None
        This run minus the one that all are held against, on the tracks that both answered; None for that run itself.
    p_value, corrected_p_value : float or None
        Of the paired test, and after Holm's correction for the number of tests.
    """

    name: str
    folder: Path
    report: Report
    cost: Cost
    difference: Estimate | None
    p_value: float | None
    corrected_p_value: float | None

    def score(self, measure: str) -> Estimate:
        """One of the measures of its report."""
        return dict(self.report.columns())[measure]


@dataclass(frozen=True, slots=True)
class Ranking:
    """Runs by score, the best first. Build it with `rank`.

    Parameters
    ----------
    measure : str
        What they are sorted and tested by, as `accuracy` or `macro F1`.
    against : str
        Name of the run that the others are held against.
    protocol, part : str
        Protocol that all stand under, and the part of the data that was scored.
    rows : tuple of RankedRun
        The best first.
    warnings : tuple of str
        What a reader must know, once each.
    """

    measure: str
    against: str
    protocol: str
    part: str
    rows: tuple[RankedRun, ...]
    warnings: tuple[str, ...]

    @property
    def caption(self) -> str:
        """One sentence that says what the table shows."""
        tracks = sorted({row.report.n_tracks for row in self.rows})
        n_tracks = f"{tracks[0]:,} to {tracks[-1]:,} tracks"
        if len(tracks) == 1:
            n_tracks = how_many(tracks[0], "track")
        n_tests = len(self.rows) - 1
        correction = f", p corrected for {n_tests} tests (Holm)" if n_tests > 1 else ""
        return (
            f"Runs by {self.measure} with 95 % intervals; protocol {self.protocol}, {self.part} part, "
            f"{n_tracks}. Differences from {self.against} are paired by track{correction}."
        )

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Heads of the columns, and the cells of each row as words; columns without any word are left out."""
        measures = [name for name, _ in self.rows[0].report.columns()]
        heads = [
            "run",
            *measures,
            "difference",
            "p",
            "seeds",
            "parameters",
            "epochs (best)",
            "s an epoch",
            "MB",
        ]
        rows = []
        for row in self.rows:
            difference, p_value = "", ""
            if row.difference is not None and row.corrected_p_value is not None:
                found = row.difference
                difference = f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
                p_value = p_in_words(row.corrected_p_value).removeprefix("p ").removeprefix("= ")
            rows.append(
                [
                    row.name,
                    *(str(row.score(measure)) for measure in measures),
                    difference,
                    p_value,
                    str(len(row.report.seed_numbers)),
                    *_cost_in_words(row.cost),
                ]
            )

        kept = [column for column in range(len(heads)) if any(row[column] for row in rows)]
        return [heads[column] for column in kept], [[row[column] for column in kept] for row in rows]

    def to_text(self) -> str:
        """Plain text for the terminal."""
        heads, rows = self.table()
        widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
        lines = [self.caption, *(f"! {warning}." for warning in self.warnings), ""]
        for cells in (heads, *rows):
            lines.append("  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip())
        return "\n".join(lines) + "\n"

    def to_csv(self) -> str:
        """Comma-separated values with whole numbers: one column for every value and both ends of its interval."""
        measures = [name for name, _ in self.rows[0].report.columns()]
        heads = ["run", "recipe", "protocol", "part", "n_tracks", "n_seeds"]
        for measure in (*measures, "difference"):
            heads += [measure, f"{measure} low", f"{measure} high"]
        heads += ["p", "p corrected", *Cost.__dataclass_fields__]

        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(heads)
        for row in self.rows:
            report = row.report
            cells: list[object] = [row.name, report.recipe, self.protocol, self.part, report.n_tracks]
            cells.append(len(report.seed_numbers))
            for found in (*(row.score(measure) for measure in measures), row.difference):
                cells += ["", "", ""] if found is None else [found.value, found.low, found.high]
            cells += [row.p_value, row.corrected_p_value, *asdict(row.cost).values()]
            writer.writerow(["" if cell is None else cell for cell in cells])
        return stream.getvalue()

    def to_markdown(self) -> str:
        """A Markdown table, the best score in bold."""
        heads, rows = self.table()
        lines = [self.caption, *(f"**{warning}.**" for warning in self.warnings)]
        text = "\n\n".join(lines) + "\n\n"
        table = [heads, [":---", *["---:"] * (len(heads) - 1)]]
        table += [[cell.replace("|", r"\|") for cell in cells] for cells in rows]
        table[2][self._column] = f"**{table[2][self._column]}**"
        return text + "".join("| " + " | ".join(cells) + " |\n" for cells in table)

    def to_latex(self) -> str:
        r"""A table for LaTeX that needs `\usepackage{booktabs}`, the best score in bold, no empty column.

        Scores stand above and costs below, so that a plain article has room for both.
        """
        heads, rows = self.table()
        # an interval stands under its value, for the page is narrow
        cells = [[_stacked(cell.replace(" [", "\n[").split("\n")) for cell in row] for row in rows]
        cells[0][self._column] = rf"\textbf{{{cells[0][self._column]}}}"
        for row, words in zip(cells, rows, strict=True):
            row[0] = _stacked(_in_lines(words[0]), side="[l]")

        n_scores = heads.index("seeds")
        halves = range(1, n_scores), range(n_scores, len(heads))
        notes = " ".join(f"{warning[0].upper()}{warning[1:]}." for warning in self.warnings)
        lines = [
            "% needs \\usepackage{booktabs}",
            r"\begin{table}",
            r"  \centering\footnotesize\setlength{\tabcolsep}{3pt}\setlength{\belowcaptionskip}{6pt}",
            rf"  \caption{{{_latex(' '.join(filter(None, (self.caption, notes))))}}}",
            rf"  \label{{tab:runs-by-{re.sub('[^a-z0-9]+', '-', self.measure.lower())}}}",
        ]
        for half in halves:
            columns = [0, *half]
            end = r" \\[3pt]" if half is halves[0] else r" \\"  # rows of two lines stand apart
            lines += [
                rf"  \begin{{tabular}}{{l{'r' * len(half)}}}",
                r"    \toprule",
                "    " + " & ".join(_stacked(heads[column].rsplit(" ", 1)) for column in columns) + r" \\",
                r"    \midrule",
                *("    " + " & ".join(row[column] for column in columns) + end for row in cells),
                r"    \bottomrule",
                r"  \end{tabular}",
            ]
            if half is halves[0]:
                lines.append(r"  \par\medskip")
        lines.append(r"\end{table}")
        return "\n".join(lines) + "\n"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        rows = []
        for row in self.rows:
            rows.append(
                {
                    "name": row.name,
                    "recipe": row.report.recipe,
                    "n_tracks": row.report.n_tracks,
                    "seeds": list(row.report.seed_numbers),
                    "scores": {name: asdict(found) for name, found in row.report.columns()},
                    "difference": None if row.difference is None else asdict(row.difference),
                    "p_value": row.p_value,
                    "corrected_p_value": row.corrected_p_value,
                    **asdict(row.cost),
                }
            )
        facts = ("measure", "against", "protocol", "part")
        plain: dict[str, Any] = {name: getattr(self, name) for name in facts}
        return {**plain, "correction": "Holm", "warnings": list(self.warnings), "runs": rows}

    @property
    def _column(self) -> int:
        """Place of the measure among the cells of a row."""
        return 1 + [name for name, _ in self.rows[0].report.columns()].index(self.measure)


def rank(
    folders: Sequence[str | Path],
    *,
    against: str | Path | None = None,
    measure: str | None = None,
    part: str = "test",
    pooling: Pooling | None = None,
) -> Ranking:
    """Sort runs (or groups of seeds and folds) by score, and hold each against one of them.

    Parameters
    ----------
    folders : sequence of str or Path
        Run folders or groups, two at least, all of one task, one protocol and the same labels.
    against : str or Path, optional
        The one that the others are held against; the first by default.
    measure : str, optional
        Start of a measure's name: `accuracy` or `f1`, for tags `roc` or `pr`. The first of their report by default.
    part : {"test", "validation"}
        Which predictions are scored.
    pooling : {"mean", "max", "vote"}, optional
        How the segments of a track score together; what each recipe says by default.

    Returns
    -------
    Ranking
        The best first.

    Raises
    ------
    RunError
        There are fewer than two, or two of them cannot be compared.
    UsageError
        There is no such measure, or `against` is none of the runs.
    """
    paths = list(dict.fromkeys(Path(folder).resolve() for folder in folders))
    if len(paths) < FEWEST_RUNS:
        raise RunError("one run alone cannot be compared", next_step="Name two different runs or more")
    reference = paths[0] if against is None else Path(against).resolve()
    if reference not in paths:
        raise UsageError(
            f"{printable(against or '')} is none of the runs to compare",
            valid=", ".join(printable(path) for path in paths),
            next_step="Name it among the runs, too",
        )

    reports = [evaluate(path, part=part, pooling=pooling) for path in paths]
    chosen = _measure_of(reports[0], measure)
    comparisons: dict[Path, Comparison] = {}
    for path in paths:
        if path != reference:
            comparisons[path] = compare(reference, path, part=part, pooling=pooling)
    tested = {path: found.difference_in(chosen) for path, found in comparisons.items()}
    corrected = dict(zip(tested, holm([p_value for _, p_value in tested.values()]), strict=True))

    names = dict(zip(paths, names_of_runs(paths), strict=True))
    rows = []
    for path, report in zip(paths, reports, strict=True):
        difference, p_value = tested.get(path, (None, None))
        cost = _cost_of(open_runs(path), report)
        rows.append(RankedRun(names[path], path, report, cost, difference, p_value, corrected.get(path)))
    rows.sort(key=lambda row: -row.score(chosen).value)

    warnings = dict.fromkeys(warning for report in reports for warning in report.warnings)
    warnings |= dict.fromkeys(text for found in comparisons.values() for text in found.warnings)
    return Ranking(chosen, names[reference], reports[0].protocol, part, tuple(rows), tuple(warnings))


WRITERS: Mapping[str, Callable[[Ranking], str]] = {
    "text": Ranking.to_text,
    "csv": Ranking.to_csv,
    "markdown": Ranking.to_markdown,
    "latex": Ranking.to_latex,
}
"""Plain forms by name; HTML is in `html.py`."""


def _measure_of(report: Report, wanted: str | None) -> str:
    names = [name for name, _ in report.columns()]
    if wanted is None:
        return names[0]
    plain = wanted.lower().replace("-", " ").replace("_", " ")
    for name in names:
        if plain in name.lower().replace("-", " "):
            return name
    raise UsageError(
        f"there is no measure {wanted!r} of {report.recipe}", valid=", ".join(names), next_step="Choose one of these"
    )


def _cost_of(runs: Sequence[Run], report: Report) -> Cost:
    """Means over seeds and folds of what the folders say."""
    epochs, best, seconds = [], [], []
    for run in runs:
        measured = [value for value in run.curves().get("seconds", []) if value is not None]
        if measured:
            seconds.append(float(np.median(measured)))  # the first epoch also warms up
        if run.info.get("epochs") == 1 and not measured:  # a classical model is fitted at once
            continue
        if run.info.get("epochs"):
            epochs.append(run.info["epochs"])
        if run.info.get("best_epoch") is not None:
            best.append(run.info["best_epoch"] + 1)
    sizes = [run.files.weights.stat().st_size for run in runs if run.files.weights.is_file()]
    return Cost(
        report.parameter_count,
        _mean(epochs),
        _mean(best),
        _mean(seconds),
        _mean([size / _MEGABYTE for size in sizes]),
    )


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _cost_in_words(cost: Cost) -> list[str]:
    epochs = ""
    if cost.epochs is not None:
        best = "" if cost.best_epoch is None else f" ({cost.best_epoch:.3g})"
        epochs = f"{cost.epochs:.4g}{best}"
    return [
        "" if cost.parameter_count is None else f"{cost.parameter_count:,d}",
        epochs,
        "" if cost.seconds_per_epoch is None else f"{cost.seconds_per_epoch:.3g}",
        "" if cost.size_mb is None else f"{cost.size_mb:.3g}",
    ]


def _in_lines(name: str) -> list[str]:
    """Break a long name behind its hyphens, strokes and dots, for the page is narrow."""
    lines = [""]
    for piece in re.findall(r"[^-/_.]*[-/_.]|[^-/_.]+", name):
        if lines[-1] and len(lines[-1]) + len(piece) > _LATEX_NAME:
            lines.append("")
        lines[-1] += piece
    return lines


def _stacked(parts: Sequence[str], side: str = "") -> str:
    """Words for LaTeX, each part under the one before; `side` as `shortstack` takes it."""
    if len(parts) == 1:
        return _latex(parts[0])
    lines = r"\\{}".join(map(_latex, parts))  # {}: a bracket behind \\ would be its option
    return rf"\shortstack{side}{{{lines}}}"


def _latex(text: str) -> str:
    text = re.sub(r"(?<!\w)-(?=\d)", "−", text)  # of a number; names keep their hyphens
    return "".join(_LATEX.get(character, character) for character in text)
