"""Speed of every other model that listens in the light install beside the default one, in one run, on one thread.

Run: python benchmarks/models.py [--write]      --write keeps the table for docs/results.md

The default model with its wide vocabulary, the published taggers, Discogs-EffNet and a head on it. Discogs-EffNet's
published weights are not needed, and were never here: an EfficientNet-B0 of random weights, with the published input
and outputs and as many multiplications, stands in for it, and a layer of random weights for the head. The MusiCNNs
are the published ones where they are in the cache, else the same networks with random weights. Ratios are of medians
of processor time, measured in turns: what else the machine does then counts for less.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

PLACE = Path(__file__).resolve().parents[1] / "docs" / "results" / "speed.md"
RATE_HZ = 16_000
TRACK_S = 30.0
REPEATS = 9
SEED = 13
TAGGERS = ("msd-musicnn", "mtt-musicnn", "msd-vgg", "mtt-vgg")
HEAD = "head-of-87"
WIDE = "default --genres wide"
# EfficientNet-B0: expansion, channels, blocks, stride of the first, kernel
STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


def efficientnet_b0() -> bytes:
    """An EfficientNet-B0 of random weights on patches (n, 128, 96), 400 and 1280 wide, batch-norms folded in."""
    from musicgenre._onnx import GraphBuilder

    random = np.random.default_rng(SEED)
    graph = GraphBuilder("efficientnet_b0")

    def convolved(tensor: str, n_in: int, n_out: int, kernel: int, stride: int = 1, group: int = 1) -> str:
        shape = (n_out, n_in // group, kernel, kernel)
        weights = random.standard_normal(shape) * np.sqrt(1.0 / np.prod(shape[1:]))
        behind = kernel // 2
        ahead = behind - (stride - 1)  # as TensorFlow pads an even length
        return graph.op(
            "Conv",
            tensor,
            graph.floats(weights),
            graph.floats(np.zeros(n_out)),
            group=group,
            strides=[stride, stride],
            pads=[ahead, ahead, behind, behind],
        )

    def swish(tensor: str) -> str:
        return graph.op("Mul", tensor, graph.op("Sigmoid", tensor))

    patches = graph.input("melspectrogram", "float32", ["n", 128, 96])
    hidden = graph.op("Unsqueeze", patches, graph.integers([1]))
    hidden, width = swish(convolved(hidden, 1, 32, 3, 2)), 32

    for expansion, channels, n_blocks, first_stride, kernel in STAGES:
        for block in range(n_blocks):
            stride = first_stride if block == 0 else 1
            before, inner = hidden, expansion * width
            if expansion > 1:
                hidden = swish(convolved(hidden, width, inner, 1))
            hidden = swish(convolved(hidden, inner, inner, kernel, stride, group=inner))

            # squeeze and excitation
            squeezed = graph.op("GlobalAveragePool", hidden)
            narrow = max(1, width // 4)
            excited = convolved(swish(convolved(squeezed, inner, narrow, 1)), narrow, inner, 1)
            hidden = convolved(graph.op("Mul", hidden, graph.op("Sigmoid", excited)), inner, channels, 1)
            if stride == 1 and width == channels:
                hidden = graph.op("Add", hidden, before)
            width = channels

    hidden = graph.op("GlobalAveragePool", swish(convolved(hidden, width, 1280, 1)))
    embedding = graph.reshape(hidden, [-1, 1280])
    weights = graph.floats(random.standard_normal((1280, 400)) / np.sqrt(1280))
    graph.output(graph.op("Sigmoid", graph.op("MatMul", embedding, weights)), "PartitionedCall:0", ["n", 400])
    graph.output(embedding, "PartitionedCall:1", ["n", 1280])
    return graph.build()


def get_stand_in(folder: Path) -> Path:
    """Make the bundle of the stand-in, as `bundles get --unverified` makes it of the published file."""
    from musicgenre.bundle import get_on_terms

    model = folder / "discogs-effnet-bsdynamic-1.onnx"
    model.write_bytes(efficientnet_b0())
    styles = [f"Genre {number % 15}---Style {number}" for number in range(400)]
    model.with_suffix(".json").write_text(json.dumps({"classes": styles}), encoding="utf-8")
    return get_on_terms("discogs-effnet", accept_licence=True, unverified=True, source=model)


def get_head(folder: Path) -> None:
    """Make a bundle of a head on the stand-in: 87 genres, as many as the largest published one has."""
    from musicgenre._onnx import GraphBuilder
    from musicgenre.bundle import get_on_terms

    graph = GraphBuilder("head")
    embedding = graph.input("model/Placeholder", "float32", ["n", 1280])
    weights = np.random.default_rng(SEED).standard_normal((1280, 87)) / np.sqrt(1280)
    scores = graph.op("Sigmoid", graph.op("MatMul", embedding, graph.floats(weights)))
    graph.output(scores, "model/Sigmoid:0", ["n", 87])

    model, labels = folder / "head.onnx", folder / "labels.json"
    model.write_bytes(graph.build())
    labels.write_text(json.dumps({"classes": [f"genre {number}" for number in range(87)]}), encoding="utf-8")
    get_on_terms(HEAD, accept_licence=True, unverified=True, source=model, labels=labels)


def get_published(folder: Path) -> str:
    """Put the bundles of the published networks into the cache of this run; say which they are."""
    from musicgenre.bundle import bundle_path, save_bundle
    from musicgenre.bundle.musicnn import convert
    from musicgenre.features.published.musicnn.published import published
    from musicgenre.features.published.musicnn.weights import random_variables

    paths = {name: bundle_path(name) for name in TAGGERS}
    os.environ["MUSICGENRE_CACHE"] = str(folder / "cache")
    bundle_path(TAGGERS[0]).parent.mkdir(parents=True)
    random = []
    for name, path in paths.items():
        if path.is_file():
            bundle_path(name).write_bytes(path.read_bytes())
            continue
        read = random_variables(published(name).family).__getitem__
        save_bundle(bundle_path(name), *convert(published(name), read))
        random.append(name)
    return f"random weights: {', '.join(random)}" if random else "published weights"


def medians_s(jobs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of processor time of jobs that take turns, after one warm-up each."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for job in jobs.values():
        job()
    for _ in range(REPEATS):
        for name, job in jobs.items():
            start = time.process_time()
            job()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def main() -> None:
    """Time every model on one track, and Discogs-EffNet's front end alone."""
    from musicgenre import Classifier
    from musicgenre.features.published.essentia.network import front_graph, open_network
    from musicgenre.listening.classifier import DEFAULT_COVERAGE_S

    random = np.random.default_rng(SEED)
    time_s = np.arange(round(TRACK_S * RATE_HZ)) / RATE_HZ
    track = (0.3 * np.sin(2 * np.pi * 220.0 * time_s) + 0.05 * random.standard_normal(len(time_s))).astype(np.float32)

    with tempfile.TemporaryDirectory() as temporary:
        weights = get_published(Path(temporary))
        get_stand_in(Path(temporary))
        get_head(Path(temporary))
        size_mb = (Path(temporary) / "discogs-effnet-bsdynamic-1.onnx").stat().st_size / 1e6

        front = open_network(front_graph(), "the front end")
        row = np.resize(track, (1, 127 * 256 + 512))
        jobs: dict[str, Callable[[], object]] = {"front end, one patch": lambda: front.run(None, {"waveform": row})}
        heard = {f"{DEFAULT_COVERAGE_S:g} of 30 s": DEFAULT_COVERAGE_S, "all 30 s": "full"}
        models = ("default", WIDE, *TAGGERS, "discogs-effnet", HEAD)
        for how, coverage in heard.items():
            for model in models:
                name, genres = ("default", "wide") if model == WIDE else (model, "ten")
                classifier = Classifier(name, coverage=coverage, threads=1, genres=genres)
                jobs[f"{model}, {how}"] = lambda listener=classifier: listener.classify(track, sample_rate_hz=RATE_HZ)
        medians = medians_s(jobs)

    lines = [
        "## Speed of the models that listen",
        "",
        "Milliseconds of processor time for a track of 30 s in memory, one thread, medians in turns of one run;"
        f" `python benchmarks/models.py`, {datetime.now(UTC):%Y-%m-%d}. MusiCNN and VGG: {weights}; discogs-effnet: an"
        f" EfficientNet-B0 of random weights ({size_mb:.1f} MB), whose front end alone takes"
        f" {medians['front end, one patch'] * 1e3:.1f} ms a patch.",
        "",
        f"| model | {' | times the default | '.join(heard)} | times the default |",
        "|---|---|---|---|---|",
    ]
    for model in models:
        cells = []
        for how in heard:
            took_s = medians[f"{model}, {how}"]
            cells += [f"{took_s * 1e3:.0f} ms", f"{took_s / medians[f'default, {how}']:.2f}"]
        lines.append(f"| {model} | {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if "--write" in sys.argv:
        from musicgenre._files import write_text_atomic

        write_text_atomic(PLACE, text)


if __name__ == "__main__":
    main()
