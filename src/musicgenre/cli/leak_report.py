"""`musicgenre leak-report`: one model under four protocols, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def leak_report(
    recipe: Annotated[str, typer.Argument(help="A name of 'musicgenre recipes', or a YAML file.")],
    data: Annotated[Path, typer.Option("--data", help="The manifest, best with artists (data index --artists).")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change a key of the recipe, section.key=value; repeatable.")
    ] = None,
    folds: Annotated[
        int, typer.Option("--folds", min=0, max=1000, help="Folds of the protocols track and artist; 0: one split.")
    ] = 0,
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=1000, help="Trainings with different seeds.")] = 1,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="Folder of the runs and the report; default runs/leak-report-RECIPE."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with --output.")] = False,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, max=256, help="Processes that prepare; default one a core.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")] = False,
) -> None:
    """Train a recipe under segment-leaky, track, artist and fault-filtered, and show the four numbers side by side.

    A protocol that the data cannot give is said so. The last line is the folder with the runs and leak-report.html.
    """
    from musicgenre._parallel import usable_cores
    from musicgenre.audio import decoding_apart
    from musicgenre.cli._options import report_line, report_warnings
    from musicgenre.cli._terminal import counting_several
    from musicgenre.judging.leak_report import leak_report as report_leaks
    from musicgenre.runs.folder import check_output, output_folder

    if output is not None:
        check_output(output, resume)
    report_warnings()
    wanted = Path("runs") / f"leak-report-{Path(recipe).stem}"
    with output_folder(output, wanted) as folder, decoding_apart(), counting_several(quiet=quiet) as advance:
        found = report_leaks(
            recipe,
            data,
            folder,
            overrides=settings or [],
            folds=folds,
            seeds=seeds,
            resume=resume,
            jobs=jobs or usable_cores(),
            report=report_line,
            progress=advance,
        )
    typer.echo(found.to_text())
    typer.echo(folder)
