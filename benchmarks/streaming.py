"""Memory of a training that streams, and its pace beside one that holds its data in memory.

Run: python benchmarks/streaming.py [--clips 100000] [--rate-clips 2500] [--rounds 3] [--ways store shards]

``memory``: so many WAV files of 0.95 s (synthetic tones in noise), each one example of 64 x 96, are indexed, prepared
in float16 and trained by ``train`` in a process of its own, streamed from the store and then from shards. Printed: the
largest anonymous memory (RssAnon of /proc/self/status, sampled every 50 ms) of the whole command and of the training
alone. Fails above 1.5 GB. 100,000 clips take 9 GB of disk.

``rate``: fewer clips train a small network in memory, streamed and from shards in turns; the fastest epoch of each
counts. Printed: examples a second by the clock and by processor time of all threads, and the ratio to those in memory.
Fails where streaming from the store is more than 10 % slower by the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import wave
from pathlib import Path
from typing import Any

RATE_HZ, DURATION_S = 16_000, 0.95
PITCH_HZ = {"bass": 200.0, "low": 600.0, "middle": 1_800.0, "high": 5_000.0}
LIMIT_MB = 1_500.0
RECIPE = """\
base: [base, _stream]
summary: Synthetic clips of one example each.
systems: [D3]
representation:
  name: melspectrogram
  options: {{preset: a5, segment_s: 0.95, n_fft: 512, hop_length: 160, n_mels: 64}}
  dtype: float16
model: {{name: cnn2d, options: {{channels: {channels}, pool: {pool}}}}}
training: {{epochs: {epochs}, examples: stored, stream: {{active: {active}}}}}
"""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=100_000, help="of the memory part; 0 leaves it out")
    parser.add_argument("--rate-clips", type=int, default=2_500, help="of the rate part; 0 leaves it out")
    parser.add_argument("--rounds", type=int, default=3, help="turns of the rate part")
    parser.add_argument("--ways", nargs="+", choices=["store", "shards"], default=["store", "shards"])
    parser.add_argument("--jobs", type=int, default=2, help="processes that prepare")
    parser.add_argument("--folder", type=Path, help="where the files go; a temporary folder by default")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    return parser.parse_args()


OPTIONS = arguments()
os.environ.setdefault("OMP_NUM_THREADS", "1")


def make_clips(folder: Path, count: int) -> Path:
    """Write the WAV files, all different, and their manifest; four in a hundred are for validation and test."""
    import numpy as np

    from musicgenre.data.manifest import Manifest, Track, write_manifest

    rng = np.random.default_rng(0)
    n_samples = round(DURATION_S * RATE_HZ)
    turn = 2 * np.pi * np.arange(n_samples) / RATE_HZ
    noise = rng.normal(scale=3_000, size=1 << 20)
    tracks = []
    for number in range(count):
        label = list(PITCH_HZ)[number % 4]
        offset = int(rng.integers(len(noise) - n_samples))
        sound = 8_000 * np.sin(rng.uniform(0.9, 1.1) * PITCH_HZ[label] * turn) + noise[offset : offset + n_samples]
        path = folder / f"{number // 1000:03}" / f"{number:06}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), "wb") as stream:
            stream.setnchannels(1)
            stream.setsampwidth(2)
            stream.setframerate(RATE_HZ)
            stream.writeframes(sound.astype("<i2").tobytes())
        split = {0: "validation", 1: "test"}.get(number // 4 % 50, "train")
        tracks.append(Track(path.stem, path, label, split=split))
    return write_manifest(Manifest(None, tuple(tracks)), folder / "clips.csv")


def anonymous_mb() -> float:
    """Anonymous resident memory of this process."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(text.partition("RssAnon:")[2].split()[0]) / 1024


class Watch:
    """Samples the memory in a thread, and remembers the largest while training apart."""

    def __init__(self) -> None:
        self.largest = {"command": 0.0, "training": 0.0}
        self.stage, self._stop = "command", threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def see(self, what: str, done: int, total: int) -> None:
        """Take the progress of ``train``."""
        self.stage = "training" if what.startswith("training") else self.stage
        if what.startswith("preparing") and done == total:
            self.stage = "training"

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            now = anonymous_mb()
            self.largest["command"] = max(self.largest["command"], now)
            if self.stage == "training":
                self.largest["training"] = max(self.largest["training"], now)


def train_once(recipe: Path, data: Path, output: Path, jobs: int) -> dict[str, float]:
    """Train and tell memory, seconds, and the fastest epoch; in a process of its own."""
    import torch

    from musicgenre.runs.folder import RunFolder
    from musicgenre.training.train import train

    torch.set_num_threads(1)
    watch, started = Watch(), time.perf_counter()
    run = RunFolder(train(recipe, data, output=output, jobs=jobs, progress=watch.see))
    n_train = json.loads(run.description.read_text(encoding="utf-8"))["segments"]["train"]
    return {
        **{f"{name}_mb": value for name, value in watch.largest.items()},
        "seconds": time.perf_counter() - started,
        "n_train": n_train,
        "epoch_s": min(run.read_metrics("seconds")),
        "waiting": min(run.read_metrics("waiting_share")),
        "validation_accuracy": max(run.read_metrics("validation_accuracy")),
    }


def in_a_process(recipe: Path, data: Path, output: Path) -> dict[str, float]:
    """Call :func:`train_once` where nothing else has been loaded."""
    command = [sys.executable, __file__, "--child", str(recipe), str(data), str(output), str(OPTIONS.jobs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def write_recipe(path: Path, *, epochs: int, active: int, small: bool) -> Path:
    """Write the recipe; the small network is for the memory part, where its own pace does not matter."""
    size = {"channels": "[8, 16]", "pool": 4} if small else {"channels": "[8, 16, 32]", "pool": 2}
    path.write_text(RECIPE.format(epochs=epochs, active=active, **size), encoding="utf-8")
    return path


def shards_of(recipe: Path, clips: Path, folder: Path) -> Path:
    """Write shards of the recipe, whose features are in the cache already."""
    command = ["shard", str(clips), "--recipe", str(recipe), "--output", str(folder), "--shard-mb", "32", "--quiet"]
    subprocess.run([sys.executable, "-c", "from musicgenre.cli import main; main()", *command], check=True)
    return folder


def memory(folder: Path) -> bool:
    """Measure the memory of both kinds of stream."""
    started = time.perf_counter()
    clips = make_clips(folder / "clips", OPTIONS.clips)
    print(f"{OPTIONS.clips} clips written in {time.perf_counter() - started:.0f} s", flush=True)
    recipe = write_recipe(folder / "streamed.yaml", epochs=1, active=20, small=True)
    kept = []
    for name in OPTIONS.ways:
        data = clips if name == "store" else shards_of(recipe, clips, folder / "shards")
        found = in_a_process(recipe, data, folder / f"memory-{name}")
        print(
            f"{name}: {found['n_train']:.0f} training examples, {found['n_train'] * 12_288 / 1e6:.0f} MB in float16; "
            f"largest anonymous memory {found['training_mb']:.0f} MB in training, {found['command_mb']:.0f} MB "
            f"in the whole command of {found['seconds']:.0f} s; epoch {found['epoch_s']:.0f} s, waiting "
            f"{100 * found['waiting']:.1f} %; validation accuracy {found['validation_accuracy']:.3f}",
            flush=True,
        )
        kept.append(max(found["training_mb"], found["command_mb"]) < LIMIT_MB)
    return all(kept)


def epoch(batches: Any, network: Any, optimiser: Any) -> tuple[float, float, float]:
    """Train one epoch; seconds by the clock, of processor time of all threads, and spent waiting for batches."""
    from torch.nn import functional

    begin = time.perf_counter(), time.process_time(), batches.waited_s
    for x, labels in batches:
        optimiser.zero_grad()
        functional.cross_entropy(network(x), labels).backward()
        optimiser.step()
    return time.perf_counter() - begin[0], time.process_time() - begin[1], batches.waited_s - begin[2]


def rate(folder: Path) -> bool:
    """Measure the pace of all three, in turns."""
    import torch

    from musicgenre.data.shards import open_shards, write_shards
    from musicgenre.models.registry import create_model
    from musicgenre.training.batches import Batches, Examples, Shuffled
    from musicgenre.training.material import gather_material
    from musicgenre.training.recipes import StreamSection, load_recipe
    from musicgenre.training.stream import Multiplexed, ShardBatches

    torch.set_num_threads(1)
    clips = make_clips(folder / "few", OPTIONS.rate_clips)
    recipe = load_recipe(write_recipe(folder / "few.yaml", epochs=1, active=20, small=False))
    material = gather_material(recipe, clips)
    write_shards(material.store, material.manifest, folder / "few-shards", shard_mb=8)
    part, shards = material.round(None)[1].train, open_shards(folder / "few-shards")
    examples = Examples(part)
    streamed = shards.part("train")
    ways = {
        "in memory": Batches(part, 32, order=Shuffled(examples, 0), training=True),
        "streamed": Batches(part, 32, order=Multiplexed(examples, 20, 0), training=True, in_memory_mb=0),
        "shards": ShardBatches(shards, streamed, Examples(streamed), 32, seed=0, settings=StreamSection()),
    }
    network = create_model("cnn2d", part.features.row_shape, len(PITCH_HZ), channels=[8, 16, 32])
    optimiser = torch.optim.Adam(network.parameters(), 1e-3, fused=True)
    best = dict.fromkeys(ways, (float("inf"),) * 3)
    for _ in range(OPTIONS.rounds + 1):  # the first round warms up
        for name, batches in ways.items():
            best[name] = tuple(map(min, best[name], epoch(batches, network, optimiser)))
    clock, cpu, waited = ({name: found[index] for name, found in best.items()} for index in range(3))
    for name in ways:
        print(
            f"{name}: {len(part) / clock[name]:.0f} examples a second by the clock "
            f"({clock['in memory'] / clock[name]:.3f}), {len(part) / cpu[name]:.0f} by processor time "
            f"({cpu['in memory'] / cpu[name]:.3f}); waiting {100 * waited[name] / clock[name]:.1f} %",
            flush=True,
        )
    return clock["in memory"] / clock["streamed"] >= 0.9


def main() -> int:
    """Run both parts, or be the process of one training."""
    if OPTIONS.child:
        recipe, data, output, jobs = OPTIONS.child
        print(json.dumps(train_once(Path(recipe), Path(data), Path(output), int(jobs))))
        return 0
    with tempfile.TemporaryDirectory(dir=OPTIONS.folder) as name:
        folder = Path(name)
        os.environ["MUSICGENRE_CACHE"] = str(folder / "cache")
        kept = [part(folder) for part, size in ((rate, OPTIONS.rate_clips), (memory, OPTIONS.clips)) if size]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
