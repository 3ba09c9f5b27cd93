"""Compare ways to tell what is unlike the training music, on the half of the test beds that may choose.

Run: python scripts/compare_rejection.py MUSIC [DATA]        MUSIC as for measure_reject.py

Every way gives a number per track, larger for what is stranger; its limit is the one that loses 2 % of the right
answers out of fold, artists apart. Ways that read tags use all tracks, those that read the embedding the 100 with
audio. DATA defaults to ../shared/data. Printed: of what the head alone would answer, how much is still answered.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from _gtzan_heard import DEFAULT_DATA, hear_mini, read_filtered
from _reject_beds import RATE_HZ, game_music, speech, synthetic
from measure_reject import bed_of
from musicgenre import Classifier
from musicgenre._numbers import softmax
from musicgenre.evaluation.folds import grouped_folds
from musicgenre.models.discriminant import FitSettings
from musicgenre.models.head import GenreHead, log_odds
from musicgenre.models.support import RIGHT_ANSWERS_LOST, fit_support
from train_genre_head import DEFAULT_VIEW, LEVEL, N_FOLDS, heard, out_of_fold, pooled

Float64 = NDArray[np.float64]
Tracks = list[Float64]  # (n_segments, width) each
Distance = Callable[[Tracks], Float64]
Way = Callable[[Tracks, NDArray[np.intp]], Distance]

SEEDS = range(3)
BEDS = ("speech", "tones", "noise", "music outside the ten genres", "music with a plausible answer")


def means(tracks: Tracks) -> Float64:
    """Mean over the segments, shape (n_tracks, width)."""
    return np.stack([track.mean(axis=0) for track in tracks])


def whitening(covariance: Float64, shrinkage: float) -> Float64:
    """What turns a shrunken covariance into the identity."""
    width = len(covariance)
    shrunken = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / width * np.eye(width)
    values, vectors = np.linalg.eigh(shrunken)
    return vectors / np.sqrt(values)


def mahalanobis(shrinkage: float, *, own: float = 0.0) -> Way:
    """Distance to the nearest class; `own` is the share of the class's own covariance beside the shared one."""

    def fit(tracks: Tracks, labels: NDArray[np.intp]) -> Distance:
        features = means(tracks)
        scale = features.std(axis=0)
        standard = features / scale
        centres = np.stack([standard[labels == label].mean(axis=0) for label in np.unique(labels)])
        shared = np.cov((standard - centres[np.unique(labels, return_inverse=True)[1]]).T)
        classes = []
        for label, centre in zip(np.unique(labels), centres, strict=True):
            covariance = shared
            if own:
                covariance = (1 - own) * shared + own * np.cov(standard[labels == label].T)
            white = whitening(covariance, shrinkage)
            classes.append((white, centre @ white, 2 * np.linalg.slogdet(white)[1] if own else 0.0))

        def distance(others: Tracks) -> Float64:
            asked = means(others) / scale
            return np.min([((asked @ white - at) ** 2).sum(axis=1) - log for white, at, log in classes], axis=0)

        return distance

    return fit


def neighbours(count: int) -> Way:
    """Distance to the n-th nearest training track."""

    def fit(tracks: Tracks, labels: NDArray[np.intp]) -> Distance:
        features = means(tracks)
        scale = features.std(axis=0) + 1e-6
        known = features / scale

        def distance(others: Tracks) -> Float64:
            asked = means(others) / scale
            between = np.sqrt(((asked[:, np.newaxis] - known) ** 2).sum(axis=2))
            return np.asarray(np.sort(between, axis=1)[:, count - 1])

        return distance

    return fit


def energy(head: GenreHead) -> Way:
    """Minus the logarithm of the summed exponentials of the head's logits."""

    def fit(tracks: Tracks, labels: NDArray[np.intp]) -> Distance:
        def distance(others: Tracks) -> Float64:
            logits = head.linear.logits(means(others)) / head.temperature
            return np.asarray(-np.logaddexp.reduce(logits, axis=1))

        return distance

    return fit


def fewest_tags(tracks: Tracks, labels: NDArray[np.intp]) -> Distance:
    """Minus the expected number of tags."""
    return lambda others: np.array([-(1 / (1 + np.exp(-track))).mean(axis=0).sum() for track in others])


def outside(n_axes: int) -> Way:
    """What lies outside of the directions in which the training segments spread."""

    def fit(tracks: Tracks, labels: NDArray[np.intp]) -> Distance:
        support = fit_support(tracks, n_axes=n_axes)
        return lambda others: np.array([support.distance(track) for track in others])

    return fit


def main() -> None:
    """Print the table."""
    music = Path(sys.argv[1])
    data = Path(sys.argv[2]) if len(sys.argv) > 2 else DEFAULT_DATA
    head, classifier = GenreHead.load_default(), Classifier(reject="none")
    fitted = head.card["fit"]
    names = ("shrinkage", "ridge", "group_power", "prior_strength")
    settings = FitSettings(*(fitted[name] for name in names))

    # The training music: all of it by its tags, and the 100 tracks with audio by their embedding.
    levelled, embeddings = hear_mini(data, LEVEL)
    published_ones = read_filtered(data) + read_filtered(data, part="test")
    corpus = published_ones.part(~np.isin(published_ones.track_ids, levelled.track_ids)) + levelled
    rows = heard(corpus, DEFAULT_VIEW)
    tags = [log_odds(track[row]) for track, row in zip(corpus.tags, rows, strict=True)]
    ours = np.isin(corpus.track_ids, levelled.track_ids)
    our_rows = [row for row, own in zip(rows, ours, strict=True) if own]
    embedding = [track[row].astype(np.float64) for track, row in zip(embeddings, our_rows, strict=True)]

    views = pooled(corpus)
    folds, right = [], []
    for seed in SEEDS:
        logits = out_of_fold(corpus, views, settings, seed)[DEFAULT_VIEW]
        believed = softmax(logits / head.temperature_for(int(DEFAULT_VIEW)))
        is_right = believed.argmax(axis=1) == corpus.genre
        right.append(is_right & (believed.max(axis=1) >= head.unsure_threshold))
        folds.append(grouped_folds(corpus.genre, corpus.group, N_FOLDS, seed))

    # The sounds that may choose, as far as the head alone is sure of them.
    strange: dict[str, dict[str, Tracks]] = {"tags": {}, "embedding": {}}
    for sound in chain(game_music(music), speech(), synthetic()):
        if sound.half != "chooses" or sound.kind == "silence":
            continue
        if isinstance(sound.source, Path):
            said, _ = classifier.hear(sound.source)
        else:
            file = io.BytesIO()
            soundfile.write(file, sound.source, RATE_HZ, subtype="FLOAT", format="WAV")
            file.seek(0)
            said, _ = classifier.hear(file)
        if head.score(said["tags"]).max() >= head.unsure_threshold:
            for kind, tracks in strange.items():
                values = log_odds(said["tags"]) if kind == "tags" else said["embedding"].astype(np.float64)
                tracks.setdefault(bed_of(sound), []).append(values)

    ways: list[tuple[str, str, Way]] = [
        ("tags", "energy of the logits", energy(head)),
        ("tags", "expected number of tags", fewest_tags),
        *(("tags", f"Mahalanobis, shared covariance, shrinkage {s}", mahalanobis(s)) for s in (0.02, 0.1, 0.3)),
        *(("tags", f"Mahalanobis, own covariance, shrinkage {s}", mahalanobis(s, own=0.5)) for s in (0.02, 0.1, 0.3)),
        *(("tags", f"nearest neighbour {n}", neighbours(n)) for n in (1, 5, 10)),
        *(("embedding", f"Mahalanobis, shared covariance, shrinkage {s}", mahalanobis(s)) for s in (0.1, 0.3)),
        *(("embedding", f"nearest neighbour {n}", neighbours(n)) for n in (1, 5)),
        *(("embedding", f"outside of {n} axes", outside(n)) for n in (20, 30, 50, 80, 120)),
    ]
    print(f"| reads | way | {' | '.join(BEDS)} |\n|---|---|{'---|' * len(BEDS)}")
    for reads, name, way in ways:
        known, part = (tags, np.full(len(tags), True)) if reads == "tags" else (embedding, ours)
        labels = corpus.genre[part]
        distances = []
        for fold_of, is_right in zip(folds, right, strict=True):
            for fold in range(N_FOLDS):
                held = fold_of[part] == fold
                measure = way([known[n] for n in np.flatnonzero(~held)], labels[~held])
                tested = np.flatnonzero(held & is_right[part])
                if len(tested):
                    distances += measure([known[n] for n in tested]).tolist()
        limit = np.quantile(distances, 1 - RIGHT_ANSWERS_LOST)

        measure = way(known, labels)
        cells = []
        for bed in BEDS:
            tracks = strange[reads].get(bed, [])
            left = int((measure(tracks) <= limit).sum()) if tracks else 0
            cells.append(f"{left} of {len(tracks)}")
        print(f"| {reads} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
