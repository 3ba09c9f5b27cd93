"""What it costs that every row of features is compared with its checksum when a process reads it first.

Run: python benchmarks/checksums.py

Rows are read in batches of 64, in a random order, with checksums and without, in turns; processor seconds, the best of
three. The last lines: an entry of the cache as it is written, and if it were on the disk before it has its name.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np

from musicgenre._files import replacing
from musicgenre.data.rows import FeatureRows, write_npy

SHAPES = {"mel spectrogram": (128, 130), "MFCC": (13, 130), "table": (57,)}
N_BYTES, BATCH, REPEATS, N_ENTRIES = 64 << 20, 64, 3, 100


def seconds_to_read(rows: FeatureRows, order: np.ndarray) -> float:
    """Processor seconds that it takes to read every row once."""
    before = time.process_time()
    for start in range(0, len(order), BATCH):
        rows[order[start : start + BATCH]]
    return time.process_time() - before


def main() -> None:
    """Print a line for every shape."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        for what, shape in SHAPES.items():
            n_rows = N_BYTES // (4 * int(np.prod(shape)))
            values = rng.normal(size=(n_rows, *shape)).astype(np.float32)
            path = Path(name) / "rows.npy"
            with path.open("wb") as stream:
                write_npy(stream, [values], values.shape, values.dtype)

            order = rng.permutation(n_rows)
            took: dict[str, list[float]] = {"plain": [], "first": [], "again": []}
            for _ in range(REPEATS):
                places = np.zeros(n_rows, np.int64), np.arange(n_rows)
                plain = FeatureRows([path], shape, values.dtype, *places)
                checked = FeatureRows([path], shape, values.dtype, *places, remedy="none")
                took["plain"].append(seconds_to_read(plain, order))
                took["first"].append(seconds_to_read(checked, order))
                took["again"].append(seconds_to_read(checked, order))
            costs = {kind: min(times) * 1e6 / n_rows for kind, times in took.items()}
            print(f"{what}: µs a row", {kind: round(cost, 1) for kind, cost in costs.items()})

        entry = os.urandom(100_000)
        for durable in (False, True):
            before = time.monotonic()
            for number in range(N_ENTRIES):
                with replacing(Path(name) / f"{number}.rows", tidy=False, durable=durable) as temporary:
                    temporary.write_bytes(entry)
            print(f"an entry of the cache, {durable=}: {(time.monotonic() - before) * 1e3 / N_ENTRIES:.1f} ms")


if __name__ == "__main__":
    main()
