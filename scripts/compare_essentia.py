"""Compare the front end of Essentia's networks, as it is here, with Essentia's own, in log-mel values.

Run: python scripts/compare_essentia.py samples SAMPLES.npz [DATA]     ten tracks of gtzan-mini, one a genre, at 16 kHz
     ... scripts/essentia_arrays.py HEARD.npz SAMPLES.npz              where Essentia is (its note says how)
     python scripts/compare_essentia.py write SAMPLES.npz HEARD.npz    writes docs/results/essentia.md

DATA defaults to ../shared/data. Both hear the same samples: how Essentia decodes and resamples is not compared. The
float64 reference is compared, which `tests/test_discogs.py` holds the graph to.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from _gtzan_heard import DEFAULT_DATA, GENRES
from _results_rows import FOLDER, ROOT
from essentia_arrays import LENGTHS, RATE_HZ, SOUNDS
from musicgenre import audio
from musicgenre._files import write_text_atomic
from musicgenre.features.mel.reference import melspectrogram
from musicgenre.features.mel.specification import MelSpec
from musicgenre.features.published.essentia.published import SPEC
from musicgenre.features.published.musicnn.published import SPEC as MUSICNN_SPEC

VERSION = "2.1b6.dev1389"
GOAL = 1e-3


def write_samples(place: Path, data: Path) -> None:
    """Store the first track of every genre."""
    tracks = {}
    for genre in GENRES:
        path = sorted((data / "gtzan-mini" / "genres" / genre).glob("*.wav"))[0]
        tracks[path.stem] = audio.load(path, RATE_HZ).waveform
    np.savez_compressed(place, **tracks)


def difference(sounds: dict[str, NDArray[np.float32]], heard: dict[str, NDArray[np.float32]], spec: MelSpec) -> str:
    """Largest and mean difference over all frames of these sounds that both have."""
    gaps = []
    for name, samples in sounds.items():
        ours = melspectrogram(samples, spec)
        ours = ours if ours.shape[1] == spec.n_mels else ours.T
        n = min(len(ours), len(heard[name]))
        gaps.append(np.abs(ours[:n] - heard[name][:n]).ravel())
    together = np.concatenate(gaps)
    return f"{together.max():.2g} / {together.mean():.1g}"


def main() -> None:
    """Store samples, or compare and write."""
    if sys.argv[1] == "samples":
        write_samples(Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else DEFAULT_DATA)
        return

    with np.load(sys.argv[2]) as stored:
        tracks = {name: stored[name] for name in stored.files}
    with np.load(sys.argv[3]) as stored:
        heard = {name: stored[name] for name in stored.files}
    with np.load(ROOT / "tests" / "data" / "essentia.npz") as stored:
        heard |= {name: stored[name] for name in SOUNDS}
    synthetic = {name: make() for name, make in SOUNDS.items()}
    lines = [
        "## Agreement with Essentia's front end",
        "",
        f"Log-mel values here against those of Essentia {VERSION} (`TensorflowInputMusiCNN`), largest / mean"
        f" difference; the goal is {GOAL:g}. `python scripts/compare_essentia.py`, {datetime.now(UTC):%Y-%m-%d};"
        f" [discogs.md](discogs.md#the-front-end) tells what is left. Tests hold the sweep and the bursts, and for"
        f" {len(LENGTHS)} lengths the number of patches, to arrays that Essentia made.",
        "",
        f"| front end | sweep | bursts of noise | {len(tracks)} tracks of gtzan-mini |",
        "|---|---|---|---|",
    ]
    for name, spec in (("of Essentia's networks (symmetric window)", SPEC), ("of MusiCNN (periodic)", MUSICNN_SPEC)):
        cells = [difference({sound: samples}, heard, spec) for sound, samples in synthetic.items()]
        lines.append(f"| {' | '.join([name, *cells, difference(tracks, heard, spec)])} |")
    text = "\n".join(lines) + "\n"
    print(text)
    write_text_atomic(FOLDER / "essentia.md", text)


if __name__ == "__main__":
    main()
