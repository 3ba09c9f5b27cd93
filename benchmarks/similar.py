"""Speed of `musicgenre similar`: one query over a million embeddings, against plain NumPy.

Run: python benchmarks/similar.py [--tracks 1000000] [--width 200]

The plain way is what one would write first: ``embeddings.astype(float32) @ query`` on float16 embeddings that lie in
memory, and ``argpartition`` of the result. Ours answers from a mapped file, leaves the track itself out and settles
near ties in float64. Both run in this one process, taking turns; the ratio is that of their medians. The embeddings
are random: their values do not matter for speed.

Where torch is installed, its own product of float16 values, with two threads, is measured too. It is no third way to
answer: it gives its sums in float16, three digits, which cannot tell near neighbours apart.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from musicgenre.embedding.file import EmbeddingSettings, TrackEmbeddings, write_embeddings
from musicgenre.embedding.similar import SimilarityIndex

TOP = 10
REPEATS = 7


def random_library(n: int, width: int) -> TrackEmbeddings:
    """Embeddings of ``n`` tracks that do not exist."""
    rng = np.random.default_rng(8)
    vectors = np.empty((n, width), dtype=np.float16)
    for start in range(0, n, 10_000):
        vectors[start : start + 10_000] = rng.standard_normal(vectors[start : start + 10_000].shape, dtype=np.float32)
    numbers = np.arange(n)
    hashes = rng.integers(0, 256, (n, 32), dtype=np.uint8)
    settings = EmbeddingSettings("random", "", "embedding", "mean", "18")
    return TrackEmbeddings(settings, [f"music/track {i}.mp3" for i in range(n)], vectors, numbers, numbers, hashes)


def seconds(work: Callable[[], object]) -> float:
    """Seconds that one run takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def torch_product(library: TrackEmbeddings, query: NDArray[np.float32]) -> Callable[[], object] | None:
    """Multiply all embeddings with the query by torch; None where it is not installed."""
    try:
        import torch
    except ModuleNotFoundError:
        return None
    torch.set_num_threads(2)
    rows, vector = torch.from_numpy(library.vectors), torch.from_numpy(query).half()
    return lambda: torch.mv(rows, vector)


def main() -> None:
    """Write a library, open it, ask it, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tracks", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=200)
    options = parser.parse_args()
    library = random_library(options.tracks, options.width)
    length = np.sqrt(np.einsum("ij,ij->i", library.vectors, library.vectors, dtype=np.float32))
    query = library.vectors[0].astype(np.float32) / length[0]

    def plain() -> set[int]:
        cosines = (library.vectors.astype(np.float32) @ query) / length
        cosines[0] = -1
        return set(np.argpartition(cosines, -TOP)[-TOP:].tolist())

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "library.npz"
        print(f"{options.tracks} embeddings of {options.width} float16 values")
        print(f"write             {seconds(lambda: write_embeddings(path, library)):7.3f} s")
        opening = []
        opening_s = seconds(lambda: opening.append(SimilarityIndex.open(path)))
        index = opening[0]
        print(f"open              {opening_s:7.3f} s")
        found = {index.paths.index(entry.path) for entry in index.nearest_to(0, top=TOP)}
        if found != plain():
            sys.exit("the two ways disagree")
        ours_s, plain_s, torch_s = [], [], []
        with_torch = torch_product(library, query)
        for _ in range(REPEATS):
            ours_s.append(seconds(lambda: index.nearest_to(0, top=TOP)))
            plain_s.append(seconds(plain))
            torch_s.append(seconds(with_torch) if with_torch is not None else float("nan"))
        ours, theirs = statistics.median(ours_s), statistics.median(plain_s)
        print(f"query, ours       {ours:7.3f} s  (fastest {min(ours_s):.3f}, slowest {max(ours_s):.3f})")
        print(f"query, plain      {theirs:7.3f} s  (fastest {min(plain_s):.3f}, slowest {max(plain_s):.3f})")
        print(f"ratio             {theirs / ours:7.1f} x")
        if with_torch is not None:
            print(f"torch's product   {statistics.median(torch_s):7.3f} s  (fastest {min(torch_s):.3f})")


if __name__ == "__main__":
    main()
