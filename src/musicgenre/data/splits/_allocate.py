"""Plumbing of the protocols: tracks that stay together, how many go where, and dealing them out.

All randomness comes from hashes of the seed and the track ids, so that a split is the same on every machine, with
every version of every library and in any order of the rows.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from musicgenre._text import how_many
from musicgenre.data.manifest import Track
from musicgenre.data.sets.gtzan import known_duplicate
from musicgenre.errors import DataError, UsageError

_ATTEMPTS = 200  # deals, of which the one nearest to the targets is taken
_SHOWN_LABELS = 5

Targets = Mapping[str, Mapping[str, int]]  # part -> label -> number of tracks


@dataclass(frozen=True)
class Unit:
    """Tracks that go to one part together.

    Parameters
    ----------
    key : str
        The smallest of their ids.
    track_ids : tuple of str
        The tracks.
    counts : Mapping of str to int
        How many of them have each label.
    """

    key: str
    track_ids: tuple[str, ...]
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Sizes:
    """How large the parts shall be: a share below 1, or a number of tracks, or a number for every label.

    A share is at least one track of every label.

    Parameters
    ----------
    test, validation : float
        Share (below 1) or number of tracks.
    train : float or None
        The same; None takes all that is left.
    test_per_class, validation_per_class : int or None
        Tracks of each label; these go before `test` and `validation`.
    stratify_test : bool
        Whether the test part has the labels in proportion, or is drawn at random from all tracks.
    """

    test: float = 0.2
    validation: float = 0.1
    train: float | None = None
    test_per_class: int | None = None
    validation_per_class: int | None = None
    stratify_test: bool = True

    def targets(self, tracks: Sequence[Track], seed: int) -> dict[str, dict[str, int]]:
        """Count the tracks of every part and label; what is in no part goes to the part `""`."""
        counts = dict(sorted(Counter(track.label for track in tracks).items()))

        # Of every label the parts that come later must find a track each.
        validates = bool(self.validation_per_class or (self.validation and self.validation_per_class is None))
        most = {label: n - 1 - validates for label, n in counts.items()}
        test = _part("test", self.test, self.test_per_class, counts, most, seed)
        if not self.stratify_test and self.test_per_class is None:
            order = sorted(tracks, key=lambda track: (draw(seed, "random test", track.track_id), track.track_id))
            drawn = Counter(track.label for track in order[: sum(test.values())])
            test = {label: drawn[label] for label in counts}

        most = {label: n - test[label] - 1 for label, n in counts.items()}
        validation = _part("validation", self.validation, self.validation_per_class, counts, most, seed)

        rest = {label: n - test[label] - validation[label] for label, n in counts.items()}
        if small := [label for label, left in rest.items() if left < 1]:
            named = [f"{x} (has {counts[x]}, test {test[x]}, validation {validation[x]})" for x in small]
            raise DataError(
                f"the sizes leave no training track of {', '.join(named[:_SHOWN_LABELS])}",
                valid="A track of every label in every part",
                next_step="Add tracks, give smaller parts (--validation-size 0 for none), or leave the label out",
            )

        train = rest
        if self.train is not None:
            n_train = count_of("train", self.train, len(tracks))
            if n_train > sum(rest.values()):
                taken = sum(test.values()) + sum(validation.values())
                raise DataError(
                    f"{n_train} training tracks beside {taken} in the other parts are more than {len(tracks)} tracks",
                    valid=f"At most {len(tracks) - taken}",
                )
            train = _shares("train", n_train, rest, rest, seed)

        unused = {label: rest[label] - train[label] for label in counts}
        return {"train": train, "validation": validation, "test": test, "": unused}


def draw(*parts: object) -> float:
    """Return a number in [0, 1) that depends on the arguments alone."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode("utf-8", "surrogatepass"), digest_size=7).digest()
    return (int.from_bytes(digest, "big") >> 3) / (1 << 53)


def count_of(name: str, size: float, n_tracks: int) -> int:
    """Turn a share below 1, or a number of tracks, into a number of tracks."""
    if not 0 <= size < math.inf or (size >= 1 and size != int(size)):
        raise UsageError(f"--{name}-size {size:g} is no size", valid="A share below 1, or a number of tracks")

    return round(size * n_tracks) if size < 1 else int(size)


def make_units(tracks: Iterable[Track], *, by_group: bool = False) -> list[Unit]:
    """Join tracks with the same content (and, on demand, the same group) into units, in order of their keys."""
    tracks = list(tracks)
    leader = {track.track_id: track.track_id for track in tracks}

    def find(track_id: str) -> str:
        while leader[track_id] != track_id:
            leader[track_id] = leader[leader[track_id]]
            track_id = leader[track_id]
        return track_id

    # Two tracks that share a mark belong together, and so do all that are tied to either of them.
    first: dict[tuple[str, str], str] = {}
    for track in tracks:
        parent = track.columns.get("parent", "") or track.track_id
        marks = [
            ("md5", track.columns.get("md5", "")),
            ("parent", parent),
            ("known", known_duplicate(parent, track.label)),
            ("group", track.group if by_group else ""),
        ]
        for kind, value in marks:
            if value:
                one, other = sorted((find(track.track_id), find(first.setdefault((kind, value), track.track_id))))
                leader[other] = one

    members: dict[str, list[Track]] = {}
    for track in tracks:
        members.setdefault(find(track.track_id), []).append(track)

    units = []
    for _, joined in sorted(members.items()):
        ids = tuple(sorted(track.track_id for track in joined))
        units.append(Unit(ids[0], ids, Counter(track.label for track in joined)))
    return units


def apportion(total: int, counts: Mapping[str, int], most: Mapping[str, int], seed: int, salt: str) -> dict[str, int]:
    """Share `total` tracks among labels in proportion to `counts`: at least one each, at most `most`.

    The label furthest below its exact share gets the next track. The sum falls short where `most` forbids more.
    """
    # Equal claims are decided by the seed, never by the alphabet.
    whole = sum(counts.values())
    chance = {label: draw(seed, salt, label) for label in counts}
    shares = dict.fromkeys(counts, 1)
    while sum(shares.values()) < total:
        open_labels = [label for label in counts if shares[label] < most[label]]
        if not open_labels:
            break
        shares[max(open_labels, key=lambda name: (total * counts[name] / whole - shares[name], chance[name]))] += 1

    return shares


def allocate(units: Sequence[Unit], targets: Targets, seed: int) -> dict[str, str]:
    """Deal units to parts so that every label comes as near to its targets as the units allow.

    Returns
    -------
    dict of str to str
        The part of every track id.
    """
    # Whole groups seldom fit exactly: of many deals the best is taken, and the first perfect one ends the search.
    best: dict[str, str] = {}
    best_deviation = -1
    for attempt in range(_ATTEMPTS):
        chosen, deviation = _deal(units, targets, partial(draw, seed, attempt))
        if best_deviation < 0 or deviation < best_deviation:
            best, best_deviation = chosen, deviation
        if best_deviation == 0:
            break

    return {track_id: best[unit.key] for unit in units for track_id in unit.track_ids}


def _deal(units: Sequence[Unit], targets: Targets, chance: Callable[[str], float]) -> tuple[dict[str, str], int]:
    """Deal once, large units first; a part is drawn in proportion to the room that is left in it."""
    room = {part: dict(labels) for part, labels in targets.items()}

    def overshoot(part: str, counts: Mapping[str, int]) -> tuple[int, int]:
        over = sum(max(0, n - max(0, room[part].get(label, 0))) for label, n in counts.items())
        return over, -sum(room[part].get(label, 0) for label in counts)

    chosen: dict[str, str] = {}
    for unit in sorted(units, key=lambda unit: (-len(unit.track_ids), chance(unit.key))):
        fitting = [part for part in room if all(room[part].get(label, 0) >= n for label, n in unit.counts.items())]
        if fitting:
            weights = [sum(room[part][label] for label in unit.counts) for part in fitting]
            mark = chance(f"{unit.key}\0part") * sum(weights)
            part = fitting[-1]
            for name, weight in zip(fitting, weights, strict=True):
                mark -= weight
                if mark < 0:
                    part = name
                    break
        else:  # it fits nowhere: where it does least harm
            part = min(room, key=lambda part: overshoot(part, unit.counts))

        chosen[unit.key] = part
        for label, n in unit.counts.items():
            room[part][label] = room[part].get(label, 0) - n

    return chosen, sum(abs(left) for labels in room.values() for left in labels.values())


def _part(
    name: str, size: float, per_class: int | None, counts: Mapping[str, int], most: Mapping[str, int], seed: int
) -> dict[str, int]:
    """Tracks of every label in the part `name`."""
    if per_class is not None:
        if per_class < 0:
            raise UsageError(f"--{name}-per-class {per_class} is negative", valid="A number of tracks")
        return dict.fromkeys(counts, per_class)

    total = count_of(name, size, sum(counts.values()))
    if 0 < size < 1:
        total = max(total, len(counts))  # a share of a small set still holds every label
    return _shares(name, total, counts, most, seed) if total else dict.fromkeys(counts, 0)


def _shares(name: str, total: int, counts: Mapping[str, int], most: Mapping[str, int], seed: int) -> dict[str, int]:
    """Share the tracks of a part among the labels, or say why it cannot have so many or so few."""
    if total < len(counts):
        raise DataError(
            f"a {name} part of {how_many(total, 'track')} cannot hold all {len(counts)} labels",
            valid=f"{len(counts)} tracks at least",
            next_step=f"Give a larger --{name}-size",
        )

    shares = apportion(total, counts, most, seed, name)
    if sum(shares.values()) < total and all(n > 0 for n in most.values()):
        raise DataError(
            f"a {name} part of {how_many(total, 'track')} leaves no track of some label for the other parts",
            valid=f"At most {sum(most.values())} of {sum(counts.values())} tracks",
            next_step=f"Give a smaller --{name}-size",
        )
    return shares
