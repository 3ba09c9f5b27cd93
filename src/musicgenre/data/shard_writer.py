"""Write a store as shards: tar archives that are read from front to back, from a disk or from object storage."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from musicgenre._files import remove_stale, replacing, sha256_of, write_text_atomic, writing_to
from musicgenre._json import parsed_json
from musicgenre._locks import folder_lock
from musicgenre._outputs import UNFINISHED, refuse_foreign_folder
from musicgenre._version import __version__
from musicgenre.data._csv import format_rows
from musicgenre.data.manifest import Manifest, Track, split_names, write_manifest
from musicgenre.data.shard_places import SHARDS_FILE, Shard
from musicgenre.data.store import STORE_FILE, Store
from musicgenre.errors import DataError, UsageError, needing

FORMAT_VERSION = 1
INDEX_FILE, MANIFEST_FILE = "index.csv", "manifest.csv"
_TEMPORARY = (f".{SHARDS_FILE}.*.tmp", f".{INDEX_FILE}.*.tmp", f".{MANIFEST_FILE}.*.tmp", ".*-??????.tar.*.tmp")
_TAR_BLOCK = 512  # bytes; each file of an archive has a header of one
_JSON_BYTES = 2 * _TAR_BLOCK  # with its header
_LARGEST_MB = 1_000_000
_PART, _ROW, _TRACK_ID = 0, 1, 2  # columns of a store's index

Progress = Callable[[int, int], None]


def write_shards(
    store: Store,
    manifest: Manifest | None,
    folder: Path,
    *,
    shard_mb: float = 64.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Shard, ...]:
    """Write the rows of a store as shards, with an index of counts and checksums.

    Tracks are written in a random order, so that what is read together is mixed. The index is written last: a folder
    without it is unfinished, and the same call goes over it again.

    Parameters
    ----------
    store : Store
        With a train, a validation and a test part.
    manifest : Manifest or None
        Its tracks; without one they are listed as the store knows them (no groups, no protocol).
    folder : Path
        Where to; new, empty or unfinished.
    shard_mb : float
        Size of a shard in MiB, unless a single track is larger.
    seed : int
        Of the order of the tracks.
    progress : callable, optional
        Takes (rows written, all rows).

    Raises
    ------
    UsageError
        The folder holds something, or the size is not positive.
    DataError
        The store has no split; the disk is full.
    """
    if not 0 < shard_mb <= _LARGEST_MB:
        raise UsageError(f"--shard-mb {shard_mb} is no size", valid=f"above 0, up to {_LARGEST_MB:,}")
    if set(store.parts) != {"train", "validation", "test"}:
        raise DataError(
            f"the store has the parts {', '.join(store.parts) or '(none)'}",
            valid="train, validation and test, each with a track at least",
            next_step="Split the manifest (musicgenre data split) and prepare again",
        )

    with writing_to(folder), folder_lock(folder, "'musicgenre shard'"):
        _check_free(folder)
        (folder / UNFINISHED).touch()
        remove_stale(folder, _TEMPORARY)
        shards = _Writing(store, folder, round(shard_mb * 2**20), seed, progress).run(manifest)
        (folder / UNFINISHED).unlink()
        return shards


def _check_free(folder: Path) -> None:
    """Refuse a folder that holds anything but an unfinished set of ours."""
    if (folder / SHARDS_FILE).exists():
        raise UsageError(f"{folder} holds shards already", next_step="Give another --output, or delete it first")
    refuse_foreign_folder(folder, lambda folder: False, command="an unfinished 'musicgenre shard'")


@dataclass(frozen=True)
class _Clip:
    """A track's lines of the store's index, and its first row in the store's part and in the shards' part."""

    lines: list[list[str]]
    stored_row: int
    row: int

    @property
    def track_id(self) -> str:
        """The track's name."""
        return self.lines[0][_TRACK_ID]


class _Writing:
    """One set of shards under way."""

    def __init__(self, store: Store, folder: Path, shard_bytes: int, seed: int, progress: Progress | None) -> None:
        self.store, self.folder, self.shard_bytes = store, folder, shard_bytes
        self.rng = np.random.default_rng(seed)
        self.description = parsed_json((store.folder / STORE_FILE).read_text(encoding="utf-8"))
        self.total = sum(part["rows"] for part in self.description["parts"].values())
        self.progress, self.done = progress, 0

    def run(self, manifest: Manifest | None) -> tuple[Shard, ...]:
        """Write the archives, then what lists their rows and tracks, and the description last."""
        header, clips = self._mixed_clips()
        shards: list[Shard] = []
        lines: list[list[str]] = []
        for part, members in clips.items():
            for number, own in enumerate(self._in_shards(members)):
                shards.append(self._write_shard(f"{part}-{number:06}.tar", part, own))
            for clip in members:
                lines += clip.lines

        write_text_atomic(self.folder / INDEX_FILE, format_rows([header, *lines]))
        if manifest is None:
            manifest = _tracks_of_index(header, lines, self.folder)
        write_manifest(manifest, self.folder / MANIFEST_FILE)

        self.description.pop("sha256", None)  # of the store's own file; earlier versions wrote none
        parts = {name: part["rows"] for name, part in self.description.pop("parts").items()}
        whole = {
            **self.description,
            "format_version": FORMAT_VERSION,
            "made_by": f"musicgenre {__version__}",
            "index": INDEX_FILE,
            "index_sha256": sha256_of(self.folder / INDEX_FILE),
            "manifest": MANIFEST_FILE,
            "manifest_sha256": sha256_of(self.folder / MANIFEST_FILE),
            "parts": parts,
            "shards": [asdict(shard) for shard in shards],
        }
        write_text_atomic(self.folder / SHARDS_FILE, json.dumps(whole, indent=1) + "\n")
        return tuple(shards)

    def _mixed_clips(self) -> tuple[list[str], dict[str, list[_Clip]]]:
        """Read the store's index; each part's tracks in a random order, their rows numbered again from 0."""
        path = self.store.folder / self.description["index"]
        with path.open(encoding="utf-8", newline="") as stream:
            header, *lines = csv.reader(stream)

        # a store keeps the rows of a track side by side; here they stay so
        lines_of: dict[str, dict[str, list[list[str]]]] = {}
        for line in lines:
            lines_of.setdefault(line[_PART], {}).setdefault(line[_TRACK_ID], []).append(line)

        clips: dict[str, list[_Clip]] = {}
        for part, by_track in lines_of.items():
            clips[part] = []
            first_row = 0
            tracks = list(by_track.values())
            for number in self.rng.permutation(len(tracks)):
                own = tracks[number]
                renumbered = [[line[_PART], str(first_row + n), *line[_ROW + 1 :]] for n, line in enumerate(own)]
                clips[part].append(_Clip(renumbered, int(own[0][_ROW]), first_row))
                first_row += len(own)
        return header, clips

    def _in_shards(self, clips: list[_Clip]) -> Iterator[list[_Clip]]:
        """Yield the tracks of one shard after the other, each of about the wanted size."""
        row_bytes = int(np.prod(self.store.shape)) * self.store.dtype.itemsize
        members: list[_Clip] = []
        size = 0
        for clip in clips:
            own = len(clip.lines) * row_bytes + _JSON_BYTES + 2 * _TAR_BLOCK
            if members and size + own > self.shard_bytes:
                yield members
                members, size = [], 0
            members.append(clip)
            size += own

        yield members

    def _write_shard(self, file: str, part: str, clips: list[_Clip]) -> Shard:
        """Write an archive with two files a track, its rows and what they are."""
        with needing("writing shards", "stream"):
            from webdataset import TarWriter

        features = self.store.rows_of_file(part)
        n_rows = 0
        with replacing(self.folder / file) as temporary:
            # without times, so that the same rows make the same bytes
            with temporary.open("wb") as stream, TarWriter(stream, encoder=False, mtime=0) as tar:
                for clip in clips:
                    rows = features[clip.stored_row : clip.stored_row + len(clip.lines)]
                    npy = io.BytesIO()
                    np.lib.format.write_array(npy, np.ascontiguousarray(rows), allow_pickle=False)
                    about = json.dumps({"track_id": clip.track_id, "row": clip.row})
                    tar.write({"__key__": f"{clip.row:09}", "npy": npy.getvalue(), "json": about.encode()})
                    n_rows += len(rows)

            self.done += n_rows
            if self.progress is not None:
                self.progress(self.done, self.total)
            n_bytes, sha256 = temporary.stat().st_size, sha256_of(temporary)

        return Shard(file, part, clips[0].row, n_rows, len(clips), n_bytes, sha256)


def _tracks_of_index(header: list[str], lines: list[list[str]], folder: Path) -> Manifest:
    """List the tracks of a store whose manifest is not at hand; they have no file but the shards."""
    tracks: dict[str, Track] = {}
    for line in lines:
        cells = dict(zip(header, line, strict=True))
        if cells["track_id"] in tracks:
            continue  # another row of the same track
        tracks[cells["track_id"]] = Track(
            cells["track_id"],
            folder / SHARDS_FILE,
            cells["label"],
            labels=split_names(cells["labels"]),
            split=cells["split"],
            fold=int(cells["fold"]) if cells["fold"] else None,
            augmented=cells["augmented"] == "true",
            source_id=cells["source_id"],
        )
    return Manifest(None, tuple(tracks.values()))
