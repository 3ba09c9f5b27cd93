"""Plumbing of the data sets with many tags a clip: from rows of a list to tracks, with nothing lost on the way."""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from musicgenre._files import md5_of
from musicgenre.audio import find_audio_files, printable, probe
from musicgenre.data.index import Index
from musicgenre.data.manifest import Manifest, Track
from musicgenre.errors import AudioError, DataError, UsageError

_SHOWN_IDS = 10
_SAMPLE = 200  # rows that are looked for to tell which folder holds the clips
Progress = Callable[[int, int], None]  # (done, all)
LeftOut = tuple[Path, str]


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
    skipped: list[LeftOut] = []
    expected: list[LeftOut] = []
    tracks: list[Track] = []
    for clip in clips:
        track = _track(clip, root, wanted.tags)
        if fault := next((wanted.faults[name] for name in clip.paths if name in wanted.faults), ""):
            expected.append((track.path, f"known fault: {fault}"))
        elif not clip.paths:
            skipped.append((Path(clip.track_id), f"line {clip.line} of {source.name} names no file"))
        elif wanted.drop_untagged and not track.labels:
            expected.append((track.path, "has none of the tags"))
        else:
            tracks.append(track)
    if wanted.files:
        tracks, unusable = _look_at(tracks, wanted.checksums, progress)
        skipped += unusable
        skipped += _unlisted(root, clips)
    if not tracks:
        raise DataError(f"{source} lists no clip that can be used", valid="Rows whose files are there, with tags")
    manifest = Manifest(None, tuple(tracks))
    return Index(manifest, tuple(skipped), tuple(expected), tuple(_notes(manifest, wanted.tags)))


def choose_tags(spec: str, known: Sequence[str], sets: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Turn ``--tags`` into names: a named set, ``all``, or a list with commas.

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
        In the order of ``known``.
    """
    names = sets.get(spec, [name.strip() for name in spec.split(",") if name.strip()]) if spec != "all" else known
    if not names:
        raise UsageError(
            f"--tags {spec!r} names no tag", valid=f"{', '.join(sets)}, all, or names with commas between"
        )
    present = set(known)
    if unknown := [name for name in names if name not in present]:
        near = difflib.get_close_matches(unknown[0], [*known, *sets, "all"], n=1)
        guess = f"Did you mean {near[0]!r}? " if near else ""
        raise DataError(
            f"the list has no tag {shortened([repr(name) for name in unknown], 5)}",
            valid=f"{guess}{', '.join(['all', *sets])}, or some of: {', '.join(known)}",
            next_step="--tags all takes every tag that the list has",
        )
    chosen = set(names)
    return tuple(name for name in known if name in chosen)


def _track(clip: Clip, root: Path, tags: Sequence[str]) -> Track:
    present = set(clip.tags)
    path = next((root / name for name in clip.paths if (root / name).is_file()), root.joinpath(*clip.paths[:1]))
    return Track(
        track_id=clip.track_id,
        path=Path(os.path.normpath(path)),
        label="",
        labels=tuple(tag for tag in tags if tag in present) if present else (),
        group=clip.group,
        columns=clip.columns,
    )


def _folder_of_clips(clips: Sequence[Clip], source: Path, folder: Path | None) -> Path:
    """Find the folder that holds most of a sample of the clips: the one given or the list's own, or one inside."""
    near = Path(os.path.abspath(folder or source.parent))  # noqa: PTH100 - links in the path stay as they are
    if not near.is_dir():
        raise DataError(f"there is no folder {near}", next_step="Give the folder of the clips with --clips FOLDER")
    listed = [clip for clip in clips if clip.paths]
    sample = listed[:: max(1, len(listed) // _SAMPLE)]
    inside = sorted(path for path in near.iterdir() if path.is_dir() and not path.name.startswith("."))
    candidates = [near, *inside]
    counts = [sum(any((root / name).is_file() for name in clip.paths) for clip in sample) for root in candidates]
    if not any(counts):
        raise DataError(
            f"none of the files that {source} names is in {near} or a folder in it",
            valid=f"Files such as {listed[0].paths[0]}" if listed else "Rows that name files",
            next_step="Give the folder of the clips with --clips FOLDER, or list the rows alone with --no-files",
        )
    return candidates[counts.index(max(counts))]


def _look_at(tracks: list[Track], checksums: bool, progress: Progress | None) -> tuple[list[Track], list[LeftOut]]:
    """Add length and checksum; files that are absent, empty or unreadable are left out."""
    kept, left_out = [], []
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        results = pool.map(lambda track: _seen(track, checksums), tracks)
        for done, (track, seen) in enumerate(zip(tracks, results, strict=True), 1):
            if isinstance(seen, Track):
                kept.append(seen)
            else:
                left_out.append((track.path, seen))
            if progress:
                progress(done, len(tracks))
    return kept, left_out


def _seen(track: Track, checksums: bool) -> Track | str:
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


def _unlisted(root: Path, clips: Iterable[Clip]) -> list[LeftOut]:
    listed = {os.path.normpath(root / name) for clip in clips for name in clip.paths}
    return [(path, "no row names it") for path in find_audio_files(root) if os.path.normpath(path) not in listed]


def _notes(manifest: Manifest, tags: Sequence[str]) -> Iterable[str]:
    untagged = [track.track_id for track in manifest.tracks if not track.labels]
    if untagged:
        yield (
            f"{len(untagged)} of {len(manifest)} tracks have none of the {len(tags)} tags and are kept "
            f"(--drop-untagged leaves them out): {shortened(untagged)}"
        )
    counts = Counter(label for track in manifest.tracks for label in track.labels)
    if never := [tag for tag in tags if not counts[tag]]:
        yield f"{len(never)} of {len(tags)} tags have no track: {', '.join(never)}"


def shortened(names: Sequence[str], shown: int = _SHOWN_IDS) -> str:
    """List the first names and count the others."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
