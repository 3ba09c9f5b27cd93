"""Store what Essentia's own front end makes of two synthetic sounds, for the tests: tests/data/essentia.npz.

Run in an environment of its own, which musicgenre never needs (Essentia's licence is the AGPL):

    python -m venv essentia
    essentia/bin/pip install essentia==2.1b6.dev1389
    essentia/bin/python scripts/essentia_arrays.py tests/data/essentia.npz

With SAMPLES.npz behind it, the same of other sounds at 16 kHz, for `scripts/compare_essentia.py`:

    essentia/bin/python scripts/essentia_arrays.py heard.npz samples.npz

The file holds, for each sound of `SOUNDS`, the log-mel frames of `TensorflowInputMusiCNN` (frames, 96), float32, and
for each length of `LENGTHS` how many frames Essentia cuts and how many patches it makes of them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 16_000
FRAME_SAMPLES, HOP_SAMPLES = 512, 256
PATCH_FRAMES, PATCH_HOP_FRAMES = 128, 62
LENGTHS = (1, 256, 257, 4_000, 32_256, 32_257, 48_128, 48_129, 79_872, 79_873)
"""In samples: where a frame, or a patch, more begins, and the last without it."""


def sweep() -> NDArray[np.float32]:
    """Two seconds of a loud sine that rises from 50 to 7,900 Hz above a soft steady one: one patch, to the sample."""
    time_s = np.arange((PATCH_FRAMES - 1) * HOP_SAMPLES - HOP_SAMPLES + 1) / RATE_HZ
    rising = 50.0 * time_s + (7_900.0 - 50.0) / (2 * time_s[-1]) * time_s**2
    tones = 0.6 * np.sin(2 * np.pi * rising) + 0.05 * np.sin(2 * np.pi * 440.0 * time_s)
    return tones.astype(np.float32)


def bursts() -> NDArray[np.float32]:
    """Half a second of noise that swells from silence three times, by a generator that is the same everywhere."""
    n_samples = 8_000
    state, noise = 1, np.empty(n_samples)
    for index in range(n_samples):
        state = (state * 1_103_515_245 + 12_345) % 2**31
        noise[index] = state / 2**30 - 1.0
    swell = np.sin(3 * np.pi * np.arange(n_samples) / n_samples) ** 8
    return (0.3 * swell * noise).astype(np.float32)


SOUNDS = {"sweep": sweep, "bursts": bursts}


def main() -> None:
    """Let Essentia hear the sounds and count its frames and patches."""
    from essentia import standard

    sounds = {name: make() for name, make in SOUNDS.items()}
    if len(sys.argv) > 2:
        with np.load(sys.argv[2]) as given:
            sounds = {name: given[name] for name in given.files}
    front_end = standard.TensorflowInputMusiCNN()
    arrays: dict[str, NDArray[Any]] = {}
    for name, samples in sounds.items():
        frames = standard.FrameGenerator(samples, frameSize=FRAME_SAMPLES, hopSize=HOP_SAMPLES, startFromZero=False)
        arrays[name] = np.array([front_end(frame) for frame in frames], np.float32)
    if len(sys.argv) > 2:
        np.savez_compressed(Path(sys.argv[1]), **arrays)
        return

    arrays["lengths"] = np.array(LENGTHS)
    arrays["n_frames"] = np.array([len(_streamed(length)) for length in LENGTHS])
    arrays["n_patches"] = np.array([_n_patches(length) for length in LENGTHS])
    np.savez_compressed(Path(sys.argv[1]), **arrays)
    for name, array in arrays.items():
        print(name, array.shape, array if array.ndim == 1 else "")


def _streamed(n_samples: int) -> NDArray[np.float32]:
    """Frames of so many samples as Essentia's predictors cut them, in streaming mode, (n_frames, 512)."""
    import essentia
    from essentia import streaming

    source = streaming.VectorInput(np.full(n_samples, 0.1, np.float32))
    cutter = streaming.FrameCutter(frameSize=FRAME_SAMPLES, hopSize=HOP_SAMPLES)
    pool = essentia.Pool()
    source.data >> cutter.signal
    cutter.frame >> (pool, "frames")
    essentia.run(source)
    return np.array(pool["frames"])


def _n_patches(n_samples: int) -> int:
    """How many patches of so many samples reach a network that drops the last, partial one."""
    import essentia
    from essentia import streaming

    source = streaming.VectorInput(np.full(n_samples, 0.1, np.float32))
    cutter = streaming.FrameCutter(frameSize=FRAME_SAMPLES, hopSize=HOP_SAMPLES)
    bands = streaming.TensorflowInputMusiCNN()
    patches = streaming.VectorRealToTensor(
        shape=[1, 1, PATCH_FRAMES, 96], patchHopSize=PATCH_HOP_FRAMES, lastPatchMode="discard"
    )
    frames = streaming.TensorToVectorReal()
    pool = essentia.Pool()
    source.data >> cutter.signal
    cutter.frame >> bands.frame
    bands.bands >> patches.frame
    patches.tensor >> frames.tensor
    frames.frame >> (pool, "frames")
    essentia.run(source)
    if "frames" not in pool.descriptorNames():
        return 0
    return len(pool["frames"]) // PATCH_FRAMES


if __name__ == "__main__":
    main()
