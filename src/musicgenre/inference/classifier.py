"""The Classifier: load a model once, then ask it about any number of tracks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from musicgenre import audio
from musicgenre.errors import AudioError
from musicgenre.inference.answer import UNSURE, Answer, TimelineSegment, ranked
from musicgenre.inference.framing import Coverage, Float32, Framing
from musicgenre.inference.listeners import Judgement, Listener, Outputs, load_listener

# Seconds heard when the caller does not say: see docs/genre-head.md for the measured curve.
DEFAULT_COVERAGE_S = 18.0

_ROWS_AT_ONCE = 10
_ROUNDED_LENGTH_S = 0.1  # some containers tell their length this roughly
_LOAD_AT_MOST_S = 600.0  # longer tracks are streamed when all of them is wanted

Source = str | os.PathLike[str] | BinaryIO | NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class _Heard:
    """Outputs of the heard segments of one track and what was noticed on the way."""

    outputs: Outputs
    indices: list[int]
    duration_s: float
    warnings: tuple[str, ...]


class Classifier:
    """Names the genre of tracks. Loads its model once; safe to share between threads.

    Parameters
    ----------
    model : str
        ``default`` (MusiCNN with the genre head of this package), the name of a taught model, or the path of a
        bundle (``.onnx``) or taught head (``.json``).
    coverage : float, ``full`` or None
        Seconds of each track to hear, evenly spread, or ``full`` for everything. None takes the measured default.
    threads : int, optional
        Threads that one inference may use; all cores by default.

    Raises
    ------
    BundleError
        When the model is missing, damaged or too new.
    UsageError
        When ``coverage`` is neither ``full`` nor a positive number.

    Examples
    --------
    >>> from musicgenre import Classifier
    >>> answer = Classifier().classify("song.mp3")  # doctest: +SKIP
    >>> answer.genre, round(answer.confidence, 2)  # doctest: +SKIP
    ('jazz', 0.93)
    """

    def __init__(
        self, model: str = "default", *, coverage: float | str | None = None, threads: int | None = None
    ) -> None:
        self.coverage = Coverage.parse(DEFAULT_COVERAGE_S if coverage is None else coverage)
        self._listener: Listener = load_listener(model, threads=threads)

    @property
    def model(self) -> str:
        """Name of the loaded model."""
        return self._listener.name

    @property
    def labels(self) -> tuple[str, ...]:
        """Genres the model can name."""
        return self._listener.labels

    def classify(self, source: Source, *, sample_rate_hz: int | None = None) -> Answer:
        """Hear one track and name its genre.

        Parameters
        ----------
        source : path, binary file object or ndarray
            The track. An array holds samples in [-1, 1], shape (n_samples,) or (n_samples, n_channels).
        sample_rate_hz : int
            Rate of an array; required for arrays, refused for anything else.

        Returns
        -------
        Answer

        Raises
        ------
        AudioError
            When the source cannot be heard, or an array comes without its rate.
        """
        framing = self._listener.framing
        if isinstance(source, np.ndarray):
            heard = self._hear_array(source, sample_rate_hz)
            path = None
        elif sample_rate_hz is not None:
            raise AudioError(
                f"sample_rate_hz={sample_rate_hz} was given for a {type(source).__name__}",
                valid="Files carry their own rate; only NumPy arrays need one",
                next_step="Leave sample_rate_hz out, or pass numpy.asarray(samples)",
            )
        else:
            path = _name_of(source)
            heard = self._hear_source(source)
        with np.errstate(invalid="ignore"):
            judgement = self._listener.judge(heard.outputs)
        if not np.isfinite(judgement.scores).all():
            raise AudioError(
                f"{audio.printable(path) if path else 'the sound'} gives no answer that is a number",
                valid="Samples near full scale, which is 1",
                next_step="Divide its samples by their largest, or export it again",
            )
        return self._answer(path, heard, judgement, framing)

    def hear(self, source: str | os.PathLike[str] | BinaryIO) -> tuple[Outputs, tuple[str, ...]]:
        """Hear one track without judging it: what teaching a model of one's own starts from.

        Parameters
        ----------
        source : path or binary file object
            The track.

        Returns
        -------
        (outputs, warnings)
            The network's outputs, one row a heard segment, by name.

        Raises
        ------
        AudioError
            When the source cannot be heard.
        """
        heard = self._hear_source(source)
        return heard.outputs, heard.warnings

    def _hear_array(self, array: NDArray[np.generic], rate_hz: int | None) -> _Heard:
        if rate_hz is None:
            raise AudioError(
                "an array was given without its sample rate",
                valid="Any rate is fine, but it must be known: a wrong one gives wrong genres silently",
                next_step="Call classify(array, sample_rate_hz=...)",
            )
        sound = audio.from_array(array, rate_hz, self._listener.framing.sample_rate_hz)
        return self._hear_waveform(sound.waveform, sound.warnings)

    def _hear_source(self, source: str | os.PathLike[str] | BinaryIO) -> _Heard:
        framing = self._listener.framing
        info = audio.probe(source)
        if info.duration_s is None:
            return self._hear_stream(source)
        if (self.coverage.seconds or float("inf")) >= info.duration_s:  # a damaged file may claim thousands of years
            return self._hear_everything(source, info.duration_s)
        n_samples = round(info.duration_s * framing.sample_rate_hz)
        n_segments = framing.n_segments(n_samples)
        chosen = self.coverage.choose(n_segments, framing.hop_s)
        if len(chosen) == n_segments:  # everything is heard anyway
            return self._hear_everything(source, info.duration_s)
        return self._hear_spans(source, chosen, n_samples, info.duration_s)

    def _hear_waveform(self, waveform: Float32, warnings: tuple[str, ...]) -> _Heard:
        framing = self._listener.framing
        duration_s = len(waveform) / framing.sample_rate_hz
        n_segments = framing.n_segments(len(waveform))
        if n_segments == 0:
            treatment = "repeated" if framing.repeat_short else "zero-padded"
            needed_s = framing.shortest_samples / framing.sample_rate_hz
            warnings += (f"only {duration_s:.2f} s long: {treatment} to the {needed_s:.2f} s the model needs",)
            waveform = framing.fill_short(waveform)
            n_segments = 1
        chosen = self.coverage.choose(n_segments, framing.hop_s)
        rows = (framing.row(i, _cut(waveform, framing.span(i, len(waveform)))) for i in chosen)
        return _Heard(self._run(rows), chosen, duration_s, warnings)

    def _hear_spans(
        self, source: str | os.PathLike[str] | BinaryIO, chosen: list[int], n_samples: int, duration_s: float
    ) -> _Heard:
        """Decode only the chosen segments; fall back to the whole file where it ends earlier than it says."""
        framing = self._listener.framing
        spans = [framing.span(index, n_samples) for index in chosen]
        pieces = audio.load_spans(source, framing.sample_rate_hz, spans)
        slack = round(_ROUNDED_LENGTH_S * framing.sample_rate_hz)
        if any(length - len(piece) > slack for piece, (_, length) in zip(pieces.waveforms, spans, strict=True)):
            return self._hear_everything(source, duration_s)
        rows = (framing.row(i, piece) for i, piece in zip(chosen, pieces.waveforms, strict=True))
        return _Heard(self._run(rows), chosen, duration_s, pieces.warnings)

    def _hear_everything(self, source: str | os.PathLike[str] | BinaryIO, duration_s: float) -> _Heard:
        if duration_s > _LOAD_AT_MOST_S:
            return self._hear_stream(source)
        sound = audio.load(source, self._listener.framing.sample_rate_hz)
        return self._hear_waveform(sound.waveform, sound.warnings)

    def _hear_stream(self, source: str | os.PathLike[str] | BinaryIO) -> _Heard:
        """Hear everything in flat memory, for long tracks and those that do not tell their length."""
        framing = self._listener.framing
        sound_stream = audio.stream(source, framing.sample_rate_hz)
        blocks = _Meter(sound_stream)
        indices: list[int] = []
        outputs = self._run(_record(framing.rows(blocks), indices))
        if not indices:
            sound = audio.load(source, framing.sample_rate_hz)
            return self._hear_waveform(sound.waveform, sound.warnings)
        return _Heard(outputs, indices, blocks.n_samples / framing.sample_rate_hz, sound_stream.warnings)

    def _run(self, rows: Iterator[Float32]) -> Outputs:
        parts: list[Outputs] = []
        while batch := list(islice(rows, _ROWS_AT_ONCE)):
            parts.append(self._listener.hear(np.stack(batch)))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}

    def _answer(self, path: str | None, heard: _Heard, judgement: Judgement, framing: Framing) -> Answer:
        listener = self._listener
        scores = ranked(listener.labels, judgement.scores)
        best, confidence = next(iter(scores.items()))
        sure = confidence >= listener.unsure_threshold
        tags = ranked(listener.tag_names, judgement.tags)
        style = next(
            (tag for tag, p in tags.items() if tag in listener.style_tags and p >= listener.tag_threshold), None
        )
        timeline = tuple(
            _segment(framing, index, listener.labels, row)
            for index, row in zip(heard.indices, judgement.timeline, strict=True)
        )
        return Answer(
            path=path,
            duration_s=heard.duration_s,
            heard_s=min(heard.duration_s, len(heard.indices) * framing.hop_s),
            genre=best if sure else UNSURE,
            confidence=confidence,
            scores=scores,
            tags=tags,
            style=style,
            timeline=timeline,
            warnings=heard.warnings,
            model=listener.name,
        )


class _Meter:
    """Passes blocks on, counting samples."""

    def __init__(self, blocks: Iterator[Float32]) -> None:
        self.n_samples = 0
        self._blocks = blocks

    def __iter__(self) -> Iterator[Float32]:
        for block in self._blocks:
            self.n_samples += len(block)
            yield block


def _record(rows: Iterator[tuple[int, Float32]], indices: list[int]) -> Iterator[Float32]:
    for index, row in rows:
        indices.append(index)
        yield row


def _cut(waveform: Float32, span: tuple[int, int]) -> Float32:
    start, length = span
    return waveform[start : start + length]


def _segment(framing: Framing, index: int, labels: tuple[str, ...], row: NDArray[np.float64]) -> TimelineSegment:
    start_s, end_s = framing.times_s(index)
    best = int(row.argmax())
    return TimelineSegment(start_s, end_s, labels[best], float(row[best]))


def _name_of(source: str | os.PathLike[str] | BinaryIO) -> str | None:
    if isinstance(source, str | os.PathLike):
        return str(Path(cast("str", source)))
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else None
