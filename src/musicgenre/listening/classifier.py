"""The Classifier: load a model once, then ask it about any number of tracks."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast, get_args

import numpy as np

from musicgenre._text import printable
from musicgenre.audio import parse_level
from musicgenre.bundle.container import MOST_MODEL_MB
from musicgenre.errors import AudioError, UsageError
from musicgenre.listening.answer import Answer
from musicgenre.listening.framing import Coverage
from musicgenre.listening.hearing import Outputs, Source
from musicgenre.listening.listeners import Listener, load_listener
from musicgenre.listening.wide import WideListener, widen

DEFAULT_COVERAGE_S = 18.0
"""Seconds heard when the caller does not say: see docs/genre-head.md for the measured curve."""

Reject = Literal["model", "none"]
"""Who may answer `unsure`: the model where it finds a reason, or nobody."""

Genres = Literal["ten", "wide"]
"""Which genres the default model names: its ten, or the wide vocabulary."""


class Classifier:
    """Names the genre of tracks. Loads its model once; safe to share between threads, and to use in forked processes.

    Parameters
    ----------
    model : str
        `default` (MusiCNN with the genre head of this package), the name of a taught model, that of a published
        tagger (`msd-musicnn`, `mtt-musicnn`, `msd-vgg`, `mtt-vgg`), of another bundle in the cache (`discogs-effnet`),
        or the path of a bundle (`.onnx`) or taught head (`.json`).
    coverage : float, `full` or None
        Seconds of each track to hear, evenly spread, or `full` for everything. None takes the measured default.
    threads : int, optional
        Threads that one inference may use; all cores by default.
    level : float or `off`, optional
        RMS in dBFS that every track is brought to before it is heard, or `off` for tracks as they are. None does what
        the model says.
    reject : {"model", "none"}
        `none` answers with the most probable genre always, whatever the sound is.
    genres : {"ten", "wide"}
        `wide` lets the default model name families and genres beyond its ten, by the tags of a second network too
        (docs/genres.md).
    max_duration_s : float, optional
        Length of the longest file that is heard, in seconds; `inf` for any. By default a day.
    max_model_mb : int
        How large a bundle's file may be, and how much memory it may need, in millions of bytes: models may come from
        anybody, see docs/bundles.md.

    Raises
    ------
    BundleError
        When the model is missing, damaged or too new.
    UsageError
        When `coverage` is neither `full` nor a positive number, `level` neither `off` nor an RMS, `reject` neither
        `model` nor `none`, `genres` neither `ten` nor `wide` or wide for another model, or `max_duration_s` not above
        0.

    Examples
    --------
    >>> from musicgenre import Classifier
    >>> answer = Classifier().classify("song.mp3")  # doctest: +SKIP
    >>> answer.genre, round(answer.confidence, 2)  # doctest: +SKIP
    ('jazz', 0.93)
    """

    def __init__(
        self,
        model: str = "default",
        *,
        coverage: float | str | None = None,
        threads: int | None = None,
        level: float | str | None = None,
        reject: Reject = "model",
        genres: Genres = "ten",
        max_duration_s: float | None = None,
        max_model_mb: int = MOST_MODEL_MB,
    ) -> None:
        if reject not in get_args(Reject):
            raise UsageError(f"reject {reject!r} is not known", valid=" or ".join(get_args(Reject)))
        if genres not in get_args(Genres):
            raise UsageError(f"genres {genres!r} are not known", valid=" or ".join(get_args(Genres)))
        self._reject = reject
        self.coverage = Coverage.parse(DEFAULT_COVERAGE_S if coverage is None else coverage, max_duration_s)
        self._level = parse_level(level)
        self._listener: Listener = load_listener(model, threads=threads, max_model_mb=max_model_mb)
        if genres == "wide":
            self._listener = widen(self._listener, threads=threads)
        self._ear = self._listener.ear(self.coverage, self._level)  # holds nothing of a track, so threads may share it

    def covering(self, coverage: float | str) -> Classifier:
        """Make one that hears as much of a track as is asked for, with the same loaded model.

        Parameters
        ----------
        coverage : float or `full`
            As for a new one.

        Raises
        ------
        UsageError
            When `coverage` is neither `full` nor a positive number.
        """
        other = copy.copy(self)
        other.coverage = Coverage.parse(coverage, self.coverage.max_duration_s)
        other._ear = other._listener.ear(other.coverage, other._level)
        return other

    @property
    def model(self) -> str:
        """Name of the loaded model."""
        return self._listener.name

    @property
    def model_sha256(self) -> str:
        """Checksum of the loaded model: one taught again under its name has another, one asked to differ too."""
        asked = "" if self._level == "model" else str(self._level)
        if self._reject != "model":
            asked += f"reject {self._reject}"
        return (
            hashlib.sha256(f"{self._listener.sha256}{asked}".encode()).hexdigest() if asked else self._listener.sha256
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """Genres the model can name; none for a tagger."""
        return self._listener.labels

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """All names that an answer may hold as its genre or style, or, of a tagger, as its tags."""
        return (*self._listener.labels, *self._listener.styles)

    @property
    def names_tags(self) -> bool:
        """Whether the model is a tagger: it names any number of tags and no genre."""
        return not self._listener.labels

    @property
    def names_wide(self) -> bool:
        """Whether answers name genres of the wide vocabulary."""
        return isinstance(self._listener, WideListener)

    @property
    def model_card(self) -> Mapping[str, str]:
        """Licence, citation, origin and notes of a model whose terms bind whoever uses its answers; else empty."""
        return self._listener.model_card

    @property
    def caveats(self) -> tuple[str, ...]:
        """What holds of every answer of the model, as that its confidence is not calibrated; mostly nothing."""
        return self._listener.caveats

    @property
    def card(self) -> Mapping[str, Any]:
        """All that the maker of the model says of it, as plain values: licence, origin, measured scores ..."""
        return self._listener.card

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
            When the source cannot be heard or is too long, or an array comes without its rate.
        """
        heard = self._ear.hear(source, sample_rate_hz=sample_rate_hz)
        path: str | None
        if isinstance(source, str | os.PathLike):
            path = str(Path(cast("str", source)))
        else:
            name = getattr(source, "name", None)  # that of a file object; of one from a descriptor it is a number
            path = name if isinstance(name, str) else None

        with np.errstate(invalid="ignore"):  # what comes of it is refused below, without NumPy's warnings
            answer = self._listener.answer(path, heard, reject=self._reject == "model")
        numbers = [*answer.scores.values(), *answer.tags.values()]
        for segment in answer.timeline:
            numbers += [segment.confidence, *segment.tags.values()]
        if not np.isfinite(numbers).all():
            raise AudioError(
                f"{printable(path) if path else 'the sound'} gives no answer that is a number",
                valid="Samples near full scale, which is 1",
                next_step="Divide its samples by their largest; if every track fails so, get or export the model anew",
            )
        return answer

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
        heard = self._ear.hear(source)
        return heard.outputs, heard.warnings
