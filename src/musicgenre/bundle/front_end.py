"""Front ends that stay outside the graph: Python computes the features, the bundle's graph reads them.

Bundles on the 57-column table and the like are of this kind; they need the extra ``features`` where they are used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from musicgenre.errors import BundleError, UsageError
from musicgenre.features._row_jobs import reads_of
from musicgenre.features.base import make_ready
from musicgenre.features.registry import representation_from_settings
from musicgenre.features.track_sound import TrackRepresentation, TrackSound

Float32 = NDArray[np.float32]
_OF_OTHER_KINDS = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, MemoryError)
"""What representations say of settings that are no settings: a number for a list, nothing for a name."""


class PythonFrontEnd:
    """Computes the representation that a bundle's card describes.

    Parameters
    ----------
    settings : mapping
        The card's ``front_end``: settings of the representation.
    name : str
        Name of the bundle, for messages.

    Raises
    ------
    BundleError
        When this version of musicgenre does not compute such features, or they need published weights that are not at
        hand and cannot be fetched.

    Attributes
    ----------
    hears_tracks : bool
        Whether some of the features describe the whole track: :meth:`compute_track` computes them.
    """

    def __init__(self, settings: Mapping[str, Any], name: str) -> None:
        try:
            made = self._representation = representation_from_settings(settings)
        except (UsageError, *_OF_OTHER_KINDS) as error:
            raise BundleError(
                f"the bundle {name} reads features that this musicgenre does not compute ({error})",
                next_step="Update musicgenre, or export the run anew",
            ) from error

        self.hears_tracks = reads_of(made) == "track"
        make_ready(made)

    def compute_track(self, track: TrackSound, starts_s: Sequence[float], segment_s: float | None) -> Float32:
        """Compute the features of the segments of a track that begin at ``starts_s``, (n, *shape)."""
        representation = cast("TrackRepresentation", self._representation)
        return np.stack(representation.compute_track(track, starts_s, segment_s)).astype(np.float32, copy=False)

    def compute(self, rows: NDArray[np.floating]) -> Float32:
        """Compute the features of segments: (n, segment_samples) to (n, *shape)."""
        features = [self._representation.compute(np.asarray(row, dtype=np.float32)) for row in rows]
        return np.stack(features).astype(np.float32, copy=False)
