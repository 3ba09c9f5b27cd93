"""The wide vocabulary: families and genres over the tags of both MusiCNN networks and the ten calibrated genres.

`wide.json` beside this file holds the tree and its thresholds, a genre a line; `scripts/fit_wide_genres.py` fits the
thresholds. docs/genres.md has the rule in words, and what comes of it. NumPy-free: a dozen comparisons a track.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from musicgenre.errors import BundleError

NETWORKS = ("msd-musicnn", "mtt-musicnn")
"""Whose tags the vocabulary reads."""

CANDIDATES_SHARE = 0.5
"""A genre of the ten that the head does not hold for this share of its best one is not named by its tag either."""


@dataclass(frozen=True, slots=True)
class NamedGenre:
    """One genre of an answer.

    Attributes
    ----------
    name, family : str
        The genre, and the family that it belongs to: its own name where it is one.
    score : float
        In [0, 1]: the head's probability where `calibrated`, else the mean probability of the tag, which is none of
        the genre. A family has the score of what speaks for it.
    calibrated : bool
        Whether the score is a probability that was held against the truth.
    """

    name: str
    family: str
    score: float
    calibrated: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        return {
            "name": self.name,
            "family": self.family,
            "score": round(self.score, 4),
            "calibrated": self.calibrated,
        }


@dataclass(frozen=True, slots=True)
class WideGenre:
    """One genre of the tree.

    Attributes
    ----------
    name, family : str
        As in `NamedGenre`.
    calibrated : bool
        Whether it is one of the ten genres of the head.
    tags : mapping of str to mapping of str to float or None
        By network, its tags with the mean probability from which each speaks for it; None for a tag of which no
        threshold was found that holds against the truth, so that it never does.
    """

    name: str
    family: str
    calibrated: bool
    tags: Mapping[str, Mapping[str, float | None]]

    def heard(self, tags: Mapping[str, Mapping[str, float]]) -> tuple[float, float]:
        """How far its tags are above their thresholds (1 is at them), and their probability: means over the networks.

        Of several tags in one network the strongest counts; a network without one that can speak is left out.
        """
        ratios, scores = [], []
        for network, thresholds in self.tags.items():
            spoken = [(tags[network][tag] / limit, tags[network][tag]) for tag, limit in thresholds.items() if limit]
            if spoken:
                ratio, score = max(spoken)
                ratios.append(ratio)
                scores.append(score)
        if not ratios:
            return 0.0, 0.0
        return sum(ratios) / len(ratios), sum(scores) / len(scores)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tree with its thresholds, and the rule that names genres by it.

    Attributes
    ----------
    genres : tuple of WideGenre
        All genres, a family before its children.
    beats : float
        How many times its threshold a tag has to reach to go before a sure answer of the ten.
    not_genres : mapping of str to tuple of str
        By network, tags that name no genre.
    """

    genres: tuple[WideGenre, ...]
    beats: float
    not_genres: Mapping[str, tuple[str, ...]]

    @property
    def names(self) -> tuple[str, ...]:
        """All names, a family before its children."""
        return tuple(genre.name for genre in self.genres)

    @property
    def ten(self) -> tuple[str, ...]:
        """The genres of the head."""
        return tuple(genre.name for genre in self.genres if genre.calibrated)

    @property
    def tree(self) -> dict[str, tuple[str, ...]]:
        """Families with their children."""
        children: dict[str, list[str]] = {}
        for genre in self.genres:
            below = children.setdefault(genre.family, [])
            if genre.name != genre.family:
                below.append(genre.name)
        return {family: tuple(names) for family, names in children.items()}

    def choose(
        self,
        scores: Mapping[str, float],
        tags: Mapping[str, Mapping[str, float]],
        *,
        is_sure: bool,
        is_known: bool = True,
    ) -> tuple[str, tuple[NamedGenre, ...]]:
        """Name the genres of a track.

        Parameters
        ----------
        scores : mapping of str to float
            The head's calibrated probability of each of the ten.
        tags : mapping of str to mapping of str to float
            By network, the mean probability of every tag.
        is_sure : bool
            Whether the head answers with its best genre.
        is_known : bool
            Whether the track is like the music that the head was fitted on; if not, no tag decides among the ten.

        Returns
        -------
        (leading, genres) : (str, tuple of NamedGenre)
            The name that leads, and all: its family first, every family before its children. Empty where neither the
            head nor a tag names one.
        """
        by_name = {genre.name: genre for genre in self.genres}
        heard = {genre.name: genre.heard(tags) for genre in self.genres}

        # The ten exclude each other: the head names one at most. Where it is unsure a tag may decide among those that
        # it holds for possible; more of their families is told beside a sure answer only.
        best = max(scores, key=lambda name: scores[name])
        spoken = [genre.name for genre in self.genres if not genre.calibrated and heard[genre.name][0] >= 1]
        spoken.sort(key=lambda name: -heard[name][0])
        of_the_ten: str | None = best if is_sure else None
        if not is_sure and is_known:
            possible = [name for name, score in scores.items() if score >= CANDIDATES_SHARE * scores[best]]
            told = [name for name in possible if heard[name][0] >= 1]
            of_the_ten = max(told, key=lambda name: scores[name], default=None)
        if not is_sure:
            spoken = [name for name in spoken if by_name[name].family not in {*scores} - {of_the_ten}]

        in_order = list(spoken)
        if of_the_ten is not None:
            # Of its own families the head knows more than a tag; of what it never heard, a tag may know more.
            families = (*scores, by_name[of_the_ten].family)
            strong = [name for name in spoken if heard[name][0] >= self.beats]
            first = [name for name in strong if by_name[name].family not in families][:1]
            in_order = [*first, of_the_ten, *(name for name in spoken if name not in first)]
        if not in_order:
            return "", ()

        named: list[NamedGenre] = []
        for family in dict.fromkeys(by_name[name].family for name in in_order):
            members = [name for name in in_order if by_name[name].family == family]
            for name in dict.fromkeys((family, *members)):
                speaks = name if name in members else members[0]  # a family stands behind what is named first of it
                genre = by_name[speaks]
                score = scores[speaks] if genre.calibrated else heard[speaks][1]
                named.append(NamedGenre(name, family, score, genre.calibrated))
        return in_order[0], tuple(named)


@cache
def load_wide() -> Vocabulary:
    """Load the vocabulary that comes with this package."""
    text = resources.files("musicgenre.models").joinpath("wide.json").read_text(encoding="utf-8")
    return vocabulary_from(json.loads(text))


def vocabulary_from(content: Mapping[str, Any]) -> Vocabulary:
    """Make a vocabulary of what `wide.json` holds.

    Raises
    ------
    BundleError
        When its parts do not fit together.
    """
    genres = tuple(
        WideGenre(entry["name"], entry["family"], entry["calibrated"], entry["tags"]) for entry in content["genres"]
    )
    names = [genre.name for genre in genres]
    for number, genre in enumerate(genres):
        if genre.family not in names[: number + 1] or genre.name in names[:number]:
            raise BundleError(
                f"the genre {genre.name!r} of the wide vocabulary stands twice or before its family {genre.family!r}",
                valid="each name once, a family before its children",
                next_step="Reinstall musicgenre",
            )
    return Vocabulary(
        genres, float(content["beats"]), {key: tuple(tags) for key, tags in content["not_genres"].items()}
    )


def genre_names(genres: Sequence[Mapping[str, Any]], leading: str, most: int | None = None) -> tuple[str, ...]:
    """Names of an answer's genres, a family before its children, for a file's tags.

    Parameters
    ----------
    genres : sequence of mapping
        `genres` of an answer's record, in its order.
    leading : str
        `genre` of the record.
    most : int, optional
        No more names than this: the leading one stays longest, then its family, then what comes first.
    """
    families = {str(entry["name"]): str(entry["family"]) for entry in genres}
    by_weight = dict.fromkeys((leading, families.get(leading, ""), *families))
    kept = [name for name in by_weight if name in families][:most]
    return tuple(name for name in families if name in kept)
