"""Make a manifest: from folders named after genres (GTZAN's layout too), a CSV of one's own, or a feature table."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from musicgenre._files import is_file, md5_of
from musicgenre._parallel import in_threads, reading_threads
from musicgenre._text import did_you_mean_path, printable, shortened
from musicgenre.audio import AUDIO_SUFFIXES, find_audio_files, probe
from musicgenre.data import _csv
from musicgenre.data.labels import notes_on_labels, tidy_label
from musicgenre.data.manifest import Manifest, Track, parse_tracks
from musicgenre.errors import AudioError, DataError

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})

# Where the genre folders of GTZAN stand in its archives and in the copies that circulate.
_GENRE_ROOTS = ("genres", "genres_original", "images_original", "Data/genres_original")
_TABLE_ID_SUFFIXES = (".wav", ".au", ".mp3", ".png")  # a table names the file that a row was computed from
_SHOWN_FILES = 5
_SHOWN_COLUMNS = 12
_SEGMENT_ID_PARTS = 3  # blues.00000.4 is the fifth segment of blues.00000

Progress = Callable[[int, int], None]  # (done, all)
LeftOut = tuple[Path, str]  # a file and the reason


@dataclass(frozen=True)
class Index:
    """A new manifest and what did not get into it.

    Parameters
    ----------
    manifest : Manifest
        The tracks.
    skipped : tuple of (Path, str)
        Files left out, each with the reason.
    expected : tuple of (Path, str)
        Files left out as known faults of the data set, or on demand.
    notes : tuple of str
        What else to know of the tracks.
    """

    manifest: Manifest
    skipped: tuple[LeftOut, ...] = ()
    expected: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()


def index_folder(
    folder: Path | str,
    *,
    labels: Sequence[str] | None = None,
    artists: Mapping[str, str] | None = None,
    pictures: bool = False,
    checksums: bool = True,
    progress: Progress | None = None,
) -> Index:
    """List the tracks of a folder that holds one folder per genre.

    Parameters
    ----------
    folder : Path or str
        The data set: `FOLDER/GENRE/any.wav`, or GTZAN's `FOLDER/genres/GENRE/GENRE.nnnnn.wav` (or `.au`).
    labels : sequence of str, optional
        The genres to take; all by default. What is no label itself is taken for several, with commas between them.
    artists : Mapping of str to str, optional
        Artist group of track ids, see `read_artists`.
    pictures : bool, optional
        Whether the tracks are pictures (PNG, JPEG) and not sound.
    checksums : bool, optional
        Whether to add the column md5, by which copies are found and kept together.
    progress : callable, optional
        Told (files done, all files).

    Returns
    -------
    Index
        Tracks in order of label and name; the track id is the file's name without suffix when that is unique. Links
        are followed; a file that stands under several genres is a track of each, and a note says so.
    """
    root = _genre_root(Path(os.path.abspath(folder)))  # noqa: PTH100 - links in the path stay as they are
    if pictures:
        files = sorted(path for path in root.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file())
    else:
        files = _sound_files(root)

    kept: list[Path] = []
    skipped: list[LeftOut] = []
    for path in files:
        if any("\ud800" <= character <= "\udfff" for character in str(path)):
            skipped.append((Path(printable(path)), "its name is not UTF-8: rename it"))
        elif problem := _problem(path, root):
            skipped.append((path, problem))
        else:
            kept.append(path)
    if not kept:
        kind = "picture" if pictures else "sound file"
        raise DataError(f"no {kind} stands in a genre folder of {root}", valid="FOLDER/GENRE/file")

    ids = _track_ids([path.relative_to(root) for path in kept])
    tracks = [Track(name, path, _label_of(path, root)) for name, path in zip(ids, kept, strict=True)]
    tracks.sort(key=lambda track: (track.label, track.track_id))

    found = _finish(Manifest(None, tuple(tracks)), skipped, labels, artists, checksums, progress)
    return dataclasses.replace(found, notes=(*_notes_on_links(found.manifest), *found.notes))


def index_csv(
    path: Path | str,
    *,
    path_column: str = "path",
    label_column: str = "label",
    id_column: str | None = None,
    labels: Sequence[str] | None = None,
    artists: Mapping[str, str] | None = None,
    checksums: bool = True,
    progress: Progress | None = None,
) -> Index:
    """Make a manifest from a CSV of one's own, whose columns may have other names; the others are kept.

    Parameters
    ----------
    path : Path or str
        The CSV; paths in it are relative to its folder, or absolute.
    path_column, label_column : str, optional
        Its columns with the file and the genre.
    id_column : str, optional
        Its column with unique names; the path without its suffix by default.
    labels, artists, checksums, progress
        As in `index_folder`.

    Returns
    -------
    Index
        Rows whose file is absent are skipped and listed.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100
    names = {path_column: "path", **_label_name(label_column)}
    if id_column:
        names[id_column] = "track_id"

    rows = [_with_names(row, names) for row in _rows_with(path, list(names), may_be_table=True)]
    present: list[Track] = []
    skipped: list[LeftOut] = []
    for track in parse_tracks(path, rows):
        if is_file(track.path):
            present.append(track)
        else:
            is_folder = os.path.isdir(track.path)  # noqa: PTH112 - no error for a name that no file can have
            skipped.append((track.path, "is a folder" if is_folder else "there is no such file"))
    if not present:
        raise DataError(f"none of the files that {path} names exists", valid=f"Paths relative to {path.parent}")

    return _finish(Manifest(None, tuple(present)), skipped, labels, artists, checksums, progress)


def index_table(
    path: Path | str,
    *,
    id_column: str = "filename",
    label_column: str = "label",
    labels: Sequence[str] | None = None,
    artists: Mapping[str, str] | None = None,
) -> Index:
    """Make a manifest from a table of features: every row a track, its path the table, its features kept as they are.

    Parameters
    ----------
    path : Path or str
        The CSV, such as the published `features_30_sec.csv`.
    id_column : str, optional
        Its column with unique names; a suffix such as `.wav` is cut off.
    label_column : str, optional
        Its column with the genre.
    labels, artists
        As in `index_folder`.

    Returns
    -------
    Index
        Rows of segments (`blues.00000.4`) get the column `parent`, by which splits keep a track together.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100
    rows = []
    for row in _rows_with(path, [id_column, label_column]):
        name = Path(row.cells[id_column])
        track_id = name.stem if name.suffix.lower() in _TABLE_ID_SUFFIXES else name.name
        cells = {**_with_names(row, _label_name(label_column)).cells, "path": path.name, "track_id": track_id}

        pieces = track_id.split(".")
        if len(pieces) == _SEGMENT_ID_PARTS and all(piece.isdigit() for piece in pieces[1:]):
            cells["parent"] = ".".join(pieces[:2])
        rows.append(_csv.Row(row.line, cells))

    return _finish(Manifest(None, parse_tracks(path, rows)), [], labels, artists, checksums=False, progress=None)


def read_artists(path: Path | str) -> dict[str, str]:
    """Read artist groups from a CSV with the columns track_id and artist_group (empty: not known)."""
    rows = _rows_with(
        Path(path),
        ["track_id", "artist_group"],
        next_step="Call the columns of a table of artists track_id and artist_group",
    )
    return {row.cells["track_id"]: row.cells["artist_group"].strip() for row in rows}


def read_artist_names(path: Path | str) -> tuple[str, dict[str, set[str]]]:
    """Read any table of artists: who plays on a track, by path or by track id.

    Parameters
    ----------
    path : Path or str
        A CSV with the column `path` (absolute, or relative to its folder) or `track_id`, and one or more of `artist`,
        `artist_group` and `group`.

    Returns
    -------
    (key, names)
        `path` or `track_id`, and names by that; paths are absolute.

    Raises
    ------
    DataError
        When it cannot be read, or has no such columns.
    """
    path = Path(path)
    cells = [row.cells for row in _rows_with(path, [])]
    header = cells[0].keys()
    key = next((name for name in ("path", "track_id") if name in header), None)
    columns = [name for name in ("artist", "artist_group", "group") if name in header]
    if key is None or not columns:
        raise DataError(
            f"{path} is no table of artists: its columns are {', '.join(header)}",
            valid="columns path (or track_id) and artist (or artist_group, group)",
        )

    names: dict[str, set[str]] = {}
    for row in cells:
        place = os.path.abspath(path.parent / row[key]) if key == "path" else row[key]  # noqa: PTH100
        names.setdefault(place, set()).update(row[column].strip() for column in columns)
    return key, names


def with_artists(manifest: Manifest, artists: Mapping[str, str]) -> Manifest:
    """Set the column group from artist groups; a track that is not named there is a group of its own.

    Parameters
    ----------
    manifest : Manifest
        The tracks.
    artists : Mapping of str to str
        Artist group of track ids.

    Returns
    -------
    Manifest
        The same tracks.
    """
    parents = [track.columns.get("parent", "") or track.source_id for track in manifest.tracks]
    if not any(parent in artists for parent in parents):
        raise DataError(
            f"the artist table names none of these tracks (ids like {manifest.tracks[0].track_id!r})",
            valid="The same track ids in both",
        )

    return manifest.with_tracks(
        dataclasses.replace(track, group=artists.get(parent, ""))
        for track, parent in zip(manifest.tracks, parents, strict=True)
    )


def without_broken_sounds(index: Index, progress: Progress | None = None) -> Index:
    """Leave out the sound files that cannot be heard, as far as their beginning tells; pictures and tables stay.

    Raises
    ------
    DataError
        None is left.
    """
    kept: list[Track] = []
    skipped = list(index.skipped)
    problems = in_threads(_problem_of_sound, index.manifest.tracks, reading_threads())
    for done, (track, problem) in enumerate(zip(index.manifest.tracks, problems, strict=True), 1):
        if problem:
            skipped.append((track.path, problem))
        else:
            kept.append(track)
        if progress:
            progress(done, len(index.manifest))

    if not kept:
        path, problem = skipped[-1]
        raise DataError(
            f"none of the {len(index.manifest)} sound files can be heard: {printable(path)} {problem}",
            next_step="Look whether they play",
        )
    return dataclasses.replace(index, manifest=index.manifest.with_tracks(kept), skipped=tuple(skipped))


def _problem_of_sound(track: Track) -> str:
    """Why a sound file is none that can be heard; empty where it is, and of whatever else a track may be."""
    if track.path.suffix.lower() not in AUDIO_SUFFIXES:
        return ""
    try:
        probe(track.path)
    except AudioError as error:
        return f"cannot be heard: {error.problem.removeprefix(f'{printable(track.path)} ')}"
    return ""


def track_md5(track: Track) -> str | OSError:
    """Hex MD5 of a track's file, or why it cannot be read: an absent file must not end a long job."""
    try:
        return md5_of(track.path)
    except OSError as error:
        return error


def with_chosen_labels(manifest: Manifest, labels: Sequence[str]) -> Manifest:
    """Keep the tracks of some labels.

    Parameters
    ----------
    manifest : Manifest
        The tracks.
    labels : sequence of str
        A label each (which may have commas in it), or several with commas between them.

    Raises
    ------
    DataError
        If no track has one of them.
    """
    known = {track.label for track in manifest.tracks}
    chosen: list[str] = []
    for name in map(tidy_label, labels):
        if name in known:
            chosen.append(name)
        else:
            chosen += [piece for piece in map(tidy_label, name.split(",")) if piece]
    return manifest.with_labels(chosen)


def _genre_root(folder: Path) -> Path:
    """Find the folder that holds the genre folders."""
    if not folder.is_dir():
        problem, near = "is a file", ""
        if not folder.exists():
            problem, near = "does not exist", did_you_mean_path(folder)
        raise DataError(f"the folder {folder} {problem}", next_step=f"{near}Give a folder of genre folders, or a CSV")

    # A folder that holds just one folder is perhaps an archive's own top folder: the genres stand further down.
    top = folder
    while True:
        for name in _GENRE_ROOTS:
            if (top / name).is_dir():
                return top / name

        try:
            inner = [path for path in top.iterdir() if path.is_dir() and not path.name.startswith(".")]
        except OSError as error:
            raise DataError(f"the folder {top} cannot be read: {error.strerror}") from error
        if len(inner) != 1:
            # The one folder at the end of such a chain, without folders in it, is a genre itself.
            return top if inner else folder
        top = inner[0]


def _sound_files(root: Path) -> list[Path]:
    """Sound files below the folder of the genres, each genre walked by itself: a file may be linked into several."""
    files: list[Path] = []
    for top in sorted(root.iterdir()):
        if top.name.startswith("."):
            continue
        if top.is_dir():
            files += [path for path in find_audio_files(top) if not _leads_back(path.parent, root)]
        elif top.suffix.lower() in AUDIO_SUFFIXES:
            files.append(top)
    return files


def _leads_back(folder: Path, root: Path) -> bool:
    """Whether a link on the way down to a folder leads back to the folder of the genres, or out of it."""
    real_root = Path(os.path.realpath(root))
    while folder != root:
        if real_root.is_relative_to(os.path.realpath(folder)):
            return True
        folder = folder.parent
    return False


def _notes_on_links(manifest: Manifest) -> list[str]:
    """Name the files that are linked into several genres."""
    labels_of: dict[str, set[str]] = {}
    for track in manifest.tracks:
        labels_of.setdefault(os.path.realpath(track.path), set()).add(track.label)
    several = [
        f"{printable(Path(file).name)} ({', '.join(sorted(labels))})"
        for file, labels in labels_of.items()
        if len(labels) > 1
    ]
    if not several:
        return []

    n = "1 file stands" if len(several) == 1 else f"{len(several)} files stand"
    return [
        f"{n} under several genres and is a track of each, which `musicgenre data audit` calls a contradiction: "
        f"{shortened(several, _SHOWN_FILES)}"
    ]


def _problem(path: Path, root: Path) -> str:
    """Say why a file below the folder of the genres cannot be a track; empty when it can."""
    if len(path.relative_to(root).parts) < 2:
        return "stands in no genre folder"
    if not is_file(path):
        return "cannot be read"
    if path.stat().st_size == 0:
        return "is empty"

    label = _label_of(path, root)
    if not label or not label.isprintable():
        return "its folder's name cannot be a label: rename the folder"
    return ""


def _label_of(path: Path, root: Path) -> str:
    """The genre of a file, which the folder it stands in is named after."""
    return tidy_label(path.relative_to(root).parts[0])


def _track_ids(paths: Sequence[Path]) -> list[str]:
    """Names without suffix if unique, else paths without suffix, else paths."""
    # The shortest form that tells all apart: ids of GTZAN come out as everybody writes them, blues.00000.
    stems = [path.stem for path in paths]
    without_suffix = [path.with_suffix("").as_posix() for path in paths]
    for ids in (stems, without_suffix):
        if len(set(ids)) == len(ids):
            return ids

    return [path.as_posix() for path in paths]


def _finish(
    manifest: Manifest,
    skipped: Sequence[LeftOut],
    labels: Sequence[str] | None,
    artists: Mapping[str, str] | None,
    checksums: bool,
    progress: Progress | None,
) -> Index:
    """Choose labels, add checksums (files that cannot be read are left out) and set the groups."""
    if labels is not None:
        manifest = with_chosen_labels(manifest, labels)

    # Checksums come after the choice of labels: hashing reads every byte of what is taken.
    skipped = list(skipped)
    if checksums:
        tracks: list[Track] = []
        digests = in_threads(track_md5, manifest.tracks, reading_threads())
        for done, (track, digest) in enumerate(zip(manifest.tracks, digests, strict=True), 1):
            if isinstance(digest, str):
                tracks.append(track.with_columns(md5=digest))
            else:
                skipped.append((track.path, f"cannot be read: {digest.strerror}"))
            if progress:
                progress(done, len(manifest))

        if not tracks:
            raise DataError("none of the files can be read", next_step="Check their permissions")
        manifest = manifest.with_tracks(tracks)

    if artists is not None:
        manifest = with_artists(manifest, artists)
    return Index(manifest, tuple(skipped), notes=tuple(notes_on_labels(manifest.counts())))


def _rows_with(
    path: Path, columns: Sequence[str], *, next_step: str = "", may_be_table: bool = False
) -> list[_csv.Row]:
    """Read the rows of a CSV that must have these columns, with a cell in each (only the group may be empty).

    Where some are missing, `next_step` is what to do; with `may_be_table` it is said how a table of features is read.
    """
    header, rows, problems = _csv.read_rows(path)
    if missing := [name for name in columns if name not in header]:
        named = next_step or "Name others with --path-column, --label-column or --id-column"
        if may_be_table and columns[0] in missing:
            named = f"If each row holds the features of a track, add --table. {named}"
        raise DataError(
            f"{path} has no column {' and no column '.join(map(repr, missing))}",
            valid=f"Its columns are {shortened(header, _SHOWN_COLUMNS)}",
            next_step=named,
        )

    for row in rows:
        empty = [name for name in columns if not row.cells[name]]
        problems += [_csv.CellProblem(row.line, name, "", "not empty") for name in empty]
    if "artist_group" not in columns:
        _csv.raise_problems(path, problems)
    if not rows:
        raise DataError(f"{path} has no rows", valid="A row per track")
    return rows


def _label_name(column: str) -> dict[str, str]:
    """The manifest's name for the label column: a column of several labels keeps its own."""
    return {column: "labels" if column == "labels" else "label"}


def _with_names(row: _csv.Row, names: Mapping[str, str]) -> _csv.Row:
    """Give columns the manifest's names; another column of such a name is kept as original_NAME."""
    taken = set(names.values()) - set(names)
    cells: dict[str, str] = {}
    for name, cell in row.cells.items():
        kept_name = f"original_{name}" if name in taken else name
        cells[names.get(name, kept_name)] = cell

    if "label" in cells:
        cells["label"] = tidy_label(cells["label"])
    if "labels" in cells:
        cells["labels"] = ";".join(tidy_label(name) for name in cells["labels"].split(";"))
    return _csv.Row(row.line, cells)
