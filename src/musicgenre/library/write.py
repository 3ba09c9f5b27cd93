"""Write values into music files, each proved, noted in the journal first, replaced whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from musicgenre._files import FULL
from musicgenre._locks import file_lock
from musicgenre._parallel import in_threads
from musicgenre._text import printable
from musicgenre.errors import DataError, LibraryError
from musicgenre.filetags.music_file import opened, sound_sha256, splice_for, tag_file, tags_sha256
from musicgenre.filetags.splice import Splice, SplicedView, check_replaceable, replace_spliced, temporary_beside
from musicgenre.library.journal import Change, Journal, Values

FILES_A_COMMIT = 32  # the journal is flushed to the disk twice for so many files
# While one file waits for the disk, the next is read and hashed. More would ask for more free space.
_FILES_AT_A_TIME = 2


@dataclass(frozen=True, slots=True)
class Wanted:
    """What shall be written into a file.

    Attributes
    ----------
    path : str
        The file.
    values : mapping of str to tuple of str
        New values by field; none removes the field.
    sound_sha256, tags_sha256 : str
        What identified the file when that was decided: another one is left alone.
    model, model_sha256 : str
        Which model the values came from; empty where a person gave them.
    splice : Splice, optional
        The very bytes that change, where they are known: what takes a change back.
    takes_back : int, optional
        Number of the change that is taken back.
    """

    path: str
    values: Values
    sound_sha256: str
    tags_sha256: str
    model: str = ""
    model_sha256: str = ""
    splice: Splice | None = None
    takes_back: int | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """A file that was written: values before and after by field."""

    path: str
    before: Values
    after: Values


@dataclass(frozen=True, slots=True)
class Left:
    """A file that was left as it is, and why; `is_failure` where that is not as the person wanted it."""

    path: str
    reason: str
    is_failure: bool = True


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How files are replaced: see `replace_spliced` and `splice_for`."""

    keep_times: bool = True
    break_links: bool = False
    upgrade_id3: bool = False


@contextmanager
def locked(journal: Journal, *, wait_s: float = 0.0) -> Iterator[None]:
    """Let one process at a time write into music files; another one is waited for, for so long.

    Raises
    ------
    LibraryError
        Another one does.
    """
    try:
        with file_lock(journal.path, "run of musicgenre library", wait_s=wait_s):
            yield
    except DataError as error:
        raise LibraryError(error.problem, valid=error.valid, next_step="Wait until it is done") from error


def write_files(
    journal: Journal, run_id: int, wanted: Iterable[Wanted], options: WriteOptions
) -> Iterator[Written | Left]:
    """Write into files, in order.

    Each file is compared with what it was when the values were decided, before and again in the new file that takes
    its place. What cannot be written is left as it is, and named.

    Parameters
    ----------
    journal : Journal
        Where each change is noted before it is made.
    run_id : int
        The run it belongs to.
    wanted : iterable of Wanted
        What to write; read lazily.
    options : WriteOptions
        How.

    Yields
    ------
    Written or Left
        One a file.
    """
    batch: list[Wanted] = []
    files: set[object] = set()
    for item in wanted:
        # A file that comes again, by another name perhaps, is looked at when its first change is in place.
        if file_of(item.path) in files or len(batch) == FILES_A_COMMIT:
            yield from _write_batch(journal, run_id, batch, options)
            batch, files = [], set()
        batch.append(item)
        files.add(file_of(item.path))  # another one since it was written
    if batch:
        yield from _write_batch(journal, run_id, batch, options)


def file_of(path: str) -> object:
    """What two names of one file have in common, be they links or spelled in other letters."""
    try:
        found = Path(path).stat()
    except OSError:
        return path
    return found.st_dev, found.st_ino


def settle_open(journal: Journal) -> list[Change]:
    """Look at the files that a killed process was about to replace, and bring the journal into line.

    Returns
    -------
    list of Change
        Those that were open.
    """
    changes = journal.unsettled()
    done: list[int] = []
    dropped: list[int] = []
    for change in changes:
        if change.temporary:
            with suppress(OSError):  # it is not there, or the disk takes no changes at present
                Path(change.temporary).unlink()
        try:
            with opened(Path(change.path)) as file:
                is_old = tags_sha256(file) == change.tags_before
        except LibraryError:
            is_old = False  # gone or changed since: whoever takes the change back looks again
        (dropped if is_old else done).append(change.id)
    journal.settle(done, dropped)
    return changes


def _write_batch(
    journal: Journal, run_id: int, batch: list[Wanted], options: WriteOptions
) -> Iterator[Written | Left]:
    """Prove the changes of a few files, note them all, then make them, two files at a time."""
    outcomes: dict[str, Written | Left] = {}
    changes: list[tuple[str, Change, Splice]] = []
    threads = min(_FILES_AT_A_TIME, len(batch))
    for item, prepared in zip(batch, in_threads(lambda item: _prepared(item, options), batch, threads), strict=True):
        if isinstance(prepared, Left):
            outcomes[item.path] = prepared
        else:
            changes.append((item.path, *prepared))

    numbers = journal.open_changes(run_id, [change for _, change, _ in changes])
    done: list[int] = []
    dropped = list(numbers)  # what has not been begun

    def replace(number: int, change: Change, splice: Splice) -> LibraryError | None:
        # Whatever ends us within the next lines, it stays open, and is settled by looking at the file.
        dropped.remove(number)
        try:
            replace_spliced(
                Path(change.path),
                splice,
                Path(change.temporary),
                verify=_verifier(change),
                keep_times=options.keep_times,
                break_links=options.break_links,
            )
        except LibraryError as error:
            dropped.append(number)
            return error
        done.append(number)
        return None

    tasks = [(number, change, splice) for number, (_, change, splice) in zip(numbers, changes, strict=True)]
    try:
        errors = list(in_threads(lambda task: replace(*task), tasks, threads))
        for place, error in enumerate(errors):
            # The disk may have had room for one new file, and not for two.
            if threads > 1 and error is not None and getattr(error.__cause__, "errno", None) in FULL:
                errors[place] = replace(*tasks[place])
    finally:
        journal.settle(done, dropped)

    for (path, change, _), error in zip(changes, errors, strict=True):
        if error is None:
            outcomes[path] = Written(path, change.values_before, change.values_after)
        else:
            outcomes[path] = Left(path, str(error))
    for item in batch:
        yield outcomes[item.path]


def _prepared(item: Wanted, options: WriteOptions) -> tuple[Change, Splice] | Left:
    """Compare a file with what it was, and make its change, or say why there is none to make."""
    try:
        return _change_of(item, options) or Left(item.path, "it says so already", is_failure=False)
    except LibraryError as error:
        return Left(item.path, str(error))


def _change_of(item: Wanted, options: WriteOptions) -> tuple[Change, Splice] | None:
    """Compare a file with what it was, and make its change; None where its values are there already."""
    path = Path(item.path)
    check_replaceable(path, break_links=options.break_links)
    with opened(path) as file:
        before = {field: file.values(field) for field in item.values}
        is_as_planned = before == dict(item.values)
        has_other_tags = tags_sha256(file) != item.tags_sha256
        has_other_sound = sound_sha256(file) != item.sound_sha256
    # What an interrupted run wrote before is no reason to name a file.
    if has_other_tags and is_as_planned and not has_other_sound:
        return None
    if has_other_tags or has_other_sound:
        what = "its tags were changed since" if has_other_tags else "its sound is another than when"
        raise LibraryError(
            f"{printable(path)}: {what} the plan was made", next_step="Make the plan again for this file"
        )

    splice = item.splice
    if splice is None:
        splice = splice_for(path, item.values, upgrade_id3=options.upgrade_id3)
    if not splice.edits:
        return None
    with path.open("rb") as stream:
        after = tags_sha256(tag_file(cast("BinaryIO", SplicedView(stream, splice))))
    change = Change(
        path=os.path.abspath(path),  # noqa: PTH100  links stay links
        sound_sha256=item.sound_sha256,
        tags_before=item.tags_sha256,
        tags_after=after,
        values_before=before,
        values_after=dict(item.values),
        splice=splice.inverse(),
        model=item.model,
        model_sha256=item.model_sha256,
        temporary=str(temporary_beside(path)),
        takes_back=item.takes_back,
    )
    return change, splice


def _verifier(change: Change) -> Callable[[Path], None]:
    """Look at the new file: the sound is that of the plan, the tags are those that were proved."""

    def verify(temporary: Path) -> None:
        with opened(temporary) as file:
            is_proved = sound_sha256(file) == change.sound_sha256 and tags_sha256(file) == change.tags_after
        if not is_proved:
            raise LibraryError(
                f"{printable(change.path)} was changed while it was copied",
                next_step="Make the plan again for this file",
            )

    return verify
