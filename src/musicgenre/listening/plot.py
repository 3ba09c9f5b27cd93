"""One picture of an answer: log-mel spectrogram, genre over time, tags. Needs the extra ``plot``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from musicgenre import audio
from musicgenre._files import replacing
from musicgenre.errors import MissingExtraError, UsageError
from musicgenre.features.mel.reference import melspectrogram
from musicgenre.features.mel.specification import MelSpec
from musicgenre.listening.answer import Answer

_SPEC = MelSpec(sample_rate_hz=16_000, n_fft=1024, hop_length=512, n_mels=96, top_db=80.0)
_DRAWN_AT_MOST_S = 600.0
_N_TAGS = 10


def plot_answer(answer: Answer, path: Path) -> None:
    """Draw the track's log-mel, its genre timeline and its most probable tags into a PNG file.

    Parameters
    ----------
    answer : Answer
        The answer for a file (its ``path`` is read again for the spectrogram; the first ten minutes are drawn).
    path : Path
        The picture, replaced if it exists.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    UsageError
        When the answer is not for a file, or the picture cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("--plot", "plot") from error
    if answer.path is None:
        raise UsageError("only an answer for a file can be drawn", next_step="Classify a path, not an array")
    figure = Figure(figsize=(10, 8), layout="constrained")
    spectrogram, genres, tags = figure.subplots(3, 1, height_ratios=(3, 2, 2))
    drawn_s = min(answer.duration_s, _DRAWN_AT_MOST_S)
    _draw_spectrogram(spectrogram, answer.path, drawn_s)
    if answer.names_tags:
        _draw_tags(genres, answer, drawn_s)
    else:
        _draw_genres(genres, answer, drawn_s)
    _draw_bars(tags, dict(list(answer.tags.items())[:_N_TAGS]) or dict(answer.scores))
    name = audio.printable(Path(answer.path).name)
    figure.suptitle(f"{name}: {_said(answer)}", parse_math=False)
    try:
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=100)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror})", next_step="Choose another --plot") from error


def _said(answer: Answer) -> str:
    if answer.names_tags:
        return audio.printable(", ".join(answer.chosen or list(answer.tags)[:3]))
    return f"{answer.genre} ({answer.confidence:.0%})"


def _draw_tags(axes: Any, answer: Answer, drawn_s: float) -> None:
    """One row for each of the most probable tags, the darker the more probable at that time."""
    tags = list(answer.tags)[:_N_TAGS][::-1]
    for segment in answer.timeline:
        width_s = segment.end_s - segment.start_s
        for row, tag in enumerate(tags):
            axes.barh(row, width_s, left=segment.start_s, alpha=max(0.05, segment.tags[tag]), color="C0")
    axes.set_yticks(range(len(tags)), tags, parse_math=False)
    axes.set(title="tags of the heard segments", xlabel="seconds", xlim=(0, drawn_s))


def _draw_spectrogram(axes: Any, path: str, drawn_s: float) -> None:
    sound = audio.load(path, _SPEC.sample_rate_hz, duration_s=drawn_s)
    decibels = melspectrogram(sound.waveform, _SPEC)
    axes.imshow(decibels, origin="lower", aspect="auto", extent=(0, drawn_s, 0, _SPEC.n_mels), cmap="magma")
    axes.set(title="log-mel spectrogram (dB)", ylabel="mel band", xlim=(0, drawn_s))


def _draw_genres(axes: Any, answer: Answer, drawn_s: float) -> None:
    genres = sorted({segment.genre for segment in answer.timeline})
    rows = {genre: row for row, genre in enumerate(genres)}
    for segment in answer.timeline:
        width_s = segment.end_s - segment.start_s
        axes.barh(rows[segment.genre], width_s, left=segment.start_s, alpha=max(0.15, segment.confidence), color="C0")
    axes.set_yticks(range(len(genres)), genres, parse_math=False)
    axes.set(title="genre of the heard segments", xlabel="seconds", xlim=(0, drawn_s))


def _draw_bars(axes: Any, scores: dict[str, float]) -> None:
    names = list(scores)[::-1]
    axes.barh(np.arange(len(names)), [scores[name] for name in names], color="C1")
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set(title="tags" if len(names) == _N_TAGS else "scores", xlabel="probability", xlim=(0, 1))
