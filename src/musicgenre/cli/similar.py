"""`musicgenre similar`: the tracks of a library that sound most like a track."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from musicgenre.cli._options import MaxDuration, parse_settings, print_playlist


class ListFormat(StrEnum):
    """How the tracks are printed."""

    table = "table"
    json = "json"
    m3u8 = "m3u8"


def similar(
    track: Annotated[str, typer.Argument(help="A track of the index (path or file name), or any audio file.")],
    index: Annotated[Path, typer.Option("--index", help="A file or folder that `musicgenre embed` wrote.")],
    top: Annotated[int, typer.Option("--top", min=1, help="How many tracks to find.")] = 10,
    model: Annotated[
        str | None, typer.Option("--model", help="Hears a new track; default: the index's own model.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of vggish or transformer in place of the index's, key=value."),
    ] = None,
    max_duration_s: MaxDuration = None,
    output_format: Annotated[
        ListFormat, typer.Option("--format", help="How they are printed; m3u8 is a playlist.")
    ] = ListFormat.table,
) -> None:
    """Find the tracks of an index that sound most like a track, by the cosine of their embeddings."""
    from musicgenre._text import printable
    from musicgenre.embedding.similar import SimilarityIndex, similar

    library = SimilarityIndex.open(index)
    found = similar(
        track,
        library,
        top=top,
        model=model,
        options=parse_settings(settings or []),
        max_duration_s=max_duration_s,
        report=lambda warning: typer.echo(f"note: {printable(warning)}", err=True),
    )

    if output_format is ListFormat.json:
        import json

        neighbours = [{"path": printable(entry.path), "cosine": round(entry.cosine, 6)} for entry in found]
        record = {"track": printable(track), "model": library.settings.model, "neighbours": neighbours}
        typer.echo(json.dumps(record))
        return

    if output_format is ListFormat.m3u8:
        print_playlist([entry.path for entry in found])
        return

    if not found:
        typer.echo(f"{printable(index)} holds no other track", err=True)
    for entry in found:
        typer.echo(f"{entry.cosine:7.4f}  {printable(entry.path)}")
