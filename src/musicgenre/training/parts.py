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

LEAKY = "segment-leaky"
LEAKY_WARNING = (
    "segment-leaky: segments of one track train and test, and the test part chooses the checkpoint. "
    "This only reproduces a published claim; it says nothing about new tracks"
)
_DEFAULT_LEAKY_SHARE = 0.3


@dataclass(frozen=True)
class Parts:
    """Rows of one training.

    Parameters
    ----------
    train, validation, test : PartView
        ``validation`` chooses the checkpoint; nothing else may.
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
    store: Store, manifest: Manifest, targets: Targets | None = None, *, one_example_seed: int | None = None
) -> Parts:
    """Take the parts that the manifest's column split names; augmented rows train only.

    Parameters
    ----------
    store : Store
        The features.
    manifest : Manifest
        The split.
    targets : Targets, optional
        Those of tagging, see :func:`musicgenre.data.targets.tag_targets`.
    one_example_seed : int, optional
        A track of the training part keeps one segment, drawn from this seed and its name; mean and deviation are
        measured over what is kept.
    """
    found: dict[str, PartView] = {}
    for name in ("train", "validation", "test"):
        tracks = manifest.part(name).tracks
        part = store.of_tracks({track.track_id for track in tracks if name == "train" or not track.augmented})
        found[name] = part if targets is None else part.with_tags(targets)
    if one_example_seed is not None:
        found["train"] = one_a_track(found["train"], one_example_seed)
    return _checked(store, found)


def leaking_parts(store: Store, seed: int, test_size: float = _DEFAULT_LEAKY_SHARE) -> Parts:
    """Split the segments at random, whatever track they come from; the test part validates too."""
    warnings.warn(LEAKY_WARNING, stacklevel=2)
    everything = store.everything
    rows = np.flatnonzero(~everything.augmented)
    rows = rows[np.lexsort((everything.starts_s[rows], everything.track_ids[rows]))]
    testing = np.array(segment_leaky_parts(len(rows), seed, test_size=test_size)) == "test"
    test = everything.take(rows[testing])
    return _checked(store, {"train": everything.take(rows[~testing]), "validation": test, "test": test})


def _checked(store: Store, parts: dict[str, PartView]) -> Parts:
    for name, part in parts.items():
        if not len(part):
            raise DataError(
                f"the {name} part has no rows",
                valid="Train, validation and test each hold one track at least",
                next_step="Split again (musicgenre data split, --validation-size, --test-size), or add tracks",
            )
    train = parts["train"]
    absent = [label for label, count in zip(train.label_names, present(train), strict=True) if not count]
    if absent:
        raise DataError(
            f"no track of the training part has the {'label' if train.tags is None else 'tag'} {', '.join(absent)}",
            next_step="Split again, add tracks, or choose other labels with --set data.labels=[...]",
        )
    if len(train.label_names) < 2:
        raise DataError(f"all tracks have the label {train.label_names[0]}", valid="Two labels at least")
    return Parts(train, parts["validation"], parts["test"], store.normalisation_of(train))


def present(part: PartView) -> NDArray[np.float64]:
    """Rows of a part that have each label (with soft targets the sum of their degrees), shape (n_labels,)."""
    if part.tags is None:
        return np.bincount(part.labels, minlength=len(part.label_names)).astype(np.float64)
    counts: NDArray[np.float64] = np.nansum(part.targets(), axis=0, dtype=np.float64)
    return counts


def missing_tags(part: PartView) -> tuple[str, ...]:
    """Tags of which a part has no example, or of which it has nothing else: no curve can be drawn for them."""
    targets = part.targets()
    known = (~np.isnan(targets)).sum(axis=0)
    counts = present(part)
    return tuple(tag for tag, count, of in zip(part.label_names, counts, known, strict=True) if not 0 < count < of)
