"""Plumbing of the protocols: from sizes as a person states them to counts of tracks by part and label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from musicgenre.data.manifest import Track
from musicgenre.data.splits._allocate import apportion, draw
from musicgenre.errors import DataError, UsageError


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
        Tracks of each label; these go before ``test`` and ``validation``.
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
        """Count the tracks of every part and label; what is in no part goes to the part ``""``."""
        counts = dict(sorted(Counter(track.label for track in tracks).items()))
        later = 2 if self.validation_per_class or (self.validation and self.validation_per_class is None) else 1
        most = {label: n - later for label, n in counts.items()}
        test = self._part("test", self.test, self.test_per_class, counts, most, seed)
        if not self.stratify_test and self.test_per_class is None:
            test = _at_random(tracks, sum(test.values()), seed)
        most = {label: n - test[label] - 1 for label, n in counts.items()}
        validation = self._part("validation", self.validation, self.validation_per_class, counts, most, seed)
        rest = {label: n - test[label] - validation[label] for label, n in counts.items()}
        _check_rest(rest, counts, test, validation)
        train = rest
        if self.train is not None:
            n_train = count_of("train", self.train, len(tracks))
            if n_train > sum(rest.values()):
                taken = sum(test.values()) + sum(validation.values())
                raise DataError(
                    f"{n_train} training tracks beside {taken} in the other parts are more than {len(tracks)} tracks",
                    valid=f"At most {len(tracks) - taken}",
                )
            train = self._shares("train", n_train, rest, rest, seed)
        unused = {label: rest[label] - train[label] for label in counts}
        return {"train": train, "validation": validation, "test": test, "": unused}

    def _part(
        self,
        name: str,
        size: float,
        per_class: int | None,
        counts: Mapping[str, int],
        most: Mapping[str, int],
        seed: int,
    ) -> dict[str, int]:
        if per_class is not None:
            if per_class < 0:
                raise UsageError(f"--{name}-per-class {per_class} is negative", valid="A number of tracks")
            return dict.fromkeys(counts, per_class)
        total = count_of(name, size, sum(counts.values()))
        if 0 < size < 1:
            total = max(total, len(counts))  # a share of a small set still holds every label
        return self._shares(name, total, counts, most, seed) if total else dict.fromkeys(counts, 0)

    @staticmethod
    def _shares(
        name: str, total: int, counts: Mapping[str, int], most: Mapping[str, int], seed: int
    ) -> dict[str, int]:
        if total < len(counts):
            raise DataError(
                f"a {name} part of {total} tracks cannot hold all {len(counts)} labels",
                valid=f"{len(counts)} tracks at least",
                next_step=f"Give a larger --{name}-size",
            )
        shares = apportion(total, counts, most, seed, name)
        if sum(shares.values()) < total and all(n > 0 for n in most.values()):
            raise DataError(
                f"a {name} part of {total} tracks leaves no track of some label for the other parts",
                valid=f"At most {sum(most.values())} of {sum(counts.values())} tracks",
                next_step=f"Give a smaller --{name}-size",
            )
        return shares


def count_of(name: str, size: float, n_tracks: int) -> int:
    """Turn a share below 1, or a number of tracks, into a number of tracks."""
    if size < 0 or (size >= 1 and size != int(size)):
        raise UsageError(f"--{name}-size {size:g} is no size", valid="A share below 1, or a number of tracks")
    return round(size * n_tracks) if size < 1 else int(size)


def _at_random(tracks: Sequence[Track], total: int, seed: int) -> dict[str, int]:
    """Draw ``total`` tracks from all and count their labels."""
    order = sorted(tracks, key=lambda track: (draw(seed, "random test", track.track_id), track.track_id))
    return {label: sum(track.label == label for track in order[:total]) for label in {t.label for t in tracks}}


def _check_rest(
    rest: Mapping[str, int], counts: Mapping[str, int], test: Mapping[str, int], validation: Mapping[str, int]
) -> None:
    small = [label for label, left in rest.items() if left < 1]
    if small:
        named = ", ".join(
            f"{label} (has {counts[label]}, test {test[label]}, validation {validation[label]})" for label in small[:5]
        )
        raise DataError(
            f"the sizes leave no training track of {named}",
            valid="A track of every label in every part",
            next_step="Add tracks, give smaller parts (--validation-size 0 for none), or leave the label out",
        )
