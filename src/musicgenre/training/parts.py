"""Which rows of a store train, which choose the checkpoint and which test."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from musicgenre.data.manifest import Manifest
from musicgenre.data.rows import Normalisation
from musicgenre.data.splits import segment_leaky_parts
from musicgenre.data.store import PartView, Store
from musicgenre.data.targets import Targets
from musicgenre.errors import DataError
from musicgenre.training.batches import one_a_track
from musicgenre.training.tracks import EVERY_PART, SPLIT_AGAIN

LEAKY_WARNING = (
    "segment-leaky: segments of one track train and test, and the test part chooses the checkpoint. "
    "This only reproduces a published claim; it says nothing about new tracks"
)

_LEAKY_TEST_SHARE = 0.3


@dataclass(frozen=True)
class Parts:
    """Rows of one training.

    Parameters
    ----------
    train, validation, test : PartView
        `validation` chooses the checkpoint; nothing else may.
    normalisation : Normalisation
        Of the training part alone.
    """

    train: PartView
    validation: PartView
    test: PartView
    normalisation: Normalisation

    @property
    def n_classes(self) -> int:
        """Number of labels."""
        return len(self.train.label_names)


def parts_of(
    store: Store,
    manifest: Manifest,
    targets: Targets | None = None,
    *,
    one_example_seed: int | None = None,
    has_test: bool = True,
) -> Parts:
    """Take the parts that the manifest's column split names; augmented rows train only.

    Parameters
    ----------
    store : Store
        The features.
    manifest : Manifest
        The split.
    targets : Targets, optional
        Those of tagging, see `musicgenre.data.targets.tag_targets`.
    one_example_seed : int, optional
        A track of the training part keeps one segment, drawn from this seed and its name; mean and deviation are
        measured over what is kept.
    has_test : bool
        Whether there must be a test part; without one, `test` has no rows.

    Raises
    ------
    DataError
        If a part is empty, or the training part lacks a label.
    """
    found: dict[str, PartView] = {}
    for name in ("train", "validation", "test"):
        tracks = manifest.part(name).tracks
        part = store.of_tracks({track.track_id for track in tracks if name == "train" or not track.augmented})
        if targets is not None:
            part = part.with_tags(targets)
        found[name] = part

    if one_example_seed is not None:
        found["train"] = one_a_track(found["train"], one_example_seed)
    return _measure_parts(store, found, has_test=has_test)


def leaking_parts(store: Store, seed: int, test_size: float = _LEAKY_TEST_SHARE) -> Parts:
    """Split the segments at random, whatever track they come from; the test part validates too."""
    warnings.warn(LEAKY_WARNING, stacklevel=2)
    everything = store.everything
    rows = np.flatnonzero(~everything.augmented)

    # by name and place, so that the draw does not depend on the order in which the store was written
    rows = rows[np.lexsort((everything.starts_s[rows], everything.track_ids[rows]))]
    testing = np.array(segment_leaky_parts(len(rows), seed, test_size=test_size)) == "test"
    test = everything.take(rows[testing])
    return _measure_parts(store, {"train": everything.take(rows[~testing]), "validation": test, "test": test})


def rows_with_label(part: PartView) -> NDArray[np.float64]:
    """Rows of a part that have each label (with soft targets the sum of their degrees), shape (n_labels,)."""
    if part.tags is None:
        return np.bincount(part.labels, minlength=len(part.label_names)).astype(np.float64)
    counts: NDArray[np.float64] = np.nansum(part.targets(), axis=0, dtype=np.float64)
    return counts


def missing_tags(part: PartView) -> tuple[str, ...]:
    """Tags of which a part has no example, or of which it has nothing else: no curve can be drawn for them."""
    n_present = rows_with_label(part)
    n_known = (~np.isnan(part.targets())).sum(axis=0)
    has_both = (n_present > 0) & (n_present < n_known)
    return tuple(tag for tag, both in zip(part.label_names, has_both, strict=True) if not both)


def _measure_parts(store: Store, views: dict[str, PartView], *, has_test: bool = True) -> Parts:
    """Refuse parts that cannot train, and measure mean and deviation of the training part."""
    for name, part in views.items():
        if not len(part) and (has_test or name != "test"):
            raise DataError(f"the {name} part has no rows", valid=EVERY_PART, next_step=SPLIT_AGAIN)

    # a label without an example would only ever be learnt as absent, and the scores would not say why
    train = views["train"]
    absent = [label for label, n in zip(train.label_names, rows_with_label(train), strict=True) if not n]
    if absent:
        kind = "label" if train.tags is None else "tag"
        raise DataError(
            f"no track of the training part has the {kind} {', '.join(absent)}",
            next_step="Split again, add tracks, or choose other labels with --set data.labels=[...]",
        )
    if len(train.label_names) < 2:
        raise DataError(f"all tracks have the label {train.label_names[0]}", valid="Two labels at least")

    return Parts(train, views["validation"], views["test"], store.normalisation_of(train))
