"""The plan: one line of JSON per track, what its file says, what is proposed, what would be written.

A plan is text: it can be read, edited, filtered and split. Nothing is written into music by making one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any, Literal

from musicgenre._files import write_bytes_atomic, writing_result
from musicgenre._json import parsed_json
from musicgenre._text import did_you_mean
from musicgenre.errors import LibraryError
from musicgenre.filetags.base import GENRE
from musicgenre.library.journal import Values

Policy = Literal["keep", "merge", "replace"]
"""What happens to a genre that is there: it stays, gets the new one appended, or is replaced."""

Why = Literal["heard", "album", "corrected", "unsure", "kept", "same", "dropped", "failed", "written"]
"""What a row rests on: the ear, its album, a person's correction; or why nothing is written (any more)."""

POLICIES = ("keep", "merge", "replace")
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One track of a plan.

    Attributes
    ----------
    path : str
        The file.
    write : bool
        Whether `apply` writes it.
    now : tuple of str
        Genres in the file.
    proposed : tuple of str
        Genres that come of what was heard, before the policy.
    confidence : float or None
        Calibrated probability of the first; None where it is not known.
    why : str
        What the row rests on, or why nothing is written: `heard`, `album`, `corrected`; `unsure`, `kept`, `same`,
        `dropped`, `failed`; `written` by whoever watches a folder.
    set : mapping of str to tuple of str
        What would be written, by field. A person who edits a plan edits this, or `write`.
    meant : tuple of str
        The genres of `set` as the plan was made: where they differ, a person corrected them.
    note : str
        What a person should know.
    artist, album, title : str
        From the file's tags.
    container : str
        `mp3`, `flac` ...; empty where the tags cannot be written.
    sound_sha256, tags_sha256 : str
        What identifies the file: one that has changed since is left alone.
    model, model_sha256 : str
        Which model was asked.
    """

    path: str
    write: bool
    now: tuple[str, ...] = ()
    proposed: tuple[str, ...] = ()
    confidence: float | None = None
    why: str = "heard"
    set: Values = field(default_factory=dict)
    meant: tuple[str, ...] = ()
    note: str = ""
    artist: str = ""
    album: str = ""
    title: str = ""
    container: str = ""
    sound_sha256: str = ""
    tags_sha256: str = ""
    model: str = ""
    model_sha256: str = ""

    @property
    def correction(self) -> tuple[str, ...] | None:
        """Genres that a person put in place of what was meant; None where nobody did."""
        given = self.set.get(GENRE)
        return given if given is not None and given != self.meant else None

    @property
    def album_key(self) -> tuple[str, str]:
        """What tracks of one album have in common: folder and album."""
        return str(PurePath(self.path).parent), self.album

    def to_line(self) -> str:
        """The row as a line of JSON."""
        record: dict[str, Any] = {"format": _FORMAT}
        for name in self.__slots__:
            value = getattr(self, name)
            record[name] = list(value) if isinstance(value, tuple) else value
        return json.dumps(record, ensure_ascii=not _is_storable(record)) + "\n"


def read_plan(path: Path) -> Iterator[PlanRow]:
    """Read the rows of a plan, in order.

    Raises
    ------
    LibraryError
        The file cannot be read, or a line of it is no row of a plan: its number is named.
    """
    try:
        with path.open(encoding="utf-8", errors="surrogateescape") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield _row_from(line, f"line {number} of {path}")
    except (OSError, ValueError) as error:
        raise LibraryError(
            f"the plan {path} cannot be read ({getattr(error, 'strerror', None) or error})",
            next_step="Make one with: musicgenre library plan MUSIC -o plan.jsonl",
        ) from error


def write_plan(rows: Sequence[PlanRow], path: Path, *, overwrite: bool = True) -> None:
    """Write a plan, whole or not at all; without `overwrite` a file that is there stays.

    Raises
    ------
    UsageError
        The file is there, or cannot be written.
    """
    with writing_result(path):
        text = "".join(row.to_line() for row in rows)
        write_bytes_atomic(path, text.encode("utf-8", "surrogateescape"), overwrite=overwrite)


def append_rows(rows: Sequence[PlanRow], path: Path) -> None:
    """Add rows to the end of a plan, which is made where it is missing: whole lines or nothing, on the disk after it.

    Raises
    ------
    UsageError
        The file cannot be written; it is as it was.
    """
    rest = memoryview("".join(row.to_line() for row in rows).encode("utf-8", "surrogateescape"))
    with writing_result(path), path.open("ab", buffering=0) as stream:
        end = stream.seek(0, os.SEEK_END)
        try:
            while rest:
                rest = rest[stream.write(rest) :]
            os.fsync(stream.fileno())
        except OSError:
            stream.truncate(end)
            raise


def mend_last_line(path: Path) -> None:
    """Make a plan end with a whole line: an editor leaves out its end, a power cut while it grew tears it.

    Raises
    ------
    UsageError
        The file cannot be written.
    """
    with writing_result(path), path.open("r+b") as stream:
        content = stream.read()
        whole = content.rfind(b"\n") + 1
        if whole == len(content):
            return
        try:
            parsed_json(content[whole:].decode("utf-8", "surrogateescape"))
        except ValueError:
            stream.truncate(whole)
        else:
            stream.write(b"\n")


def decide(
    row: PlanRow,
    *,
    policy: Policy,
    ours: Values,
    update_own: bool,
    max_genres: int,
    extra: Values,
) -> PlanRow:
    """Say what would be written into a file for what is proposed.

    Parameters
    ----------
    row : PlanRow
        With what the file says now, and what is proposed.
    policy : {"keep", "merge", "replace"}
        What happens to a genre that is there.
    ours : mapping
        What the journal says we wrote into the file.
    update_own : bool
        Under `keep`: renew a genre that is ours and that nobody changed since.
    max_genres : int
        No more genres than this come from us.
    extra : mapping of str to tuple of str
        Other fields, mood say, and their values; one that holds something is kept like a genre.

    Returns
    -------
    PlanRow
        With `write`, `set`, `meant` and, where nothing is written, `why`.
    """
    values: dict[str, tuple[str, ...]] = dict(extra)
    proposed = row.proposed[:max_genres]
    why = row.why
    if row.why in ("unsure", "failed", "dropped"):
        return replace(row, write=False, set={}, meant=())

    is_ours = bool(row.now) and row.now == ours.get(GENRE)
    if policy == "keep" and row.now and row.why != "corrected" and not (update_own and is_ours):
        why = "kept"
    else:
        genres = proposed
        if policy == "merge" and not (update_own and is_ours):
            known = {_key(name) for name in row.now}
            genres = row.now + tuple(name for name in proposed if _key(name) not in known)
        if genres == row.now:
            why = "same"
        else:
            values[GENRE] = genres
    if not values:
        return replace(row, write=False, why=why, set={}, meant=())
    return replace(row, write=True, why=row.why if GENRE in values else why, set=values, meant=values.get(GENRE, ()))


def selected(
    rows: Iterable[PlanRow],
    *,
    only_missing: bool = False,
    min_confidence: float = 0.0,
    genres: Sequence[str] = (),
    albums: Sequence[str] = (),
) -> Iterator[PlanRow]:
    """Rows that a person wants to see or to apply.

    Parameters
    ----------
    rows : iterable of PlanRow
        A plan.
    only_missing : bool
        Files that name no genre now.
    min_confidence : float
        What was heard with at least this probability, in [0, 1].
    genres, albums : sequence of str
        What is proposed, and the album, without regard to case; none: any.
    """
    wanted_genres = {name.casefold() for name in genres}
    wanted_albums = {name.casefold() for name in albums}
    for row in rows:
        named = {name.casefold() for name in (*row.proposed, *row.set.get(GENRE, ()))}
        if only_missing and row.now:
            continue
        if (row.confidence or 0.0) < min_confidence and row.why != "corrected":
            continue
        if (wanted_genres and not named & wanted_genres) or (
            wanted_albums and row.album.casefold() not in wanted_albums
        ):
            continue
        yield row


def unknown_names(rows: Iterable[PlanRow], *, genres: Sequence[str] = (), albums: Sequence[str] = ()) -> Iterator[str]:
    """Say of each genre and album that is asked for, and that no row has, so; with the nearest that one has.

    Parameters
    ----------
    rows : iterable of PlanRow
        The whole plan.
    genres, albums : sequence of str
        As `selected` takes them.
    """
    rows = list(rows)
    named_genres = {name for row in rows for name in (*row.proposed, *row.set.get(GENRE, ()))}
    named_albums = {row.album for row in rows if row.album}
    for what, wanted, named in (("genre", genres, named_genres), ("album", albums, named_albums)):
        known = {name.casefold() for name in named}
        for name in wanted:
            if name.casefold() not in known:
                yield f"no track of the plan has the {what} {name!r}. {did_you_mean(name, sorted(named))}".rstrip()


def _row_from(line: str, where: str) -> PlanRow:
    """Read a row; a person may have edited it."""

    def refused(reason: str) -> LibraryError:
        return LibraryError(
            f"{where} is no row of a plan ({reason})", next_step="Mend the line, or make the plan again"
        )

    try:
        record = parsed_json(line)
    except ValueError as error:
        raise refused(f"no JSON: {error}") from error
    if not isinstance(record, dict) or not isinstance(record.get("path"), str):
        raise refused("it names no path")
    if record.pop("format", None) != _FORMAT:
        raise refused(f"its format is not {_FORMAT}")
    if unknown := set(record) - set(PlanRow.__slots__):
        raise refused(f"it has a key {min(unknown)!r} that no plan has")

    values = dict(record)
    for name in ("now", "proposed", "meant"):
        values[name] = _texts(record.get(name, []), name, refused)
    given = record.get("set", {})
    if not isinstance(given, Mapping):
        raise refused("'set' is no table of fields")
    values["set"] = {name: _texts(texts, f"set.{name}", refused) for name, texts in given.items()}
    for name in values["set"]:
        if name not in ("genre", "mood", "grouping") and not name.startswith("custom:"):
            raise refused(f"'set' names a field {name!r}; fields are genre, mood, grouping, custom:NAME")
    if not isinstance(record.get("write"), bool):
        raise refused("'write' is neither true nor false")
    confidence = record.get("confidence")
    if confidence is not None and not (isinstance(confidence, int | float) and 0 <= confidence <= 1):
        raise refused("'confidence' is no probability")
    for name in set(record) - {"now", "proposed", "meant", "set", "write", "confidence"}:
        if not isinstance(record[name], str):
            raise refused(f"{name!r} is no text")
    return PlanRow(**values)


def _texts(value: Any, name: str, refused: Any) -> tuple[str, ...]:
    """Read a list of names; one name alone will do."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise refused(f"{name!r} is no list of names")
    return tuple(text.strip() for text in texts if text.strip())


def _is_storable(record: Mapping[str, Any]) -> bool:
    """Whether every name is text in UTF-8; the raw bytes of others become escapes."""
    return not any("\ud800" <= character <= "\udfff" for character in str(record["path"]))


def _key(genre: str) -> str:
    """What spellings of one genre have in common, as `Hip-Hop` and `hiphop`; of a name of signs alone, the name."""
    return "".join(filter(str.isalnum, genre.casefold())) or genre
