"""Fit the thresholds of the wide vocabulary where there is truth, and print every number of it.

Run: python scripts/fit_wide_genres.py [DATA] [--write]      DATA defaults to ../shared/data

The tree stands in src/musicgenre/models/wide.json and is made by hand; --write puts the thresholds into it.

What chooses: the published tag probabilities (MSD) of the 443 tracks in the training part of the fault-filtered GTZAN
split, and for the other network (MTT), of which nothing was published, the tracks of gtzan-mini that are not in the
test part. The 290 tracks of the test part are scored once, at the end.

- A tag that is one of the ten: the lowest mean probability from which it names that genre rightly often enough; none
  where no threshold does. Beside it stands its precision on tracks of artists that the threshold was not fitted on.
- Any other tag borrows: from so many times its mean over the tracks (all genres weighing the same) as names the
  right genre often enough when the tags of the ten do it, but at least from the one probability that does for all
  narrow ones of them.
- How far above its threshold a tag has to be to go before a sure answer: as little as loses 2 % of the right ones.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _gtzan_heard import DEFAULT_DATA, GENRES, Corpus, hear_mini, read_filtered
from musicgenre._files import write_text_atomic
from musicgenre._numbers import softmax
from musicgenre.bundle.load import load_bundle
from musicgenre.bundle.store import ensure_bundle
from musicgenre.evaluation.metrics import wilson_interval
from musicgenre.features.published.musicnn.published import published
from musicgenre.models.discriminant import FitSettings
from musicgenre.models.head import GenreHead
from musicgenre.models.wide import Vocabulary, vocabulary_from
from musicgenre.teaching.folds import grouped_folds
from train_genre_head import (
    DEFAULT_VIEW,
    LEVEL,
    N_FOLDS,
    NAMESAKES,
    SEEDS,
    STAND_INS,
    VIEWS,
    calibrate,
    fit,
    heard,
    out_of_fold,
    pooled,
)

Float64 = NDArray[np.float64]

PATH = Path(__file__).resolve().parents[1] / "src/musicgenre/models/wide.json"
MSD, MTT = "msd-musicnn", "mtt-musicnn"
NAMESAKES_MTT = {"classical": "classical", "classic": "classical"} | {
    n: n for n in ("country", "metal", "pop", "rock")
}
TARGET = 0.9  # of what the tags of the ten name, rightly
FLOOR_TARGET = 0.8  # of the one threshold for all narrow tags: as for the styles of the default model
LEAST_TRACKS = 10  # above a threshold, that it counts
MOST_LOST = 0.02  # of the right answers, by what goes before them
THRESHOLDS = np.arange(0.01, 0.9, 0.01).round(2)


def mean_tags(corpus: Corpus) -> Float64:
    """Mean tag probabilities of what is heard by default, shape (n_tracks, 50)."""
    return np.stack(
        [tags[rows].mean(axis=0) for tags, rows in zip(corpus.tags, heard(corpus, DEFAULT_VIEW), strict=True)]
    )


def lowest(means: Float64, is_genre: NDArray[np.bool_]) -> float | None:
    """The lowest threshold from which the tag is right often enough; None if there is none."""
    for threshold in THRESHOLDS.tolist():
        named = means >= threshold
        if named.sum() >= LEAST_TRACKS and is_genre[named].mean() >= TARGET:
            return float(threshold)
    return None


def of_new_artists(corpus: Corpus, means: Float64, is_genre: NDArray[np.bool_]) -> tuple[int, int]:
    """How many tracks the threshold names, and how many rightly, when it is fitted without their artists."""
    folds = grouped_folds(corpus.genre, corpus.group, N_FOLDS, 0)
    named = np.zeros(len(means), bool)
    for fold in range(N_FOLDS):
        held = folds == fold
        threshold = lowest(means[~held], is_genre[~held])
        if threshold is not None:
            named[held] = means[held] >= threshold
    return int(named.sum()), int((named & is_genre).sum())


def fit_namesakes(corpus: Corpus, means: Float64, network: str, namesakes: dict[str, str]) -> dict[str, float | None]:
    """Thresholds of the tags that are one of the ten; prints them."""
    tags = published(network).tags
    found: dict[str, float | None] = {}
    print(f"\n{network}, {len(means)} tracks of {len(np.unique(corpus.group))} artists:")
    print("| tag | genre | threshold | right | right, artists not fitted on |\n|---|---|---|---|---|")
    for tag, genre in namesakes.items():
        column, is_genre = means[:, tags.index(tag)], corpus.genre == GENRES.index(genre)
        found[tag] = threshold = lowest(column, is_genre)
        if threshold is None:
            print(f"| {tag} | {genre} | none | | |")
            continue
        named = column >= threshold
        n_new, n_right = of_new_artists(corpus, column, is_genre)
        print(
            f"| {tag} | {genre} | {threshold} | {(named & is_genre).sum()} of {named.sum()} | {n_right} of {n_new} |"
        )
    return found


def balanced(corpus: Corpus, means: Float64) -> Float64:
    """Mean of each tag, all genres weighing the same."""
    return np.mean([means[corpus.genre == genre].mean(axis=0) for genre in np.unique(corpus.genre)], axis=0)


def mean_precision(corpus: Corpus, means: Float64, thresholds: dict[str, float]) -> float:
    """Mean over tags of the share of right names; one that names nothing is not wrong."""
    tags, shares = published(MSD).tags, []
    for tag, threshold in thresholds.items():
        named = corpus.genre[means[:, tags.index(tag)] >= threshold]
        shares.append((named == GENRES.index(NAMESAKES[tag])).mean() if len(named) else 1.0)
    return float(np.mean(shares))


def fit_borrowed(corpus: Corpus, means: Float64) -> tuple[float, float]:
    """What tags without truth borrow: the least times its mean, and the least probability."""
    usual = dict(zip(published(MSD).tags, balanced(corpus, means), strict=True))
    stand_ins = [tag for tag in NAMESAKES if tag != "rock"]  # which no threshold names rightly
    lift = next(
        times
        for times in np.arange(1, 10, 0.5).tolist()
        if mean_precision(corpus, means, {tag: times * usual[tag] for tag in stand_ins}) >= TARGET
    )
    floor = next(
        least
        for least in np.arange(0.05, 0.6, 0.01).round(2).tolist()
        if mean_precision(corpus, means, dict.fromkeys(STAND_INS, least)) >= FLOOR_TARGET
    )
    print(f"\nborrowed: {lift} times a tag's mean, at least {floor}")
    for tag in stand_ins:
        threshold = max(floor, lift * usual[tag])
        share = mean_precision(corpus, means, {tag: threshold})
        print(f"  the tag {tag} would have {threshold:.2f}, and be right {share:.2f}")
    return lift, floor


def hear_other_network(data: Path, test: Corpus) -> tuple[Corpus, Float64]:
    """The tracks of gtzan-mini outside the test part as the MTT network hears them, and their mean tags."""
    mini = hear_mini(data, LEVEL, load_bundle(ensure_bundle(MTT)))[0]
    mini = mini.part(~np.isin(mini.track_ids, test.track_ids))
    return mini, mean_tags(mini)


def fill_in(
    tree: dict[str, Any], fitted: dict[str, dict[str, float | None]], usual: dict[str, dict[str, float]]
) -> None:
    """Give every tag of the tree its threshold: its own, or what it borrows."""
    lift, floor = tree["borrowed"]["times_mean"], tree["borrowed"]["least"]
    for genre in tree["genres"]:
        for network, thresholds in genre["tags"].items():
            for tag in thresholds:
                own = fitted[network]
                thresholds[tag] = own[tag] if tag in own else round(max(floor, lift * usual[network][tag]), 3)


def judge(
    vocabulary: Vocabulary, probabilities: Float64, means: Float64, threshold: float
) -> list[tuple[str, tuple[str, ...], bool]]:
    """What the vocabulary names of each track by the head and one network: the leading genre, all, and if sure."""
    rows = []
    for row, tags in zip(probabilities, means, strict=True):
        heard_tags = {MSD: dict(zip(published(MSD).tags, tags.tolist(), strict=True)), MTT: silent()}
        is_sure = bool(row.max() >= threshold)
        leading, named = vocabulary.choose(dict(zip(GENRES, row.tolist(), strict=True)), heard_tags, is_sure=is_sure)
        rows.append((leading, tuple(genre.name for genre in named), is_sure))
    return rows


def silent() -> dict[str, float]:
    """Tags of a network that was not asked."""
    return dict.fromkeys(published(MTT).tags, 0.0)


def alone(tree: dict[str, Any], network: str) -> Vocabulary:
    """The vocabulary as one network alone would have it."""
    genres = [{**genre, "tags": {network: genre["tags"].get(network, {})}} for genre in tree["genres"]]
    return vocabulary_from({**tree, "genres": genres})


def find_beats(
    tree: dict[str, Any], corpus: Corpus, means: Float64, probabilities: Sequence[Float64], threshold: float
) -> float:
    """The least factor at which tags go before few right answers of the ten; prints what factors cost."""
    chosen = None
    print("\na tag goes before a sure answer from so many times its threshold on (out of fold, the 443):")
    for beats in np.arange(1, 6.1, 0.25).tolist():
        vocabulary = alone({**tree, "beats": beats}, MSD)
        lost, right, lost_wrong, wrong = 0, 0, 0, 0
        for believed in probabilities:
            best = [GENRES[number] for number in believed.argmax(axis=1)]
            for name, genre, (leading, _, is_sure) in zip(
                best, corpus.genre, judge(vocabulary, believed, means, threshold), strict=True
            ):
                if is_sure and name == GENRES[genre]:
                    right += 1
                    lost += leading != name
                elif is_sure:
                    wrong += 1
                    lost_wrong += leading != name
        print(f"  {beats}: {lost / right:.4f} of the right answers, {lost_wrong / wrong:.4f} of the wrong ones")
        if chosen is None and lost <= MOST_LOST * right:
            chosen = beats
    assert chosen is not None
    return chosen


def score_test(tree: dict[str, Any], test: Corpus, believed: Float64, threshold: float) -> None:
    """Print what the rule does to the 290 tracks of the test part, by the MSD network alone."""
    means = mean_tags(test)
    truth = [GENRES[number] for number in test.genre]
    best = [GENRES[number] for number in believed.argmax(axis=1)]
    rows = judge(alone(tree, MSD), believed, means, threshold)
    ten = vocabulary_from(tree).ten

    def line(what: str, hits: list[bool]) -> None:
        low, high = wilson_interval(sum(hits), max(1, len(hits)))
        print(f"  {what}: {sum(hits)} of {len(hits)} [{low:.3f}, {high:.3f}]")

    print(f"\nthe {len(truth)} tracks of the test part, MSD network alone, once:")
    sure = [n for n, row in enumerate(rows) if row[2]]
    line("sure answers of the ten", [row[2] for row in rows])
    line("right", [best[n] == truth[n] for n in sure])
    line("a tag goes before a right one", [rows[n][0] != best[n] for n in sure if best[n] == truth[n]])
    line("a tag goes before a wrong one", [rows[n][0] != best[n] for n in sure if best[n] != truth[n]])
    unsure = [n for n, row in enumerate(rows) if not row[2]]
    told = [n for n in unsure if set(rows[n][1]) & set(ten) and rows[n][0] in ten]
    line("unsure ones that a tag decides within the ten", [n in told for n in unsure])
    line("right of these", [rows[n][0] == truth[n] for n in told])
    line("unsure ones that get a genre at all", [bool(rows[n][0]) for n in unsure])
    print("  families that a child alone stands for:")
    for family in ("rock", "metal", "pop"):
        children = vocabulary_from(tree).tree[family]
        named = [n for n, row in enumerate(rows) if set(row[1]) & set(children)]
        line(
            f"truth is {family} where a child of it is named ({', '.join(children)})",
            [truth[n] == family for n in named],
        )


def as_text(tree: dict[str, Any]) -> str:
    """The file: a genre a line, for whoever reads it."""
    parts = []
    for key, value in tree.items():
        if key in ("genres", "note"):
            lines = ",\n".join(f"    {json.dumps(entry, ensure_ascii=False)}" for entry in value)
            parts.append(f'  "{key}": [\n{lines}\n  ]')
        elif key == "not_genres":
            lines = ",\n".join(f'    "{network}": {json.dumps(tags)}' for network, tags in value.items())
            parts.append(f'  "{key}": {{\n{lines}\n  }}')
        else:
            parts.append(f"  {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> None:
    """Fit, print and, with --write, save."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--write"]
    data = Path(arguments[0]) if arguments else DEFAULT_DATA
    train, test = read_filtered(data), read_filtered(data, part="test")
    tree = json.loads(PATH.read_text(encoding="utf-8"))

    means = mean_tags(train)
    mini, means_mtt = hear_other_network(data, test)
    fitted = {
        MSD: fit_namesakes(train, means, MSD, NAMESAKES),
        MTT: fit_namesakes(mini, means_mtt, MTT, NAMESAKES_MTT),
    }
    lift, floor = fit_borrowed(train, means)
    tree["borrowed"] = {"times_mean": lift, "least": floor}
    usual = {
        MSD: dict(zip(published(MSD).tags, balanced(train, means).tolist(), strict=True)),
        MTT: dict(zip(published(MTT).tags, balanced(mini, means_mtt).tolist(), strict=True)),
    }
    fill_in(tree, fitted, usual)

    # The head as it comes of the 443 alone, with the settings that they chose.
    chosen = GenreHead.load_default().card["fit"]
    settings = FitSettings(*(chosen[name] for name in ("shrinkage", "ridge", "group_power", "prior_strength")))
    views = pooled(train)
    logits = [out_of_fold(train, views, settings, seed) for seed in SEEDS]
    with contextlib.redirect_stdout(io.StringIO()):
        limit, single, outcome = calibrate(logits, train.genre)
    temperature = limit + (single - limit) / VIEWS[DEFAULT_VIEW]
    believed = [softmax(seed[DEFAULT_VIEW] / temperature) for seed in logits]
    tree["beats"] = find_beats(tree, train, means, believed, outcome.threshold)
    print(f"chosen: {tree['beats']}")

    linear = fit(train, views["all"], settings, np.full(len(train.genre), True))
    score_test(tree, test, softmax(linear.logits(pooled(test)[DEFAULT_VIEW]) / temperature), outcome.threshold)
    if "--write" in sys.argv:
        write_text_atomic(PATH, as_text(tree))
        print(f"\nwrote {PATH.name}")


if __name__ == "__main__":
    main()
