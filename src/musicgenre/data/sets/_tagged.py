"""Plumbing of the data sets with many tags a clip: from rows of a list to tracks, with nothing lost on the way."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from musicgenre._files import md5_of
from musicgenre._parallel import in_threads, reading_threads
from musicgenre._text import did_you_mean, printable, shortened
from musicgenre.audio import find_audio_files, probe
from musicgenre.data import _csv
from musicgenre.data.index import Index, LeftOut, Progress
from musicgenre.data.manifest import Manifest, Track
from musicgenre.errors import AudioError, DataError, UsageError

SHOWN_IDS = 10
_SHOWN_TAGS = 5
_SAMPLE = 200  # rows that are looked for to tell which folder holds the clips


@dataclass(frozen=True)
class Clip:
    """One row of a list of tagged clips.

    Parameters
    ----------
    line : int
        Where it stands in the list.
    track_id : str
        Its unique name.
    paths : tuple of str
        Its file, relative to the folder of the clips, the likeliest name first; none when the list names none.
    tags : tuple of str
        Its tags.
    group : str, optional
        What must not be torn apart.
    columns : Mapping of str to str, optional
        What else the list says.
    """

    line: int
    track_id: str
    paths: tuple[str, ...]
    tags: tuple[str, ...]
    group: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """Which clips to take and how thoroughly to look at their files.

    Parameters
    ----------
    tags : tuple of str
        The tags to keep.
    drop_untagged : bool, optional
        Whether clips with none of them are left out.
    files : bool, optional
        False lists every row, whether or not its file is at hand.
    checksums : bool, optional
        Whether to add the column md5.
    faults : Mapping of str to str, optional
        Files known to be unusable, and why.
    """

    tags: tuple[str, ...]
    drop_untagged: bool = False
    files: bool = True
    checksums: bool = True
    faults: Mapping[str, str] = field(default_factory=dict)


def has_columns(path: Path, columns: Sequence[str]) -> bool:
    """Tell by its first line whether a file is a table with these columns."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as stream:
            first_line = next((line for line in stream if line.strip() and not _csv.is_excel_line(line)), "")
    except OSError:
        return False

    return bool(_csv.separator_with(first_line, columns))


def choose_tags(spec: str, known: Sequence[str], sets: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Turn `--tags` into names: a named set, `all`, or a list with commas.

    Parameters
    ----------
    spec : str
        What was asked for.
    known : sequence of str
        The tags of the list.
    sets : Mapping of str to sequence of str
        Named sets.

    Returns
    -------
    tuple of str
        In the order of `known`.
    """
    if spec == "all":
        names = known
    elif spec in sets:
        names = sets[spec]
    else:
        names = [name.strip() for name in spec.split(",") if name.strip()]
    if not names:
        raise UsageError(
            f"--tags {spec!r} names no tag", valid=f"{', '.join(sets)}, all, or names with commas between"
        )

    present = set(known)
    if unknown := [name for name in names if name not in present]:
        guess = did_you_mean(unknown[0], [*known, *sets, "all"])
        raise DataError(
            f"the list has no tag {shortened([repr(name) for name in unknown], _SHOWN_TAGS)}",
            valid=f"{guess}{', '.join(['all', *sets])}, or some of: {', '.join(known)}",
            next_step="--tags all takes every tag that the list has",
        )

    chosen = set(names)
    return tuple(name for name in known if name in chosen)


def index_clips(
    clips: Sequence[Clip], source: Path, folder: Path | None, wanted: Wanted, progress: Progress | None = None
) -> Index:
    """Make tracks of clips; every row and every sound file ends up as a track or in a list of what was left out.

    Parameters
    ----------
    clips : sequence of Clip
        The rows of the list.
    source : Path
        The list, for messages.
    folder : Path or None
        Where the clips are; looked for beside the list by default.
    wanted : Wanted
        What to take.
    progress : callable, optional
        Told (files read, all files).

    Returns
    -------
    Index
        Tracks in the order of the list, their tags as labels, with the column duration_s where files were looked at.
    """
    root = _folder_of_clips(clips, source, folder) if wanted.files else (folder or source.parent)
    tracks: list[Track] = []
    skipped: list[LeftOut] = []
    expected: list[LeftOut] = []

    for clip in clips:
        track = _to_track(clip, root, wanted.tags)
        fault = next((wanted.faults[name] for name in clip.paths if name in wanted.faults), "")
        if fault:
            expected.append((track.path, f"known fault: {fault}"))
        elif not clip.paths:
            skipped.append((Path(clip.track_id), f"line {clip.line} of {source.name} names no file"))
        elif wanted.drop_untagged and not track.labels:
            expected.append((track.path, "has none of the tags"))
        else:
            tracks.append(track)

    if wanted.files:
        tracks, unusable = _with_lengths(tracks, wanted.checksums, progress)
        skipped += unusable
        in_list = {os.path.normpath(root / name) for clip in clips for name in clip.paths}
        unlisted = [path for path in find_audio_files(root) if os.path.normpath(path) not in in_list]
        skipped += [(path, "no row names it") for path in unlisted]
    if not tracks:
        raise DataError(f"{source} lists no clip that can be used", valid="Rows whose files are there, with tags")

    return Index(Manifest(None, tuple(tracks)), tuple(skipped), tuple(expected), tuple(_notes(tracks, wanted.tags)))


def _to_track(clip: Clip, root: Path, tags: Sequence[str]) -> Track:
    """Make a track of a clip, with the chosen ones of its tags; of several names the file at hand has, the first."""
    path = root.joinpath(*clip.paths[:1])
    for name in clip.paths:
        if (root / name).is_file():
            path = root / name
            break

    own = set(clip.tags)
    return Track(
        track_id=clip.track_id,
        path=Path(os.path.normpath(path)),
        label="",
        labels=tuple(tag for tag in tags if tag in own),
        group=clip.group,
        columns=clip.columns,
    )


def _folder_of_clips(clips: Sequence[Clip], source: Path, folder: Path | None) -> Path:
    """Find the folder that holds most of a sample of the clips: the one given or the list's own, or one inside."""
    near = Path(os.path.abspath(folder or source.parent))  # noqa: PTH100 - links in the path stay as they are
    if not near.is_dir():
        raise DataError(f"there is no folder {near}", next_step="Give the folder of the clips with --clips FOLDER")

    with_files = [clip for clip in clips if clip.paths]
    sample = with_files[:: max(1, len(with_files) // _SAMPLE)]
    best, most = near, 0
    inside = sorted(path for path in near.iterdir() if path.is_dir() and not path.name.startswith("."))
    for root in (near, *inside):
        n_found = sum(any((root / name).is_file() for name in clip.paths) for clip in sample)
        if n_found > most:
            best, most = root, n_found

    if not most:
        raise DataError(
            f"none of the files that {source} names is in {near} or a folder in it",
            valid=f"Files such as {with_files[0].paths[0]}" if with_files else "Rows that name files",
            next_step="Give the folder of the clips with --clips FOLDER, or list the rows alone with --no-files",
        )
    return best


def _with_lengths(
    tracks: Sequence[Track], checksums: bool, progress: Progress | None
) -> tuple[list[Track], list[LeftOut]]:
    """Add length and checksum; files that are absent, empty or unreadable are left out."""

    def look_at(track: Track) -> Track | str:
        if not track.path.is_file():
            return "there is no such file"
        try:
            duration_s = probe(track.path).duration_s
            md5 = {"md5": md5_of(track.path)} if checksums else {}
        except AudioError as error:
            return error.problem.removeprefix(f"{printable(track.path)} ")
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        return track.with_columns(duration_s="" if duration_s is None else f"{duration_s:.3f}", **md5)

    kept: list[Track] = []
    left_out: list[LeftOut] = []
    results = in_threads(look_at, tracks, reading_threads())
    for done, (track, result) in enumerate(zip(tracks, results, strict=True), 1):
        if isinstance(result, Track):
            kept.append(result)
        else:
            left_out.append((track.path, result))
        if progress:
            progress(done, len(tracks))

    return kept, left_out


def _notes(tracks: Sequence[Track], tags: Sequence[str]) -> list[str]:
    """What a person should know of the tags: tracks without any, and tags without a track."""
    notes = []
    untagged = [track.track_id for track in tracks if not track.labels]
    if untagged:
        notes.append(
            f"{len(untagged)} of {len(tracks)} tracks have none of the {len(tags)} tags and are kept "
            f"(--drop-untagged leaves them out): {shortened(untagged, SHOWN_IDS)}"
        )

    counts = Counter(label for track in tracks for label in track.labels)
    if never := [tag for tag in tags if not counts[tag]]:
        notes.append(f"{len(never)} of {len(tags)} tags have no track: {', '.join(never)}")
    return notes
