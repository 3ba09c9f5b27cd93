"""Front ends that stay outside the graph: Python computes the features, the bundle's graph reads them.

Bundles on the 57-column table and the like are of this kind; they need the extra ``features`` where they are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgenre.errors import BundleError, UsageError
from musicgenre.features.registry import representation_from_settings

Float32 = NDArray[np.float32]


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
        When this version of musicgenre does not compute such features.
    """

    def __init__(self, settings: Mapping[str, Any], name: str) -> None:
        try:
            self._representation = representation_from_settings(settings)
        except (UsageError, KeyError) as error:
            raise BundleError(
                f"the bundle {name} reads features that this musicgenre does not compute ({error})",
                next_step="Update musicgenre, or export the run anew",
            ) from error

    def compute(self, rows: NDArray[np.floating]) -> Float32:
        """Compute the features of segments: (n, segment_samples) to (n, *shape)."""
        features = [self._representation.compute(np.asarray(row, dtype=np.float32)) for row in rows]
        return np.stack(features).astype(np.float32, copy=False)
