"""Make batches of small shards, and damage them."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from musicgenre.data.shards import ShardSet
from musicgenre.training.batches import Examples
from musicgenre.training.recipes import StreamSection
from musicgenre.training.stream import ShardBatches

SHARD_MB = 0.005
"""Two tracks of the small store fill a shard."""


def batches_of(shards: ShardSet, *, seed: int = 0, epoch: int = 0, kind: str = "all", **settings: Any) -> ShardBatches:
    part = shards.part("train")
    return ShardBatches(
        shards,
        part,
        Examples(part, kind),  # type: ignore[arg-type]
        8,
        seed=seed,
        settings=StreamSection(**{"buffer": 10, **settings}),
        epoch=lambda: epoch,
    )


def values_in(batches: ShardBatches) -> list[int]:
    return [int(value) for x, _ in batches for value in x[:, 0, 0]]


def damage_index(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "shards.json"
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")


def put_shard(folder: Path, file: str, members: dict[str, bytes]) -> None:
    """Replace a shard by an archive of these files, and tell the index so."""
    path = folder / file
    path.chmod(0o644)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    shard = {"n_bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    damage_index(folder, lambda index: next(s for s in index["shards"] if s["file"] == file).update(shard))


def npy(rows: np.ndarray, *, allow_pickle: bool = False) -> bytes:
    stream = io.BytesIO()
    np.save(stream, rows, allow_pickle=allow_pickle)
    return stream.getvalue()


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """An HTTP server on this machine in place of object storage."""
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    handler: Callable[..., Any] = functools.partial(quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
