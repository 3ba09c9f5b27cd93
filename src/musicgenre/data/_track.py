"""One row of a manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PARTS = ("train", "validation", "test")
CORE_COLUMNS = ("path", "track_id", "label", "labels", "split", "fold", "group", "augmented", "source_id")


@dataclass(frozen=True)
class Track:
    """One row of a manifest.

    Parameters
    ----------
    track_id : str
        Unique name of the row.
    path : Path
        The file, absolute. Rows of a feature table point at the table.
    label : str
        The genre; empty in a manifest of tags.
    labels : tuple of str, optional
        All genres or tags; ``(label,)`` when there is one, empty for a track without any tag.
    split : str, optional
        ``train``, ``validation``, ``test`` or empty.
    fold : int, optional
        The fold that tests this track.
    group : str, optional
        What must not be torn apart (the artist); empty for a group of its own.
    augmented : bool, optional
        Whether offline augmentation made it.
    source_id : str, optional
        ``track_id`` of the original; the track's own when it is an original.
    columns : Mapping of str to str, optional
        All other columns.
    """

    track_id: str
    path: Path
    label: str
    labels: tuple[str, ...] = ()
    split: str = ""
    fold: int | None = None
    group: str = ""
    augmented: bool = False
    source_id: str = ""
    columns: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not self.labels and self.label:
            object.__setattr__(self, "labels", (self.label,))
        if not self.source_id:
            object.__setattr__(self, "source_id", self.track_id)

    def with_columns(self, **columns: str) -> Track:
        """Return a copy with these further columns set."""
        return dataclasses.replace(self, columns={**self.columns, **columns})
