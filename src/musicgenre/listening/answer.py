"""What a listener answers: one typed, immutable result a track."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from musicgenre.models.wide import NamedGenre, genre_names

UNSURE = "unsure"
Reason = Literal[
    "low confidence", "unlike the training music", "not music", "low sample rate", "too short", "too quiet"
]
"""Why an answer is `unsure`."""

_CANDIDATES_SHARE = 0.5  # a candidate has at least this share of the best score


@dataclass(frozen=True, slots=True)
class TimelineSegment:
    """One heard segment of a track.

    Attributes
    ----------
    start_s, end_s : float
        Where the segment lies in the track, in seconds.
    genre : str
        The most probable genre of this segment alone (never `unsure`).
    confidence : float
        Its probability in [0, 1]. A segment alone is judged less reliably than a track.
    tags : mapping of str to float
        From a tagger: probability of every tag, most probable first; `genre` is empty then.
    """

    start_s: float
    end_s: float
    genre: str
    confidence: float
    tags: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TimelineSection:
    """Neighbouring segments that sound like one genre, smoothed (`listening/sections.py` has the rule).

    Attributes
    ----------
    start_s, end_s : float
        Where the section lies in the track, in seconds.
    genre : str
        Its most probable genre, or `unsure` below the model's threshold.
    confidence : float
        Mean probability of the most probable genre over the section, in [0, 1].
    candidates : tuple of str
        Genres whose score comes near the best one's, most probable first.
    """

    start_s: float
    end_s: float
    genre: str
    confidence: float
    candidates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer for one track.

    Attributes
    ----------
    path : str or None
        The file, or None for arrays and file objects without a name.
    duration_s : float
        Length of the whole track in seconds.
    heard_s : float
        How much of it was heard, in seconds.
    genre : str
        The most probable genre, or `unsure` for one of the reasons below; empty from a tagger, which names none.
    reason : str or None
        Why the genre is `unsure`: `too quiet`, `too short`, `low sample rate`, `not music`, `unlike the training
        music` or `low confidence` (below the model's threshold); docs/classify.md says when. None where it is not.
    confidence : float
        Calibrated probability of the most probable genre, in [0, 1]; 0 from a tagger.
    scores : mapping of str to float
        Probability of every genre, most probable first; they sum to one, but from a model of styles
        (`discogs-effnet`), which may hear several or none. Empty from a tagger.
    tags : mapping of str to float
        Probability of every tag, most probable first; empty for models without tags.
    style : str or None
        A genre-like tag above the model's tag threshold that says more than the genre, or another thing; from a model
        of styles the likeliest of them, where it is as probable as a genre must be.
    timeline : tuple of TimelineSegment
        One entry a heard segment, in order.
    sections : tuple of TimelineSection
        The timeline in 20 sections at most; none from a tagger.
    unsure_threshold : float
        Below this probability the model says `unsure`.
    warnings : tuple of str
        What a person should know: truncated file, silence, repeated sound ..., then the `caveats`.
    model : str
        Name of the model that answered.
    chosen : tuple of str
        From a tagger: the tags that reach their thresholds, most probable first. Always empty for the published
        taggers, which have no thresholds.
    names_tags : bool
        Whether a tagger answered: there is no genre, and nothing to be unsure about.
    model_card : mapping of str to str
        Licence, citation, origin and notes of the model that answered, where its terms bind whoever uses the answer
        (non-commercial weights); empty otherwise.
    caveats : tuple of str
        Those of the warnings that hold of every answer of the model: it is not calibrated, or was tested on tracks
        that it learnt from.
    genres : tuple of NamedGenre or None
        With the wide vocabulary, all that is named, a family before its children; `genre` is the leading one and
        `confidence` its score, calibrated or not. None without it.
    """

    path: str | None
    duration_s: float
    heard_s: float
    genre: str
    confidence: float
    scores: Mapping[str, float]
    tags: Mapping[str, float] = field(default_factory=dict)
    style: str | None = None
    timeline: tuple[TimelineSegment, ...] = ()
    warnings: tuple[str, ...] = ()
    model: str = ""
    chosen: tuple[str, ...] = ()
    names_tags: bool = False
    sections: tuple[TimelineSection, ...] = ()
    unsure_threshold: float = 0.0
    reason: Reason | None = None
    model_card: Mapping[str, str] = field(default_factory=dict)
    caveats: tuple[str, ...] = ()
    genres: tuple[NamedGenre, ...] | None = None

    @property
    def own_warnings(self) -> tuple[str, ...]:
        """Warnings about this track alone."""
        return tuple(warning for warning in self.warnings if warning not in self.caveats)

    @property
    def is_sure(self) -> bool:
        """Whether the model committed itself to a genre; a tagger never does."""
        return self.genre != UNSURE and not self.names_tags

    @property
    def is_calibrated(self) -> bool:
        """Whether `confidence` is a probability of the genre, and not of a tag alone."""
        return all(genre.calibrated for genre in self.genres or () if genre.name == self.genre)

    @property
    def candidates(self) -> tuple[str, ...]:
        """Genres whose score comes near the best one's, most probable first."""
        return close_to_best(self.scores)

    def genre_names(self, most: int | None = None) -> tuple[str, ...]:
        """Names of its genres, a family before its children; none where it is unsure, or from a tagger.

        Parameters
        ----------
        most : int, optional
            No more than these, those of the leading genre first.
        """
        if self.genres is None:
            return (self.genre,)[:most] if self.is_sure else ()
        return genre_names([genre.as_dict() for genre in self.genres], self.genre, most)

    def as_dict(self, *, top: int | None = None, timeline: bool = False) -> dict[str, Any]:
        """Plain values, fit for JSON.

        Parameters
        ----------
        top : int, optional
            Keep only this many tags (the most probable), and those that were chosen.
        timeline : bool
            Whether to include the heard segments and, of genres, the sections.
        """
        most_probable = list(self.tags)[:top]
        shown_tags = {tag: p for tag, p in self.tags.items() if tag in most_probable or tag in self.chosen}

        record: dict[str, Any] = {
            "path": self.path,
            "duration_s": round(self.duration_s, 3),
            "heard_s": round(self.heard_s, 3),
            "genre": self.genre or None,
            "confidence": None if self.names_tags else round(self.confidence, 4),
            "candidates": list(self.candidates),
            "style": self.style,
            "scores": _rounded(self.scores),
            "tags": _rounded(shown_tags),
            "warnings": list(self.warnings),
            "model": self.model,
            "error": None,
        }
        # Readers tell a tagger's records from those of genres by this key.
        if self.names_tags:
            record["chosen"] = list(self.chosen)
        else:
            record["reason"] = self.reason
        if self.genres is not None:
            record["genres"] = [genre.as_dict() for genre in self.genres]
        if self.model_card:
            record["model_card"] = dict(self.model_card)

        if timeline:
            record["timeline"] = []
            for segment in self.timeline:
                entry: dict[str, Any] = {"start_s": round(segment.start_s, 3), "end_s": round(segment.end_s, 3)}
                if self.names_tags:
                    entry["tags"] = _rounded({tag: segment.tags[tag] for tag in shown_tags})
                else:
                    entry |= {"genre": segment.genre, "confidence": round(segment.confidence, 4)}
                record["timeline"].append(entry)
        if timeline and not self.names_tags:
            record["sections"] = []
            for section in self.sections:
                record["sections"].append(
                    {
                        "start_s": round(section.start_s, 3),
                        "end_s": round(section.end_s, 3),
                        "genre": section.genre,
                        "confidence": round(section.confidence, 4),
                        "candidates": list(section.candidates),
                    }
                )
        return record


def ranked(names: Sequence[str], values: Iterable[float]) -> dict[str, float]:
    """Pair names with values, highest value first (ties in the given order)."""
    pairs = zip(names, map(float, values), strict=True)
    return dict(sorted(pairs, key=lambda pair: -pair[1]))


def close_to_best(scores: Mapping[str, float]) -> tuple[str, ...]:
    """Name those whose score comes near the best one's, in the given order."""
    best = max(scores.values(), default=0.0)
    return tuple(name for name, score in scores.items() if score >= best * _CANDIDATES_SHARE)


def _rounded(scores: Mapping[str, float]) -> dict[str, float]:
    """Four digits are more than a probability is good for, and keep lines short."""
    return {name: round(score, 4) for name, score in scores.items()}
