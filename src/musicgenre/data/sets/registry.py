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
        Its genres.
    archives : tuple of Archive
        What to download and unpack.
    index : callable
        ``index(folder, artists=..., progress=...)`` lists its tracks.
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
    track_ids: Callable[[], tuple[str, ...]] = tuple
    checksums: Archive | None = None
    local_checksums: Callable[[Path], dict[str, str]] | None = None
    faults: Mapping[str, str] = field(default_factory=dict)
    notes: str = ""

    def card(self) -> str:
        """Describe the set in a few lines: licence and citation first of all."""
        lines = [
            f"{self.title} ({self.name})",
            f"  tracks    {self.n_tracks} in {len(self.labels)} genres: {', '.join(self.labels)}",
            f"  licence   {self.licence}",
            f"  citation  {self.citation}",
            f"  origin    {self.origin}",
            f"  download  {self.size_bytes / 1e9:.1f} GB",
        ]
        for archive in self.archives:
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
