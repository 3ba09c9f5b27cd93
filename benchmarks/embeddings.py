"""Embedding extraction in tracks a second, family by family: as `musicgenre prepare` does it, against one by one.

Run with ``python benchmarks/embeddings.py``; ``--only musicnn`` takes families whose name holds that word, ``--tracks
FOLDER`` real WAV files in place of synthetic ones of 30 s. Every family is measured both ways in this run, in turns,
and the best of each counts:

- one by one: a plain loop decodes a track, hears it, decodes the next; on one thread.
- torch's: the same loop where torch may use ``--jobs`` threads inside its operators, as it does unless told otherwise.
- prepared: threads decode ahead, and the network takes batches of segments of several tracks (``compute_many``), on
  ``--jobs`` cores. Hashing the files and writing the store is included.
- CPU: processor seconds a track of either way, all threads together, and how many of them the kernel took. Where
  other work keeps the cores busy these say more than the clock: a second thread then takes turns with that work in
  place of running beside the first.
- again: a second recipe on the same tracks, whose embeddings are all in the cache.

"random" says that a family ran with random weights: as fast, and no word about what it hears. Those of transformers
are made here, in the size of the published base models (CLAP: HTS-AT's), or with ``--tiny`` of a size that only shows
that all runs. They are up to a hundred times the work of MusiCNN, so only every third track goes to them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from musicgenre._parallel import usable_cores
from musicgenre.audio import load
from musicgenre.data.manifest import Manifest, Track
from musicgenre.errors import BundleError
from musicgenre.features.base import Representation, cut
from musicgenre.features.prepare import prepare
from musicgenre.features.registry import create_representation

RATE_HZ, DURATION_S = 22_050, 30


@dataclass(frozen=True)
class Family:
    """One line of the table: a representation, and what makes it run where its weights cannot be had.

    ``share``: one in so many tracks is heard.
    """

    label: str
    representation: str
    options: dict[str, Any] = field(default_factory=dict)
    random: dict[str, Any] = field(default_factory=dict)
    share: int = 1


FAMILIES = (
    Family("musicnn (MSD)", "musicnn", {"model": "msd-musicnn"}, {"weights": "none"}),
    Family("musicnn (MTT)", "musicnn", {"model": "mtt-musicnn"}, {"weights": "none"}),
    Family("musicnn VGG (MSD)", "musicnn", {"model": "msd-vgg"}, {"weights": "none"}),
    Family("vggish", "vggish", {"weights": "none"}),
    *(
        Family(name, "transformer", share=3)
        for name in ("wav2vec2", "hubert", "distilhubert", "wavlm", "mert", "ast", "clap")
    ),
)


def make_transformer(family: str, folder: Path, *, tiny: bool) -> Path:
    """Write a model with random weights as one from the hub lies on the disk."""
    import transformers as hf
    from transformers.utils import logging

    logging.disable_progress_bar()
    speech: dict[str, Any] = {"layerdrop": 0.0}
    if tiny:
        speech |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        speech |= {"conv_dim": [16] * 7}
    rate_hz = 24_000 if family == "mert" else 16_000
    processor: Any = hf.Wav2Vec2FeatureExtractor(sampling_rate=rate_hz)
    model: Any
    if family == "ast":
        ast = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        model, processor = hf.ASTModel(hf.ASTConfig(**ast if tiny else {})), hf.ASTFeatureExtractor()
    elif family == "clap":
        clap = {"depths": [1, 1, 1, 1], "patch_embeds_hidden_size": 32, "hidden_size": 256} if tiny else {}
        model = hf.ClapAudioModelWithProjection(hf.ClapAudioConfig(**clap))
        processor = hf.ClapFeatureExtractor(truncation="rand_trunc")
    elif family == "wav2vec2":
        model = hf.Wav2Vec2Model(hf.Wav2Vec2Config(**speech))
    elif family == "wavlm":
        model = hf.WavLMModel(hf.WavLMConfig(**speech))
    else:
        distilled = {"num_hidden_layers": 2, "feat_proj_layer_norm": False} if family == "distilhubert" else {}
        model = hf.HubertModel(hf.HubertConfig(**speech | distilled))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def ready(family: Family, folder: Path, *, tiny: bool) -> tuple[Representation, str]:
    """Make a representation; with random weights if need be."""
    if family.representation == "transformer":
        model = make_transformer(family.label, folder / family.label, tiny=tiny)
        return create_representation("transformer", model=model), "random"
    made = create_representation(family.representation, **family.options)
    try:
        made.make_ready()
    except BundleError:
        return create_representation(family.representation, **family.options, **family.random), "random"
    return made, "random" if family.options.get("weights") == "none" else "published"


def one_by_one(paths: list[Path], representation: Representation) -> None:
    """Embed tracks as a plain loop does."""
    for path in paths:
        sound = load(path, representation.sample_rate_hz)
        _, segments = cut(sound.waveform, sound.sample_rate_hz, representation.segment_s)
        np.stack([representation.compute(segment) for segment in segments])


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use so many threads inside its operators."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def timed(work: Callable[[], object]) -> np.ndarray:
    """Seconds on the clock, of the processor, and of these the kernel's."""
    before = np.array([time.perf_counter(), time.process_time(), os.times().system])
    work()
    return np.array([time.perf_counter(), time.process_time(), os.times().system]) - before


def measure(paths: list[Path], representation: Representation, jobs: int, repeats: int) -> dict[str, np.ndarray]:
    """Best times of every way, taking turns; and that the second recipe computed nothing."""
    manifest = Manifest(None, tuple(Track(f"{n}", path, "x", split="train") for n, path in enumerate(paths)))
    best = {way: np.full(3, np.inf) for way in ("single", "torch", "prepared", "again")}
    representation.compute(load(paths[0], representation.sample_rate_hz).waveform)  # all is loaded, all compiled
    for _ in range(repeats):
        for way, threads in (("single", 1), ("torch", jobs)):
            with torch_threads(threads):
                best[way] = np.minimum(best[way], timed(lambda: one_by_one(paths, representation)))
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)

            def store(recipe: str, folder: Path = folder) -> None:
                done = prepare(manifest, representation, folder / recipe, jobs=jobs, cache=folder / "cache")
                wanted = (len(paths), 0) if recipe == "first" else (0, len(paths))
                if (done.computed, done.reused) != wanted:
                    raise SystemExit(f"{recipe} recipe: computed {done.computed}, reused {done.reused} tracks")

            best["prepared"] = np.minimum(best["prepared"], timed(lambda: store("first")))
            best["again"] = np.minimum(best["again"], timed(lambda: store("second")))
    return best


def make_tracks(folder: Path, count: int) -> list[Path]:
    """Write different tracks: a few tones under noise."""
    rng = np.random.default_rng(0)
    times_s = np.arange(RATE_HZ * DURATION_S) / RATE_HZ
    paths = []
    for index in range(count):
        tones = sum(np.sin(2 * np.pi * hz * times_s) for hz in rng.uniform(80, 2000, 3))
        path = folder / f"{index:03}.wav"
        soundfile.write(path, 0.1 * tones + 0.1 * rng.standard_normal(len(times_s)), RATE_HZ)
        paths.append(path)
    return paths


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracks", type=Path, help="folder of WAV files to use instead of synthetic ones")
    parser.add_argument("--count", type=int, default=24, help="how many tracks")
    parser.add_argument("--jobs", type=int, default=usable_cores(), help="threads or processes of preparation")
    parser.add_argument("--only", default="", help="families whose name holds this word")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="transformers of a toy's size")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = sorted(options.tracks.rglob("*.wav"))[: options.count] if options.tracks else None
        paths = found or make_tracks(Path(name), options.count)
        load_average = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "not known"
        print(f"{options.jobs} jobs, best of {options.repeats}, load average {load_average} on {os.cpu_count()} cores")
        print(
            "family             weights   tracks  one by one   torch's  prepared  speed-up   CPU s a track (kernel)"
            "           again (cached)"
        )
        for family in (family for family in FAMILIES if options.only.lower() in family.label.lower()):
            representation, weights = ready(family, Path(name), tiny=options.tiny)
            heard = paths[:: family.share]
            best = measure(heard, representation, options.jobs, options.repeats)
            shutil.rmtree(Path(name) / family.label, ignore_errors=True)
            rates = {way: len(heard) / wall_s for way, (wall_s, _, _) in best.items()}
            cpu = {way: f"{cpu / len(heard):.3f} ({sys / len(heard):.3f})" for way, (_, cpu, sys) in best.items()}
            print(
                f"{family.label:18} {weights:9} {len(heard):6} {rates['single']:9.2f}/s"
                f" {rates['torch']:7.2f}/s {rates['prepared']:7.2f}/s"
                f" {rates['prepared'] / rates['single']:8.2f}x {cpu['single']:>16} / {cpu['prepared']}"
                f" {rates['again']:14.0f}/s",
                flush=True,
            )


if __name__ == "__main__":
    main()
