"""Take back what was written: the very bytes where a file is as we left it, else the field alone, else nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from musicgenre._text import printable
from musicgenre.errors import LibraryError
from musicgenre.filetags.music_file import opened, sound_sha256, tags_sha256
from musicgenre.library.journal import Change, Journal
from musicgenre.library.write import FILES_A_COMMIT, Left, Wanted, WriteOptions, Written, file_of, write_files


def undo(journal: Journal, changes: Iterable[Change], options: WriteOptions) -> Iterator[Written | Left]:
    """Take changes back, in the given order; an undo is a run of its own, and can be taken back.

    Parameters
    ----------
    journal : Journal
        Where they are noted.
    changes : iterable of Change
        Which ones; of several of one file the latest must come first.
    options : WriteOptions
        How files are replaced.

    Yields
    ------
    Written or Left
        One a change.
    """
    run_id = journal.begin("undo")
    batch: dict[object, Wanted] = {}
    for change in changes:
        # How a file is given back depends on what the change before left there: that must be in place.
        if file_of(change.path) in batch or len(batch) == FILES_A_COMMIT:
            yield from write_files(journal, run_id, batch.values(), options)
            batch = {}
        wanted = _wanted(change)
        if isinstance(wanted, Left):
            yield wanted
        else:
            batch[file_of(change.path)] = wanted  # which is another file since it was written
    yield from write_files(journal, run_id, batch.values(), options)


def _wanted(change: Change) -> Wanted | Left:
    """Decide how a change can be taken back."""
    try:
        with opened(Path(change.path)) as file:
            tags, sound = tags_sha256(file), sound_sha256(file)
            now = {field: file.values(field) for field in change.values_after}
    except LibraryError as error:
        return Left(change.path, str(error))
    if sound != change.sound_sha256:
        return Left(change.path, f"{printable(change.path)} holds another sound now: it was left as it is")

    common: dict[str, Any] = {"sound_sha256": sound, "tags_sha256": tags, "takes_back": change.id}
    if tags == change.tags_after:
        return Wanted(change.path, change.values_before, splice=change.splice, **common)
    # Somebody changed other tags since: these stay, and the field goes back if nobody changed that too.
    if now == dict(change.values_after):
        return Wanted(change.path, change.values_before, **common)
    return Left(change.path, f"{printable(change.path)} was given other values since: it was left as it is")
