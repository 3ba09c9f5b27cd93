"""Plumbing of `embed`: the rows of a file in the making, found by path and by content."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from musicgenre._files import sha256_of
from musicgenre.errors import DataError
from musicgenre.inference.embedding_file import Float16, TrackEmbeddings


@dataclass(frozen=True, slots=True, eq=False)
class HeardTrack:
    """A track with its vector and what its file is recognised by."""

    path: str
    vector: Float16
    size_bytes: int
    modified_ns: int
    sha256: bytes


class Library:
    """The rows of a file in the making, found by path and by content."""

    def __init__(self, tracks: TrackEmbeddings) -> None:
        self.settings = tracks.settings
        whole = np.flatnonzero(np.isfinite(tracks.vectors).all(axis=1))  # the others are heard again
        self.changed = len(whole) < len(tracks)
        self._paths = [tracks.paths[row] for row in whole.tolist()]
        self._vectors: list[Float16] = list(tracks.vectors[whole])
        self._files = list(zip(tracks.size_bytes[whole].tolist(), tracks.modified_ns[whole].tolist(), strict=True))
        self._hashes = [row.tobytes() for row in tracks.sha256[whole]]
        self._by_path = {path: row for row, path in enumerate(self._paths)}
        self._by_hash = {digest: row for row, digest in enumerate(self._hashes)}
        self._sizes = {size for size, _ in self._files}

    def __len__(self) -> int:
        return len(self._paths)

    def knows(self, path: str) -> bool:
        """Tell whether this very content was heard; one that moved or was touched is put down as it is now."""
        try:
            status = Path(path).stat()
            now = (status.st_size, status.st_mtime_ns)
            row = self._by_path.get(path)
            if row is not None and self._files[row] == now:
                return True
            same = self._by_hash.get(bytes.fromhex(sha256_of(Path(path)))) if now[0] in self._sizes else None
        except OSError:
            return False
        if same is None:
            return False
        if row is None and not Path(self._paths[same]).exists():  # moved: its row goes with it
            self._by_path[path] = self._by_path.pop(self._paths[same])
            self._paths[same] = path
            self._files[same] = now
            self.changed = True
            return True
        self._put(path, self._vectors[same], now, self._hashes[same])
        return True

    def add(self, row: HeardTrack) -> None:
        """Put down a track; one of the same name is replaced.

        Raises
        ------
        DataError
            When its vector is of another width than those of the file.
        """
        if self._vectors and row.vector.shape != self._vectors[0].shape:
            raise DataError(
                f"the file holds embeddings of width {len(self._vectors[0])}, not {len(row.vector)}",
                next_step="It is damaged: make it anew with --overwrite, or choose another --output",
            )
        self._put(row.path, row.vector, (row.size_bytes, row.modified_ns), row.sha256)

    def tracks(self) -> TrackEmbeddings:
        """Everything put down so far."""
        files = np.array(self._files, dtype=np.int64).reshape(-1, 2)
        hashes = np.frombuffer(b"".join(self._hashes), dtype=np.uint8).reshape(-1, 32)
        vectors = np.stack(self._vectors)
        return TrackEmbeddings(
            self.settings, tuple(self._paths), vectors, files[:, 0].copy(), files[:, 1].copy(), hashes
        )

    def _put(self, path: str, vector: Float16, file: tuple[int, int], digest: bytes) -> None:
        row = self._by_path.setdefault(path, len(self._paths))
        if row == len(self._paths):
            self._paths.append(path)
            self._vectors.append(vector)
            self._files.append(file)
            self._hashes.append(digest)
        else:
            if self._by_hash.get(self._hashes[row]) == row:
                del self._by_hash[self._hashes[row]]
            self._vectors[row], self._files[row], self._hashes[row] = vector, file, digest
        self._by_hash.setdefault(digest, row)
        self._sizes.add(file[0])
        self.changed = True
