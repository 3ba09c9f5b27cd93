"""Check every file of a data set: missing, changed, corrupt and extra ones are named."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from musicgenre._files import cache_folder, parsed_json
from musicgenre.audio import AUDIO_SUFFIXES, find_audio_files, stream
from musicgenre.data import _csv
from musicgenre.data.download import download
from musicgenre.data.manifest import Manifest, Track
from musicgenre.data.sets.registry import DataSet
from musicgenre.errors import AudioError, DataError, MissingExtraError

_DECODE_RATE_HZ = 22_050
_CHECKSUM_COLUMNS = ("md5", "wav_md5", "checksum")
Progress = Callable[[int, int], None]  # (done, all)


@dataclass(frozen=True)
class Finding:
    """Something about one file: ``kind`` is missing, changed, corrupt, extra or odd."""

    kind: str
    track_id: str
    path: Path
    reason: str


@dataclass(frozen=True)
class Validation:
    """What a check found.

    Parameters
    ----------
    n_checked : int
        Tracks looked at.
    n_compared : int
        Those whose content was compared with a known checksum.
    findings : tuple of Finding
        In the order of the tracks, extra files last.
    notes : tuple of str
        What could not be checked.
    """

    n_checked: int
    n_compared: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is missing, changed, corrupt or extra (odd files are still usable)."""
        return all(finding.kind == "odd" for finding in self.findings)

    def of_kind(self, kind: str) -> tuple[Finding, ...]:
        """Findings of one kind."""
        return tuple(finding for finding in self.findings if finding.kind == kind)


def validate_manifest(
    manifest: Manifest,
    *,
    checksums: Mapping[str, str] | None = None,
    decode: bool = True,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Validation:
    """Check the file of every track.

    Parameters
    ----------
    manifest : Manifest
        The tracks. Their column md5, where there is one, is the checksum.
    checksums : Mapping of str to str, optional
        Published checksums by track id (``md5:...``, ``sha1:...`` or bare md5); these go before the column.
    decode : bool, optional
        Whether to decode the files that no checksum vouches for.
    jobs : int, optional
        Files at a time.
    progress : callable, optional
        Told (tracks done, all tracks).

    Returns
    -------
    Validation
        Extra files are sound files beside the tracks, in the same folders, that no row names.
    """
    known = {track.track_id: track.columns.get("md5", "") for track in manifest.tracks} | dict(checksums or {})
    findings: list[Finding] = []
    with ThreadPoolExecutor(max_workers=jobs or min(4, os.cpu_count() or 1)) as pool:
        results = pool.map(lambda track: _check(track, known.get(track.track_id, ""), decode), manifest.tracks)
        for done, result in enumerate(results, 1):
            findings.extend(result)
            if progress:
                progress(done, len(manifest))
    listed = {os.path.realpath(track.path) for track in manifest.tracks}
    folders = sorted({t.path.parent for t in manifest.tracks if t.path.suffix.lower() in AUDIO_SUFFIXES})
    beside = find_audio_files([folder for folder in folders if folder.is_dir()])
    extra = (path for path in beside if os.path.realpath(path) not in listed)
    findings.extend(Finding("extra", "", path, "no row names it") for path in extra)
    return Validation(len(manifest), sum(bool(known[t.track_id]) for t in manifest.tracks), tuple(findings))


def validate_set(
    data_set: DataSet,
    folder: Path,
    *,
    checksums: Mapping[str, str] | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Validation:
    """Check a folder against what is known of a data set.

    Parameters
    ----------
    data_set : DataSet
        The set.
    folder : Path
        Where it stands.
    checksums : Mapping of str to str, optional
        Checksums by track id, see `published_checksums`.
    jobs, progress
        As in `validate_manifest`.

    Returns
    -------
    Validation
        Tracks of the set that the folder lacks are missing; files of other names are extra.
    """
    every_tag = {"tags": "all"} if "tags" in data_set.options else {}
    index = data_set.index(folder, checksums=False, **every_tag)
    manifest = index.manifest
    expected = set(data_set.track_ids()) or set(checksums or ())
    own = manifest.with_tracks(track for track in manifest.tracks if not expected or track.track_id in expected)
    checked = validate_manifest(own, checksums=checksums, jobs=jobs, progress=progress)
    present = {track.track_id for track in manifest.tracks}
    unusable = {path.stem: Finding("corrupt", path.stem, path, why) for path, why in index.skipped}
    absent = [
        unusable.pop(name, Finding("missing", name, Path(name), "no such track in the folder"))
        for name in sorted(expected - present)
    ]
    named = {finding.path for finding in checked.findings}
    foreign = [track for track in manifest.tracks if expected and track.track_id not in expected]
    extra = [Finding("extra", "", t.path, f"no track of {data_set.name}") for t in foreign if t.path not in named]
    others = [Finding(_kind(found.path), "", found.path, found.reason) for found in unusable.values()]
    others += [Finding("odd", "", path, why) for path, why in index.expected]
    skipped = {path for path, _ in (*index.skipped, *index.expected)}
    found = [finding for finding in checked.findings if finding.path not in skipped]
    findings = [_with_fault(finding, data_set) for finding in (*absent, *found, *extra, *others)]
    return Validation(len(expected or present), checked.n_compared, tuple(findings))


def published_checksums(
    data_set: DataSet, folder: Path, *, index: Path | None = None
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Find the checksums of a set's tracks: in ``index``, inside the data set, or where they are published.

    Parameters
    ----------
    data_set : DataSet
        The set.
    folder : Path
        Where it stands.
    index : Path, optional
        A list at hand: a CSV with track_id and md5, or mirdata's JSON index.

    Returns
    -------
    (dict of str to str, tuple of str)
        Checksums by track id, and notes on what is not at hand.
    """
    if index is not None:
        return read_checksums(index), ()
    if data_set.local_checksums is not None and (local := data_set.local_checksums(folder)):
        return local, ()
    if data_set.checksums is None:
        return {}, (f"no checksums of {data_set.name} are published: files were decoded instead",)
    try:
        return read_checksums(download(data_set.checksums, cache_folder() / "checksums")), ()
    except (DataError, MissingExtraError) as error:
        hint = "files were decoded, not compared; --index FILE takes a list at hand"
        return {}, (f"the published checksums are not at hand ({error}): {hint}",)


def read_checksums(path: Path) -> dict[str, str]:
    """Read checksums by track id from a CSV (track_id and md5) or an index of mirdata (JSON).

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict of str to str
        Never empty.
    """
    found = _read_mirdata(path) if path.suffix.lower() == ".json" else _read_csv(path)
    if not found:
        raise DataError(f"{path} names no checksum", valid="A CSV with track_id and md5, or an index of mirdata")
    return found


def _read_csv(path: Path) -> dict[str, str]:
    header, rows, problems = _csv.read_rows(path)
    column = next((name for name in _CHECKSUM_COLUMNS if name in header), None)
    if column is None or "track_id" not in header:
        raise DataError(
            f"{path} has the columns {', '.join(header)}", valid=f"track_id and one of {', '.join(_CHECKSUM_COLUMNS)}"
        )
    _csv.raise_problems(path, problems)
    return {row.cells["track_id"]: row.cells[column].strip().lower() for row in rows if row.cells[column].strip()}


def _read_mirdata(path: Path) -> dict[str, str]:
    try:
        tracks = parsed_json(path.read_text("utf-8"))["tracks"]
        return {name: str(files["audio"][1]) for name, files in tracks.items() if files["audio"][1]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise DataError(f"{path} is no index of mirdata ({type(error).__name__}: {error})") from error


def _check(track: Track, expected: str, decode: bool) -> Iterable[Finding]:
    if not track.path.is_file():
        return [Finding("missing", track.track_id, track.path, "there is no such file")]
    try:
        changed = bool(expected) and _digest(track.path, expected) != expected.rpartition(":")[2]
    except OSError as error:
        return [Finding("corrupt", track.track_id, track.path, f"cannot be read: {error.strerror}")]
    if expected and not changed:
        return []
    sound = decode and track.path.suffix.lower() in AUDIO_SUFFIXES
    problem, warnings = _decode(track.path) if sound else ("", ())
    if problem:
        return [Finding("corrupt", track.track_id, track.path, problem)]
    if changed:
        reason = "; ".join(["its checksum is another one", *warnings])
        return [Finding("changed", track.track_id, track.path, reason)]
    return [Finding("odd", track.track_id, track.path, warning) for warning in warnings]


def _kind(path: Path) -> str:
    """What a file is that the index of its set left out."""
    if not path.is_file():
        return "missing"
    return "corrupt" if path.suffix.lower() in AUDIO_SUFFIXES and _decode(path)[0] else "extra"


def _digest(path: Path, expected: str) -> str:
    algorithm = expected.partition(":")[0] if ":" in expected else "md5"
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def _decode(path: Path) -> tuple[str, tuple[str, ...]]:
    """Decode a whole file; return why that failed, and what was odd."""
    try:
        blocks = stream(path, _DECODE_RATE_HZ)
        for _ in blocks:
            pass
    except AudioError as error:
        return error.problem, ()
    return "", tuple(blocks.warnings)


def _with_fault(finding: Finding, data_set: DataSet) -> Finding:
    fault = data_set.faults.get(finding.track_id)
    if fault is None:
        return finding
    return Finding(finding.kind, finding.track_id, finding.path, f"{finding.reason} (known fault: {fault})")
