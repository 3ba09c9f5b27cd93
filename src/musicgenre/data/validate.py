"""Check every file of a data set: missing, changed, corrupt and extra ones are named."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musicgenre._files import cache_folder, is_file
from musicgenre._json import parsed_json
from musicgenre._parallel import in_threads, reading_threads
from musicgenre.audio import AUDIO_SUFFIXES, as_audio_error, find_audio_files, stream
from musicgenre.data import _csv
from musicgenre.data.download import digest_of, download
from musicgenre.data.index import Progress
from musicgenre.data.manifest import Manifest, Track
from musicgenre.data.sets.registry import DataSet
from musicgenre.errors import AudioError, DataError, MissingExtraError

_DECODE_RATE_HZ = 22_050  # what is heard does not matter here, only that all of it decodes
_CHECKSUM_COLUMNS = ("md5", "wav_md5", "checksum")


@dataclass(frozen=True)
class Finding:
    """Something about one file: `kind` is missing, changed, corrupt, extra or odd."""

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
        Published checksums by track id (`md5:...`, `sha1:...` or bare md5); these go before the column.
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
    results = in_threads(
        lambda track: _check(track, known.get(track.track_id, ""), decode), manifest.tracks, jobs or reading_threads()
    )
    for done, found in enumerate(results, 1):
        findings.extend(found)
        if progress:
            progress(done, len(manifest))

    # Links are resolved: a track may be listed under one name and lie beside the others under another.
    in_manifest = {os.path.realpath(track.path) for track in manifest.tracks}
    folders = sorted({t.path.parent for t in manifest.tracks if t.path.suffix.lower() in AUDIO_SUFFIXES})
    for path in find_audio_files([folder for folder in folders if folder.is_dir()]):
        if os.path.realpath(path) not in in_manifest:
            findings.append(Finding("extra", "", path, "no row names it"))

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
    # Every tag, and no checksums of the files as they are: these are compared with the published ones.
    options: dict[str, Any] = {"tags": "all", "checksums": False}
    index = data_set.list_tracks(folder, **{name: options[name] for name in data_set.options if name in options})
    manifest = index.manifest

    expected = set(data_set.track_ids()) or set(checksums or ())
    own = manifest.with_tracks(track for track in manifest.tracks if not expected or track.track_id in expected)
    checked = validate_manifest(own, checksums=checksums, jobs=jobs, progress=progress)

    # What the index left out is corrupt where it is a track of the set; a track that it never met is missing.
    findings: list[Finding] = []
    unusable = {path.stem: Finding("corrupt", path.stem, path, why) for path, why in index.skipped}
    present = {track.track_id for track in manifest.tracks}
    for name in sorted(expected - present):
        missing = Finding("missing", name, Path(name), "no such track in the folder")
        findings.append(unusable.pop(name, missing))

    left_out = {path for path, _ in (*index.skipped, *index.expected)}
    findings += [finding for finding in checked.findings if finding.path not in left_out]

    named = {finding.path for finding in checked.findings}
    for track in manifest.tracks:
        if expected and track.track_id not in expected and track.path not in named:
            findings.append(Finding("extra", "", track.path, f"no track of {data_set.name}"))

    # Other files that the index left out: no track of the set has their name.
    for found in unusable.values():
        kind = "extra"
        if not is_file(found.path):
            kind = "missing"
        elif found.path.suffix.lower() in AUDIO_SUFFIXES and _decode(found.path)[0]:
            kind = "corrupt"
        findings.append(Finding(kind, "", found.path, found.reason))
    findings += [Finding("odd", "", path, why) for path, why in index.expected]

    explained = []
    for finding in findings:
        fault = data_set.faults.get(finding.track_id)
        reason = f"{finding.reason} (known fault: {fault})" if fault else finding.reason
        explained.append(dataclasses.replace(finding, reason=reason))
    return Validation(len(expected or present), checked.n_compared, tuple(explained))


def published_checksums(
    data_set: DataSet, folder: Path, *, index: Path | None = None
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Find the checksums of a set's tracks: in `index`, inside the data set, or where they are published.

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
    found: dict[str, str] = {}
    if path.suffix.lower() == ".json":
        try:
            tracks = parsed_json(path.read_text("utf-8"))["tracks"]
            found = {name: str(files["audio"][1]) for name, files in tracks.items() if files["audio"][1]}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise DataError(f"{path} is no index of mirdata ({type(error).__name__}: {error})") from error
    else:
        header, rows, problems = _csv.read_rows(path)
        column = next((name for name in _CHECKSUM_COLUMNS if name in header), None)
        if column is None or "track_id" not in header:
            raise DataError(
                f"{path} has the columns {', '.join(header)}",
                valid=f"track_id and one of {', '.join(_CHECKSUM_COLUMNS)}",
            )
        _csv.raise_problems(path, problems)
        for row in rows:
            if digest := row.cells[column].strip().lower():
                found[row.cells["track_id"]] = digest

    if not found:
        raise DataError(f"{path} names no checksum", valid="A CSV with track_id and md5, or an index of mirdata")
    return found


def _check(track: Track, expected: str, decode: bool) -> list[Finding]:
    """Compare one file with its checksum; decode it where it has none, or another one."""

    def finding(kind: str, reason: str) -> Finding:
        return Finding(kind, track.track_id, track.path, reason)

    if not is_file(track.path):
        return [finding("missing", "there is no such file")]

    algorithm, _, digest = expected.rpartition(":")
    try:
        with as_audio_error(track.path):
            is_changed = bool(digest) and digest_of(track.path, algorithm or "md5") != digest
    except AudioError as error:
        return [finding("corrupt", error.problem)]
    if digest and not is_changed:
        return []

    problem, warnings = "", tuple[str, ...]()
    if decode and track.path.suffix.lower() in AUDIO_SUFFIXES:
        problem, warnings = _decode(track.path)
    if problem:
        return [finding("corrupt", problem)]
    if is_changed:
        return [finding("changed", "; ".join(["its checksum is another one", *warnings]))]
    return [finding("odd", warning) for warning in warnings]


def _decode(path: Path) -> tuple[str, tuple[str, ...]]:
    """Decode a whole file; return why that failed, and what was odd."""
    try:
        blocks = stream(path, _DECODE_RATE_HZ)
        for _ in blocks:
            pass
    except AudioError as error:
        return error.problem, ()

    return "", tuple(blocks.warnings)
