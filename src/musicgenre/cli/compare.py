"""`musicgenre compare`: whether runs differ by more than chance, on the tracks that all were tested on."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from musicgenre.cli._options import format_of, write_or_print
from musicgenre.cli.evaluate import Part, Pooling

if TYPE_CHECKING:
    from musicgenre.evaluation.ranking import Ranking


class TableFormat(StrEnum):
    """How a comparison is written."""

    text = "text"
    json = "json"
    csv = "csv"
    markdown = "markdown"
    latex = "latex"
    html = "html"


_BY_SUFFIX = {
    ".txt": TableFormat.text,
    ".json": TableFormat.json,
    ".csv": TableFormat.csv,
    ".md": TableFormat.markdown,
    ".tex": TableFormat.latex,
    ".html": TableFormat.html,
}
_PAIR = 2


def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Two or more run folders, groups of seeds and folds, or searches.")
    ],
    part: Annotated[Part, typer.Option("--part", help="Whose tracks.")] = Part.test,
    pooling: Annotated[
        Pooling | None, typer.Option("--pooling", help="How segments score together; default: as the recipe says.")
    ] = None,
    measure: Annotated[
        str | None,
        typer.Option(
            "--measure", help="Sort and test by this: accuracy or f1, for taggers roc or pr.", metavar="NAME"
        ),
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", help="The run that the others are held against; default: the first.")
    ] = None,
    output_format: Annotated[
        TableFormat | None, typer.Option("--format", help="Default: text, or what --output's suffix says.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write here (.txt, .csv, .md, .tex, .html or .json).")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option("--figures", help="Folder for figures of every run, as SVG and PDF.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.", hidden=True)] = False,
) -> None:
    """Compare runs on the same tracks: scores, differences with 95 % intervals, paired tests, and what each cost.

    Two runs are told in words, more as a table, the best first. With several tests p is corrected by Holm's rule. Of a
    search its winner is meant.
    """
    from musicgenre._json import pretty_json
    from musicgenre._outputs import refuse_overwriting
    from musicgenre.runs.folder import files_of_runs

    runs = [_runs_of(run) for run in runs]
    against = None if against is None else _runs_of(against)
    kind = TableFormat.json if as_json else format_of(output_format, output, _BY_SUFFIX, TableFormat.text)
    inputs = [path for run in runs for path in files_of_runs(run)]
    if output is not None:
        refuse_overwriting(output, overwrite=overwrite, inputs=inputs)

    from musicgenre.evaluation.compare import compare as compare_runs
    from musicgenre.evaluation.ranking import rank

    chosen: Literal["mean", "max", "vote"] | None = None if pooling is None else pooling.value
    in_words = len(runs) == _PAIR and kind in (TableFormat.text, TableFormat.json) and figures is None
    if in_words and measure is None and against is None:
        pair = compare_runs(runs[0], runs[1], part=part.value, pooling=chosen)
        write_or_print(
            pretty_json(pair.as_dict()) if kind is TableFormat.json else pair.to_text(), output, overwrite=overwrite
        )
        return

    ranking = rank(runs, against=against, measure=measure, part=part.value, pooling=chosen)
    if figures is not None:
        _save_figures(ranking, figures, overwrite=overwrite)
    write_or_print(_render(ranking, kind), output, overwrite=overwrite)


def _runs_of(given: Path) -> Path:
    """The folder of runs that is meant: of a search its winner's; the name of a model is none."""
    from musicgenre.cli.evaluate import refuse_model
    from musicgenre.search.study import is_search, winner_of

    refuse_model(str(given))
    return winner_of(given) if is_search(given) else given


def _render(ranking: Ranking, kind: TableFormat) -> str:
    from musicgenre._json import pretty_json
    from musicgenre.evaluation.html import render_ranking
    from musicgenre.evaluation.ranking import WRITERS

    if kind is TableFormat.json:
        return pretty_json(ranking.as_dict())
    if kind is TableFormat.html:
        return render_ranking(ranking)
    return WRITERS[kind.value](ranking)


def _save_figures(ranking: Ranking, folder: Path, *, overwrite: bool) -> None:
    from musicgenre._files import writing_result
    from musicgenre._outputs import refuse_overwriting
    from musicgenre.evaluation.figures import file_names, save_figures

    for name in file_names(ranking):
        refuse_overwriting(folder / name, overwrite=overwrite, option="--figures")
    with writing_result(folder, "Give another --figures"):
        written = save_figures(ranking, folder)
    typer.echo(f"wrote {len(written)} figures to {folder}", err=True)
