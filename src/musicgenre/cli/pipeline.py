"""`musicgenre pipeline`: from labelled music to a model that is served, in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def pipeline(
    file: Annotated[Path, typer.Argument(help="YAML that says what to do; see docs/pipeline.md.")],
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")] = False,
) -> None:
    """Index, split, train, evaluate, gate, export, deploy and ask: what is done and unchanged is not done again.

    The last line is the version that is served. Exit code: 0 deployed, 1 the model was refused, 2 misuse.
    """
    from musicgenre.audio import decoding_apart
    from musicgenre.cli._options import report_line, report_warnings
    from musicgenre.cli._terminal import watching_training
    from musicgenre.errors import needing, require

    require("'musicgenre pipeline'", "train", "torch", "lightning", "pydantic", "yaml")
    with needing("'musicgenre pipeline'", "train"):
        from musicgenre.pipeline.file import read_pipeline

        read_pipeline(file)  # what is wrong with it is told before torch is loaded, which takes seconds
        from musicgenre.pipeline.run import run_pipeline

    report_warnings()
    with decoding_apart(), watching_training(quiet=quiet) as (advance, note):
        done = run_pipeline(file, report=report_line, progress=advance, scores=note)

    if done.version is None:
        report_line(f"refused: {done.refusal}")
        raise typer.Exit(1)
    typer.echo(done.version.folder)
