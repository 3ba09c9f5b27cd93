"""The registry of data sets, filled by the files of this folder and by plugins."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from musicgenre._registry import Registry
from musicgenre._text import shortened
from musicgenre.data.index import Index, Progress
from musicgenre.errors import UsageError

_SHOWN_LABELS = 20
_EVERY_INDEX_TAKES = ("artists", "progress")  # beside the source; what else one takes is an option of its set


@dataclass(frozen=True)
class Archive:
    """A file to download.

    Parameters
    ----------
    filename : str
        Its name on the disk.
    urls : tuple of str
        Where it is said to be, the likeliest first.
    checksum : str or None
        `md5:...` or `sha1:...` as published; None where the origin makes the file afresh at each request.
    checksum_origin : str
        Who published the checksum.
    """

    filename: str
    urls: tuple[str, ...]
    checksum: str | None = None
    checksum_origin: str = ""


class IndexFunction(Protocol):
    """The one signature of a data set's `index`; each further keyword has a default and is an option of the set."""

    def __call__(
        self, source: Path, /, *, artists: Mapping[str, str] | None = None, progress: Progress | None = None
    ) -> Index:
        """List the tracks of a copy of the set.

        Parameters
        ----------
        source : Path
            The set's folder, or its own list where the set `reads` one.
        artists : Mapping of str to str, optional
            Artist groups by track id, instead of the set's own.
        progress : callable, optional
            Told (files read, all files).
        """


@dataclass(frozen=True)
class DataSet:
    """The card of a data set and how to list its tracks.

    Parameters
    ----------
    name : str
        Its name on the command line.
    title : str
        Its full name.
    licence, citation, origin : str
        Under what terms, whom to cite, where it comes from.
    size_bytes : int
        About how much is downloaded.
    n_tracks : int
        Tracks when complete.
    labels : tuple of str
        Its genres, or tags.
    archives : tuple of Archive
        What to download and unpack.
    index : IndexFunction
        Lists its tracks.
    joined : str
        Name of the one archive that `archives` are consecutive pieces of; empty when each is whole.
    files : tuple of Archive
        What else to download, used as it is.
    label_kind : str
        What to call the labels.
    reads : callable
        `reads(path)` tells whether `data index` leaves this file or folder to `index`: the set's own list, or a layout
        that is not one folder a genre.
    track_ids : callable
        Gives the ids of all its tracks when they are known beforehand, else none.
    checksums : Archive or None
        The published list of checksums of its tracks.
    local_checksums : callable or None
        `local_checksums(folder)` gives checksums by track id where a copy of the set holds them.
    faults : Mapping of str to str
        Known faults of single tracks.
    notes : str
        What else to know.
    """

    name: str
    title: str
    licence: str
    citation: str
    origin: str
    size_bytes: int
    n_tracks: int
    labels: tuple[str, ...]
    archives: tuple[Archive, ...]
    index: IndexFunction
    joined: str = ""
    files: tuple[Archive, ...] = ()
    label_kind: str = "genres"
    reads: Callable[[Path], bool] = lambda _path: False
    track_ids: Callable[[], tuple[str, ...]] = tuple
    checksums: Archive | None = None
    local_checksums: Callable[[Path], dict[str, str]] | None = None
    faults: Mapping[str, str] = field(default_factory=dict)
    notes: str = ""

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options that `index` takes, such as `tags` and `checksums`."""
        keywords = list(inspect.signature(self.index).parameters)[1:]
        return tuple(name for name in keywords if name not in _EVERY_INDEX_TAKES)

    def list_tracks(
        self,
        source: Path,
        *,
        artists: Mapping[str, str] | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> Index:
        """Call `index` with options of the set.

        Raises
        ------
        UsageError
            If the set does not take one of them.
        """
        if unknown := [name for name in options if name not in self.options]:
            raise UsageError(
                f"{self.name} takes no option {unknown[0]!r}", valid=", ".join(self.options) or "It takes none"
            )

        index: Callable[..., Index] = self.index
        return index(source, artists=artists, progress=progress, **options)

    def card(self) -> str:
        """Describe the set in a few lines: licence and citation first of all."""
        lines = [
            f"{self.title} ({self.name})",
            f"  tracks    {self.n_tracks} in {len(self.labels)} {self.label_kind}: "
            f"{shortened(self.labels, _SHOWN_LABELS)}",
            f"  licence   {self.licence}",
            f"  citation  {self.citation}",
            f"  origin    {self.origin}",
            f"  download  {self.size_bytes / 1e9:.1f} GB",
        ]

        for archive in (*self.archives, *self.files):
            checked = f"{archive.checksum}, published by {archive.checksum_origin}" if archive.checksum else "none"
            lines.append(f"  archive   {archive.filename} from {' or '.join(archive.urls)} (checksum: {checked})")
        for track, what in self.faults.items():
            lines.append(f"  fault     {track}: {what}")
        if self.notes:
            lines.append(f"  note      {self.notes}")

        return "\n".join(lines)


_SETS: Registry[DataSet] = Registry("data set", "data sets", "musicgenre.data.sets", asks=True)


def register(data_set: DataSet) -> DataSet:
    """Add a data set and give it back; a name that is taken is an error."""
    return _SETS.add(data_set.name, data_set)


def list_sets() -> tuple[DataSet, ...]:
    """All data sets, by name."""
    return _SETS.entries()


def get_set(name: str) -> DataSet:
    """Find a data set by its name; `UsageError` names the nearest one where there is none."""
    return _SETS.get(name)


def set_that_reads(path: Path) -> DataSet | None:
    """Find the data set whose own list a file is, or whose own layout a folder has; one that fails is passed over."""
    for data_set in list_sets():
        try:
            if data_set.reads(path):
                return data_set
        except Exception as error:  # noqa: BLE001 - a plugin's mistake must not stop those who index something else
            warnings.warn(
                f"the data set {data_set.name} cannot tell whether it reads {path} ({type(error).__name__}: {error})",
                stacklevel=2,
            )
    return None
