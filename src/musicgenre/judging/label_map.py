"""What a data set calls a genre, and what a model calls it: a map, checked, with what it leaves out counted."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgenre._text import did_you_mean
from musicgenre.errors import UsageError

_EXAMPLE = "lines such as 'hip-hop: hiphop', 'rap: [hiphop, rnb]', or 'spoken word:' to leave a label out"


@dataclass(frozen=True, slots=True)
class MatchedLabels:
    """How labels of tracks meet those of a model.

    Parameters
    ----------
    names : tuple of str
        What is judged, one a group of the model's labels.
    groups : tuple of tuple of int
        Numbers of the model's labels that are one here; each stands in one group.
    group_of : mapping of str to int
        Label of tracks to the group that is right for them.
    unmapped, dropped : mapping of str to int
        Labels of tracks that the model has nothing for, and those that the map leaves out, with their tracks.
    """

    names: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]
    group_of: Mapping[str, int]
    unmapped: Mapping[str, int]
    dropped: Mapping[str, int]

    def together(self, scores: NDArray[np.float64], *, are_tags: bool) -> NDArray[np.float64]:
        """Scores of the groups, (n, n_labels) to (n, n_groups): probabilities add up, of tags the highest counts."""
        columns = []
        for group in self.groups:
            own = scores[:, list(group)]
            columns.append(own.max(axis=1) if are_tags else own.sum(axis=1))
        return np.stack(columns, axis=1)


def read_label_map(path: Path) -> dict[str, tuple[str, ...]]:
    """Read a map from labels of tracks to labels of a model, in YAML or (`.toml`) TOML.

    Returns
    -------
    dict of str to tuple of str
        An empty tuple leaves a label out.

    Raises
    ------
    UsageError
        The file cannot be read, or is no such map.
    """
    content: Any
    try:
        if path.suffix.lower() == ".toml":
            content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        else:
            from musicgenre._yaml import read_yaml  # which the light install has not

            content = read_yaml(path)
    except (OSError, ValueError, RecursionError) as error:  # a TOML error is a ValueError
        raise UsageError(f"the map {path} cannot be read ({error})", valid=_EXAMPLE) from error

    if not isinstance(content, dict) or not content:
        raise UsageError(f"{path} is no map of labels", valid=_EXAMPLE)
    found: dict[str, tuple[str, ...]] = {}
    for label, value in content.items():
        names = value if isinstance(value, list) else [value] if value else []
        if not isinstance(label, str) or not all(isinstance(name, str) and name for name in names):
            raise UsageError(f"{path} maps {label!r} to {value!r}", valid=_EXAMPLE)
        found[label] = tuple(dict.fromkeys(names))
    return found


def match_labels(
    labels: Iterable[str],
    model_labels: Sequence[str],
    chosen: Mapping[str, tuple[str, ...]] | None = None,
    *,
    are_tags: bool = False,
) -> MatchedLabels:
    """Match the labels of tracks with those of a model.

    Parameters
    ----------
    labels : iterable of str
        The label of every track.
    model_labels : sequence of str
        What the model can say.
    chosen : mapping of str to tuple of str, optional
        What `read_label_map` gave. Labels that it does not name match the model's label of the same name; case,
        blanks, hyphens and the like do not count.
    are_tags : bool
        The model names tags, most of which are no rival of a label: only those that stand for one are judged.

    Raises
    ------
    UsageError
        The map names a label that the model or the tracks do not have, two of its lists share a label of the model,
        or nothing at all matches.
    """
    counts, chosen = Counter(labels), chosen or {}
    _check(chosen, counts, model_labels)

    # each label of the tracks to the labels of the model that are right for it
    by_name = {_bare(label): label for label in reversed(model_labels)}
    right: dict[str, tuple[str, ...]] = {}
    unmapped, dropped = {}, {}
    for label, n_tracks in sorted(counts.items()):
        same = by_name.get(_bare(label))
        names = chosen.get(label, () if same is None else (same,))
        if names:
            right[label] = names
        elif label in chosen:
            dropped[label] = n_tracks
        else:
            unmapped[label] = n_tracks
    if not right:
        raise UsageError(
            f"the model knows none of the labels of these tracks: {', '.join(sorted(counts)) or 'they have none'}",
            valid=f"its labels: {', '.join(model_labels)}",
            next_step="Give --labels-map with a file that says which is which",
        )

    # labels of the model that answer together are one, all others stay as they are
    groups: dict[frozenset[str], int] = {}
    for names in right.values():
        groups.setdefault(frozenset(names), len(groups))
    taken: dict[str, frozenset[str]] = {}
    for group in groups:
        for name in sorted(group):
            if name in taken:
                raise UsageError(
                    f"the map counts {name!r} as part of {_joined(taken[name])} and of {_joined(group)}",
                    valid="each label of the model in one list, or in several that are the same",
                )
            taken[name] = group
    for name in model_labels:
        if name not in taken and not are_tags:
            groups[frozenset([name])] = len(groups)

    number = {name: place for place, name in enumerate(model_labels)}
    return MatchedLabels(
        names=tuple(_joined(group) for group in groups),
        groups=tuple(tuple(sorted(number[name] for name in group)) for group in groups),
        group_of={label: groups[frozenset(names)] for label, names in right.items()},
        unmapped=unmapped,
        dropped=dropped,
    )


def _check(chosen: Mapping[str, tuple[str, ...]], counts: Mapping[str, int], model_labels: Sequence[str]) -> None:
    """Refuse names that nobody has: a slip of the pen would leave tracks out without a word."""
    for label, names in chosen.items():
        if label not in counts:
            raise UsageError(
                f"the map names {label!r}, which no track has",
                valid=", ".join(sorted(counts)),
                next_step=f"{did_you_mean(label, sorted(counts))}Mend the map",
            )
        for name in names:
            if name not in model_labels:
                raise UsageError(
                    f"the map names {name!r}, which the model cannot say",
                    valid=", ".join(model_labels),
                    next_step=f"{did_you_mean(name, model_labels)}Mend the map",
                )


def _bare(label: str) -> str:
    """Spell a label as `hiphop`: `Hip-Hop`, `hip hop` and `hip_hop` are one."""
    return "".join(letter for letter in label.casefold() if letter.isalnum())


def _joined(group: Iterable[str]) -> str:
    return " or ".join(sorted(group))
