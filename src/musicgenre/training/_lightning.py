"""Lightning for the files that train: the one place that imports it, without packages that it merely looks for.

Lightning brings torchmetrics, which loads `transformers` wherever that is installed, for metrics of text: a second and
more of every training, for nothing that is used here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lightning_utilities.core.imports import RequirementCache


@contextmanager
def _overlooking(package: str) -> Iterator[None]:
    """In the block, whatever asks by a `RequirementCache` whether a package is installed hears that it is not."""
    is_met = RequirementCache.__bool__

    def is_met_and_wanted(asked: RequirementCache) -> bool:
        return not (asked.requirement or "").startswith(package) and is_met(asked)

    RequirementCache.__bool__ = is_met_and_wanted  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        RequirementCache.__bool__ = is_met  # type: ignore[method-assign]


with _overlooking("transformers"):
    import lightning as L
    from lightning.pytorch.loggers import TensorBoardLogger

__all__ = ["L", "TensorBoardLogger"]
