"""Options that `library plan` and `library watch` share: what is heard, and what is proposed for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from musicgenre.cli._options import GenreChoice
from musicgenre.errors import UsageError

MaxGenres = Annotated[int, typer.Option("--max-genres", min=1, max=20, help="Genres per track at most.")]
Style = Annotated[bool, typer.Option("--style", help="Also propose the style heard, with --max-genres 2 or more.")]
Mood = Annotated[bool, typer.Option("--mood", help="Also write moods, into a field of their own.")]
Decade = Annotated[
    str, typer.Option("--decade", help="Also write the decade heard, into 'grouping' or a field of this name.")
]
MapFile = Annotated[Path | None, typer.Option("--map", help="TOML file from labels to your own genres.")]
Model = Annotated[str, typer.Option("--model", help="'default', a taught model, a tagger, or a bundle file.")]
Coverage = Annotated[
    str | None, typer.Option("--coverage", help="Seconds of each track to hear, evenly spread, or 'full'.")
]
Level = Annotated[str | None, typer.Option("--level", help="Bring tracks to this RMS in dBFS, or 'off'.")]
Exclude = Annotated[
    list[str] | None, typer.Option("--exclude", help="Leave out files or folders that match this glob.")
]
Jobs = Annotated[int | None, typer.Option("--jobs", min=1, max=256, help="Tracks at a time.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, max=256, help="Threads a track.")]


def check_style(style: bool, max_genres: int, genres: GenreChoice) -> None:
    """Refuse a style that would come to nothing."""
    if style and genres is GenreChoice.wide:
        raise UsageError("--style and --genres wide both name more than the ten", next_step="Leave --style out")
    if style and max_genres < 2:
        raise UsageError("--style adds a second genre", next_step="Add --max-genres 2")


def decade_field(decade: str) -> str:
    """Field that a decade goes into: none, grouping, or one of the person's own, which must not be taken."""
    from musicgenre.filetags.base import check_field

    field = decade if decade in ("", "grouping") else f"custom:{decade.upper()}"
    if field:
        check_field(field)
    return field
