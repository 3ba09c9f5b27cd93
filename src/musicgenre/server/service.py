"""What a server answers with: models and an index that are loaded once, used from several threads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from musicgenre._text import did_you_mean, printable
from musicgenre.embedding.embed import Embedder
from musicgenre.embedding.similar import Neighbour, SimilarityIndex, embedder_of
from musicgenre.errors import UsageError
from musicgenre.listening.batch import plan_threads
from musicgenre.listening.classifier import Classifier
from musicgenre.server.problems import ProblemError
from musicgenre.server.settings import DEFAULT_MODEL, Settings
from musicgenre.server.tracks import PlanTracks
from musicgenre.server.uploads import Upload

_MANY = 256  # more tracks than there are cores: each gets one of them


class Service:
    """The models of a server, and what else it was given at the start.

    Parameters
    ----------
    settings : Settings
        Which models, index and plan, and how long what they hear may be.

    Attributes
    ----------
    jobs : int
        Tracks to hear at a time.
    classifiers : dict of str to Classifier
        By name; the first is asked where a request names none.
    embedder : Embedder or None
        Makes embeddings, those of the index where there is one.
    index : Library or None
        Where similar tracks are looked for.
    plan : PlanTracks or None
        Tracks that can be played.

    Raises
    ------
    MusicgenreError
        One of them is missing, damaged or too new, or two models have the same name.
    """

    def __init__(self, settings: Settings) -> None:
        self.jobs, threads = plan_threads(settings.jobs, None, n_tracks=_MANY)
        self.classifiers: dict[str, Classifier] = {}
        for model in settings.models:
            classifier = Classifier(
                model,
                threads=threads,
                genres=settings.genres if model == DEFAULT_MODEL else "ten",
                max_duration_s=settings.max_duration_s,
                max_model_mb=settings.max_model_mb,
            )
            if classifier.model in self.classifiers:
                raise UsageError(f"two models are named {classifier.model!r}", next_step="Serve one of them")
            self.classifiers[classifier.model] = classifier

        self.plan = None if settings.plan is None else PlanTracks(settings.plan)
        self.index = None if settings.index is None else Library(SimilarityIndex.open(settings.index))
        self.embedder: Embedder | None = None
        if self.index is not None:
            self.embedder = embedder_of(
                self.index.settings, settings.embedder, max_duration_s=settings.max_duration_s, threads=threads
            )
        elif settings.embedder is not None or DEFAULT_MODEL in settings.models:
            self.embedder = Embedder(
                settings.embedder or DEFAULT_MODEL,
                threads=threads,
                max_duration_s=settings.max_duration_s,
                max_model_mb=settings.max_model_mb,
            )

    def classifier(self, model: str | None, coverage: str | None) -> Classifier:
        """The classifier that a request names, hearing as much of a track as it asks for.

        Raises
        ------
        ProblemError
            No model of that name is served; a name is never looked for elsewhere.
        UsageError
            The coverage cannot be meant.
        """
        name = next(iter(self.classifiers)) if model is None else model
        if name not in self.classifiers:
            known = list(self.classifiers)
            raise ProblemError(
                "bad-request",
                f"no model named {printable(name)[:100]!r} is served",
                valid=f"{did_you_mean(name, known)}Served: {', '.join(known)}",
                next_step="GET /v1/models lists them",
            )
        found = self.classifiers[name]
        return found if coverage is None else found.covering(coverage)

    def about(self) -> list[dict[str, Any]]:
        """Tell of every model what a person should know before they believe it."""
        return [_about(classifier, is_default=not n) for n, classifier in enumerate(self.classifiers.values())]


class Library:
    """An index whose tracks are named without the folder that they have in common.

    Parameters
    ----------
    index : SimilarityIndex
        The index.
    """

    def __init__(self, index: SimilarityIndex) -> None:
        self.settings = index.settings
        self._index = index
        self._rows = {path: row for row, path in enumerate(index.paths)}
        try:
            common = os.path.commonpath([os.path.dirname(path) for path in index.paths])  # noqa: PTH120
        except ValueError:  # none, or some without a folder
            common = ""
        self._n_hidden = len(common) + 1 if common and not common.endswith(os.sep) else len(common)

    def nearest(self, upload: Upload, embedder: Embedder, top: int) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
        """Find the tracks that sound most like a file; with them, what was noticed on the way.

        Raises
        ------
        AudioError
            The file cannot be heard.
        """
        row = self._index.find(os.fspath(upload.path))  # by its content: nothing in the index lies there
        if row is not None:
            return [self._record(found) for found in self._index.nearest_to(row, top=top)], ()
        heard = embedder.embed(upload.path)
        return [self._record(found) for found in self._index.nearest(heard.vector, top=top)], heard.warnings

    def _record(self, found: Neighbour) -> dict[str, Any]:
        shown = printable(found.path[self._n_hidden :])
        return {"row": self._rows[found.path], "path": shown, "cosine": round(found.cosine, 6)}


def _about(classifier: Classifier, *, is_default: bool) -> dict[str, Any]:
    card = classifier.card
    licence = card.get("licence") or _joined(card.get("licences"))
    return {
        "name": classifier.model,
        "is_default": is_default,
        "sha256": classifier.model_sha256,
        "names_tags": classifier.names_tags,
        "labels": list(classifier.labels),
        "vocabulary": list(classifier.vocabulary),
        "unsure_threshold": card.get("unsure_threshold", 0.0),
        "licence": licence,
        "citation": _joined(card.get("citation") or card.get("citations")),
        "origin": _joined(card.get("origin") or card.get("description")),
        "notes": _joined(card.get("notes")),
        "scores": [_score(score) for score in card.get("scores", ())],
        "card": dict(card),
    }


def _score(score: Mapping[str, Any]) -> dict[str, Any]:
    """A measured score as heads and as exported models have it on their cards, told alike."""
    low, high = score.get("interval_95") or (score.get("low"), score.get("high"))
    return {
        "metric": score.get("metric", "accuracy"),
        "value": score.get("value", score.get("accuracy")),
        "low": low,
        "high": high,
        "interval": score.get("interval", "95 %"),
        "n_tracks": score.get("n_tracks", score.get("tracks")),
        "measured_on": _joined(score.get("protocol") or score.get("data")),
    }


def _joined(told: object) -> str:
    """Text of what a card tells as text, as a list, or by name."""
    if isinstance(told, Mapping):
        return "; ".join(f"{name}: {text}" for name, text in told.items())
    if isinstance(told, list | tuple):
        return "; ".join(map(str, told))
    return "" if told is None else str(told)
