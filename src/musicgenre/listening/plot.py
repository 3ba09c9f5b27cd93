"""One picture of an answer: log-mel spectrogram, genre over time, tags. Needs the extra `plot`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgenre import audio
from musicgenre._files import replacing, writing_result
from musicgenre._text import printable
from musicgenre.errors import UsageError, needing
from musicgenre.features.mel.reference import melspectrogram
from musicgenre.features.mel.specification import MelSpec
from musicgenre.listening.answer import Answer

Float64 = NDArray[np.float64]

# Decibels are cut off below the loudest of the whole track, once all of it is there.
_SPEC = MelSpec(sample_rate_hz=16_000, n_fft=1024, hop_length=512, n_mels=96, top_db=None)
_DRAWN_DB = 80.0
_COLUMNS = 2000  # of the spectrogram: more than the picture has pixels
_BLOCK_S = 64.0
_N_TAGS = 10
# Where something is improbable its bar is pale, but not so pale that nobody sees that it was heard.
_PALEST_TAG, _PALEST_GENRE = 0.05, 0.15


def check_can_plot() -> None:
    """Load what draws, so that its absence is told before a track is heard.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    """
    with needing("--plot", "plot"):
        import matplotlib.figure  # noqa: F401


def plot_answer(answer: Answer, path: Path, *, overwrite: bool = True) -> None:
    """Draw the track's log-mel, its genre timeline and its most probable tags into a PNG file.

    Parameters
    ----------
    answer : Answer
        The answer for a file (its `path` is read again for the spectrogram, block by block however long it is).
    path : Path
        The picture, replaced if it exists.
    overwrite : bool
        Without it a picture that exists stays.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    UsageError
        When the answer is not for a file, or the picture cannot be written.
    """
    check_can_plot()
    from matplotlib.figure import Figure

    if answer.path is None:
        raise UsageError("only an answer for a file can be drawn", next_step="Classify a path, not an array")

    figure = Figure(figsize=(10, 8), layout="constrained")
    spectrogram, timeline, bars = figure.subplots(3, 1, height_ratios=(3, 2, 2))

    # Of the answer the sound is not kept, so it is decoded again.
    decibels, drawn_s = _spectrogram(answer.path, answer.duration_s)
    spectrogram.imshow(decibels, origin="lower", aspect="auto", extent=(0, drawn_s, 0, _SPEC.n_mels), cmap="magma")
    spectrogram.set(title="log-mel spectrogram (dB)", ylabel="mel band", xlim=(0, drawn_s))

    _draw_timeline(timeline, answer, drawn_s)
    for axes in (spectrogram, timeline):
        axes.xaxis.set_major_formatter(lambda time_s, _: f"{int(time_s) // 60}:{int(time_s) % 60:02d}")

    scores = answer.tags or answer.scores
    names = list(scores)
    if answer.tags:
        names = names[:_N_TAGS]
    names.reverse()  # the first row is drawn at the bottom
    bars.barh(range(len(names)), [scores[name] for name in names], color="C1")
    bars.set_yticks(range(len(names)), names, parse_math=False)
    bars.set(title="tags" if len(names) == _N_TAGS else "scores", xlabel="probability", xlim=(0, 1))

    if answer.names_tags:
        said = printable(", ".join(answer.chosen or list(answer.tags)[:3]))
    elif answer.is_calibrated:
        said = f"{answer.genre} ({answer.confidence:.0%})"
    else:
        said = f"{answer.genre} (by its tag)"
    figure.suptitle(f"{printable(Path(answer.path).name)}: {said}", parse_math=False)

    with writing_result(path, "Choose another --plot"), replacing(path, overwrite=overwrite) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def _spectrogram(path: str, duration_s: float) -> tuple[Float64, float]:
    """Compute the log-mel (n_mels, n_columns) of a whole file, a few frames' mean a column, and the file's length."""
    n_frames = duration_s * _SPEC.sample_rate_hz / _SPEC.hop_length
    per_column = max(1, math.ceil(n_frames / _COLUMNS))

    # Blocks hold whole columns, so that all columns are equally wide.
    column_s = per_column * _SPEC.hop_length / _SPEC.sample_rate_hz
    block_s = column_s * max(1, round(_BLOCK_S / column_s))

    blocks = []
    n_samples = 0
    sound = audio.open_source(path, max_duration_s=math.inf)  # whoever heard it has settled how long it may be
    for block in audio.stream(sound, _SPEC.sample_rate_hz, block_s=block_s):
        # The frame that is centred on the end of a block is the next block's first one.
        decibels = melspectrogram(block, _SPEC)[:, : max(1, len(block) // _SPEC.hop_length)]
        cuts = np.arange(0, decibels.shape[1], per_column)
        widths = np.diff([*cuts, decibels.shape[1]])
        blocks.append(np.add.reduceat(decibels, cuts, axis=1) / widths)
        n_samples += len(block)

    joined = np.concatenate(blocks, axis=1)
    return np.maximum(joined, joined.max() - _DRAWN_DB), n_samples / _SPEC.sample_rate_hz


def _draw_timeline(axes: Any, answer: Answer, drawn_s: float) -> None:
    """One row per genre, or for each of the most probable tags; the darker the more probable at that time."""
    from matplotlib.colors import to_rgba

    if answer.names_tags:
        title, palest = "tags of the heard segments", _PALEST_TAG
        rows = list(answer.tags)[:_N_TAGS][::-1]
    else:
        title, palest = "genre of the heard segments", _PALEST_GENRE
        rows = sorted({segment.genre for segment in answer.timeline})

    for row, name in enumerate(rows):
        spans, shades = [], []
        for segment in answer.timeline:
            scores = segment.tags if answer.names_tags else {segment.genre: segment.confidence}
            if name in scores:
                spans.append((segment.start_s, segment.end_s - segment.start_s))
                shades.append(to_rgba("C0", max(palest, scores[name])))
        axes.broken_barh(spans, (row - 0.4, 0.8), facecolors=shades)

    axes.set_yticks(range(len(rows)), rows, parse_math=False)
    axes.set(title=title, xlabel="time", xlim=(0, drawn_s))
