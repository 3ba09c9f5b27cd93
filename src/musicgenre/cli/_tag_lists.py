"""Plumbing of the data commands: options for lists with many tags a clip, and reading such a list."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from musicgenre.errors import UsageError

if TYPE_CHECKING:
    from musicgenre.data.index import Index
    from musicgenre.data.sets import DataSet

Tags = Annotated[
    str | None,
    typer.Option("--tags", metavar="SET|A,B,C", help="Lists of tags: top50, all, a category, or names (see the set)."),
]
Merge = Annotated[bool, typer.Option("--merge-synonyms", help="Lists of tags: words for the same thing are one tag.")]
Drop = Annotated[bool, typer.Option("--drop-untagged", help="Lists of tags: leave out clips with none of the tags.")]
GroupBy = Annotated[
    str | None,
    typer.Option("--group-by", metavar="artist|album", help="Lists of tags: group tracks by artist or by album."),
]
Clips = Annotated[
    Path | None,
    typer.Option("--clips", metavar="FOLDER", help="Lists of tags: where the clips are."),
]
Files = Annotated[
    bool,
    typer.Option(
        "--files/--no-files", help="Lists of tags: check that each clip exists, or list every row without checking."
    ),
]


@dataclass(frozen=True)
class Asked:
    """What the options for lists of tags asked for.

    Parameters
    ----------
    tags, merge_synonyms, drop_untagged, group, clips, files
        The options, at their defaults where they were not given.
    """

    tags: str | None = None
    merge_synonyms: bool = False
    drop_untagged: bool = False
    group: str | None = None
    clips: Path | None = None
    files: bool = True

    def options(self, data_set: DataSet | None, labels: list[str] | None) -> dict[str, object]:
        """Give the options that were given, if the set takes them; `labels`: what `--labels` says."""
        given: dict[str, object] = {
            "tags": self.tags,
            "merge_synonyms": self.merge_synonyms or None,
            "drop_untagged": self.drop_untagged or None,
            "group": self.group,
            "clips": self.clips,
            "files": None if self.files else False,
        }
        options = {name: value for name, value in given.items() if value is not None}

        takes = data_set.options if data_set is not None else ()
        if unknown := [name for name in options if name not in takes]:
            flag = {"group": "group-by", "files": "no-files"}.get(unknown[0], unknown[0].replace("_", "-"))
            what = data_set.name if data_set else "a folder of genres or a CSV of one's own"
            raise UsageError(f"{what} takes no --{flag}", valid="A list of tags, see `musicgenre data info`")
        if "tags" in takes and labels:
            raise UsageError("--labels goes with genres", valid="--tags for a list of tags")
        return options


def read(
    source: Path, asked: Asked, labels: list[str] | None, artists: Path | None, *, checksums: bool, quiet: bool
) -> Index | None:
    """Index a data set's own list or folder, such as MagnaTagATune's annotations; None when the source is none.

    Parameters
    ----------
    source : Path
        A file or folder.
    asked : Asked
        The options for lists of tags.
    labels : list of str or None
        The only labels to take.
    artists : Path or None
        A CSV of artist groups.
    checksums, quiet : bool
        Whether to add md5; whether to show no progress.
    """
    from musicgenre.cli._terminal import counting
    from musicgenre.data._csv import check_readable
    from musicgenre.data.index import read_artists, with_chosen_labels
    from musicgenre.data.sets import set_that_reads

    data_set = set_that_reads(source)
    if data_set is None and asked != Asked() and source.is_file():
        check_readable(source)  # what cannot be read at all may well be a list of tags
    options = asked.options(data_set, labels)
    if data_set is None:
        return None
    if "checksums" in data_set.options:
        options["checksums"] = checksums

    what = "a folder" if source.is_dir() else "a list"
    typer.echo(
        f"read as {what} in the form of {data_set.title}; if it is that set: {data_set.licence}\n"
        f"cite: {data_set.citation}",
        err=True,
    )
    groups = read_artists(artists) if artists else None
    with counting("read", quiet=quiet) as progress:
        found = data_set.list_tracks(source, artists=groups, progress=progress, **options)
    if labels:
        found = dataclasses.replace(found, manifest=with_chosen_labels(found.manifest, labels))
    return found
