"""One picture of an answer: log-mel spectrogram, genre over time, tags. Needs the extra `plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from musicgenre import audio
from musicgenre._files import replacing, writing_result
from musicgenre._text import printable
from musicgenre.errors import UsageError, needing
from musicgenre.features.mel.reference import melspectrogram
from musicgenre.features.mel.specification import MelSpec
from musicgenre.listening.answer import Answer

_SPEC = MelSpec(sample_rate_hz=16_000, n_fft=1024, hop_length=512, n_mels=96, top_db=80.0)
_DRAWN_AT_MOST_S = 600.0
_N_TAGS = 10
# Where something is improbable its bar is pale, but not so pale that nobody sees that it was heard.
_PALEST_TAG, _PALEST_GENRE = 0.05, 0.15


def plot_answer(answer: Answer, path: Path) -> None:
    """Draw the track's log-mel, its genre timeline and its most probable tags into a PNG file.

    Parameters
    ----------
    answer : Answer
        The answer for a file (its `path` is read again for the spectrogram; the first ten minutes are drawn).
    path : Path
        The picture, replaced if it exists.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    UsageError
        When the answer is not for a file, or the picture cannot be written.
    """
    with needing("--plot", "plot"):
        from matplotlib.figure import Figure
    if answer.path is None:
        raise UsageError("only an answer for a file can be drawn", next_step="Classify a path, not an array")

    figure = Figure(figsize=(10, 8), layout="constrained")
    spectrogram, timeline, bars = figure.subplots(3, 1, height_ratios=(3, 2, 2))
    drawn_s = min(answer.duration_s, _DRAWN_AT_MOST_S)

    # Of the answer the sound is not kept, so it is decoded again.
    sound = audio.load(answer.path, _SPEC.sample_rate_hz, duration_s=drawn_s)
    decibels = melspectrogram(sound.waveform, _SPEC)
    spectrogram.imshow(decibels, origin="lower", aspect="auto", extent=(0, drawn_s, 0, _SPEC.n_mels), cmap="magma")
    spectrogram.set(title="log-mel spectrogram (dB)", ylabel="mel band", xlim=(0, drawn_s))

    _draw_timeline(timeline, answer, drawn_s)

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
    else:
        said = f"{answer.genre} ({answer.confidence:.0%})"
    figure.suptitle(f"{printable(Path(answer.path).name)}: {said}", parse_math=False)

    with writing_result(path, "Choose another --plot"), replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def _draw_timeline(axes: Any, answer: Answer, drawn_s: float) -> None:
    """One row a genre, or for each of the most probable tags; the darker the more probable at that time."""
    if answer.names_tags:
        title, palest = "tags of the heard segments", _PALEST_TAG
        rows = list(answer.tags)[:_N_TAGS][::-1]
    else:
        title, palest = "genre of the heard segments", _PALEST_GENRE
        rows = sorted({segment.genre for segment in answer.timeline})

    for segment in answer.timeline:
        width_s = segment.end_s - segment.start_s
        scores = segment.tags if answer.names_tags else {segment.genre: segment.confidence}
        for row, name in enumerate(rows):
            if name in scores:
                axes.barh(row, width_s, left=segment.start_s, alpha=max(palest, scores[name]), color="C0")

    axes.set_yticks(range(len(rows)), rows, parse_math=False)
    axes.set(title=title, xlabel="seconds", xlim=(0, drawn_s))
