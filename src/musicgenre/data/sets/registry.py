"""The registry of data sets, filled by the files of this folder."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from musicgenre.data.index import Index
from musicgenre.errors import UsageError

_SETS: dict[str, DataSet] = {}
_SHOWN_LABELS = 20


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
        ``md5:...`` or ``sha1:...`` as published; None where the origin makes the file afresh at each request.
    checksum_origin : str
        Who published the checksum.
    """

    filename: str
    urls: tuple[str, ...]
    checksum: str | None = None
    checksum_origin: str = ""


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
    joined : str
        Name of the one archive that ``archives`` are consecutive pieces of; empty when each is whole.
    files : tuple of Archive
        What else to download, used as it is.
    label_kind : str
        What to call the labels.
    index : callable
        ``index(folder, artists=..., progress=...)`` lists its tracks.
    reads : callable
        ``reads(path)`` tells whether ``index`` takes this file: the set's own list.
    options : tuple of str
        Further options that ``index`` takes.
    track_ids : callable
        Gives the ids of all its tracks when they are known beforehand, else none.
    checksums : Archive or None
        The published list of checksums of its tracks.
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
    index: Callable[..., Index]
    joined: str = ""
    files: tuple[Archive, ...] = ()
    label_kind: str = "genres"
    reads: Callable[[Path], bool] = lambda _path: False
    options: tuple[str, ...] = ()
    track_ids: Callable[[], tuple[str, ...]] = tuple
    checksums: Archive | None = None
    local_checksums: Callable[[Path], dict[str, str]] | None = None
    faults: Mapping[str, str] = field(default_factory=dict)
    notes: str = ""

    def card(self) -> str:
        """Describe the set in a few lines: licence and citation first of all."""
        more = f" and {len(self.labels) - _SHOWN_LABELS} more" if len(self.labels) > _SHOWN_LABELS else ""
        named = ", ".join(self.labels[:_SHOWN_LABELS]) + more
        lines = [
            f"{self.title} ({self.name})",
            f"  tracks    {self.n_tracks} in {len(self.labels)} {self.label_kind}: {named}",
            f"  licence   {self.licence}",
            f"  citation  {self.citation}",
            f"  origin    {self.origin}",
            f"  download  {self.size_bytes / 1e9:.1f} GB",
        ]
        for archive in (*self.archives, *self.files):
            checked = f"{archive.checksum}, published by {archive.checksum_origin}" if archive.checksum else "none"
            lines.append(f"  archive   {archive.filename} from {' or '.join(archive.urls)} (checksum: {checked})")
        lines += [f"  fault     {track}: {what}" for track, what in self.faults.items()]
        return "\n".join(lines + ([f"  note      {self.notes}"] if self.notes else []))


def register(data_set: DataSet) -> DataSet:
    """Add a data set; a name that is taken is an error."""
    if data_set.name in _SETS:
        raise UsageError(f"two data sets are called {data_set.name!r}", valid="Each name once")
    _SETS[data_set.name] = data_set
    return data_set


def list_sets() -> tuple[DataSet, ...]:
    """All data sets, by name."""
    _load_all()
    return tuple(_SETS[name] for name in sorted(_SETS))


def set_that_reads(path: Path) -> DataSet | None:
    """Find the data set whose own list a file is."""
    return next((data_set for data_set in list_sets() if data_set.reads(path)), None)


def get_set(name: str) -> DataSet:
    """Find a data set by its name."""
    _load_all()
    if name not in _SETS:
        near = difflib.get_close_matches(name, _SETS, n=1)
        guess = f"Did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"there is no data set {name!r}", valid=f"{guess}Data sets: {', '.join(sorted(_SETS))}")
    return _SETS[name]


def _load_all() -> None:
    package = importlib.import_module("musicgenre.data.sets")
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("_") and module.name != "registry":
            importlib.import_module(f"{package.__name__}.{module.name}")
