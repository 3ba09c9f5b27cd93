"""Feature columns that the manifest itself holds, as a representation: a table prepared elsewhere needs no audio.

The 57 columns of `musicgenre.features.representations.table` by default. Of those, and of the rhythm columns, a model
trained on the columns can hear sound too: they are computed from the waveform then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from musicgenre.errors import DataError, UsageError
from musicgenre.features.base import Float32, Representation
from musicgenre.features.classical.rhythm import RHYTHM_COLUMNS
from musicgenre.features.registry import register
from musicgenre.features.representations import table

_LARGEST = float(np.finfo(np.float32).max)
_SHOWN = 5


@register("columns")
class Columns(Representation):
    """One row of numbers a track, shape (n_columns,), read from the manifest's columns.

    Parameters
    ----------
    names : sequence of str or str, optional
        Names of the columns, or one text that separates them by commas; the 57 of the feature table by default.

    Attributes
    ----------
    columns : tuple of str
        The names, in the order of the values.
    """

    name = "columns"
    reads = "columns"
    sample_rate_hz = table.Table.sample_rate_hz
    row_axis = 0
    extra = "features"  # where sound is heard in place of a manifest

    def __init__(self, *, names: Sequence[str] | str | None = None) -> None:
        if isinstance(names, str):
            names = names.split(",")
        self.columns = tuple(name.strip() for name in names) if names else table.COLUMNS
        if len(set(self.columns)) < len(self.columns) or not all(self.columns):
            raise UsageError(f"names={names!r} names a column twice, or an empty one", valid="Each column once")

    def shape(self) -> tuple[int, ...]:
        """(n_columns,)."""
        return (len(self.columns),)

    def compute_columns(self, columns: Mapping[str, str]) -> Float32:
        """Read the values of one track, shape (n_columns,).

        Raises
        ------
        DataError
            If a column is absent or holds no finite number.
        """
        if missing := missing_columns(self.columns, columns):
            more = " ..." if len(missing) > _SHOWN else ""
            raise DataError(
                f"the manifest has no column {', '.join(missing[:_SHOWN])}{more}",
                valid=f"Its further columns: {', '.join(columns) or 'none'}",
                next_step="The representations 'table' and 'musicnn' compute theirs from the audio",
            )

        values = []
        for name in self.columns:
            text = columns[name]
            try:
                value = float("" if "_" in text else text)  # to Python 1_0 is ten
            except ValueError as error:
                raise DataError(f"the column {name} holds {text!r}", valid="A number") from error
            if not abs(value) <= _LARGEST:  # in this order, for NaN compares as false
                raise DataError(f"the column {name} holds {text!r}", valid="A finite number of single precision")
            values.append(value)
        return np.array(values, np.float32)

    def compute(self, waveform: Float32) -> Float32:
        """Compute the same columns from sound, shape (n_samples,) at `sample_rate_hz`.

        Raises
        ------
        UsageError
            If a column is none of those we can compute.
        """
        rhythm = not set(self.columns).isdisjoint(RHYTHM_COLUMNS)  # these take longest
        source = table.Table(rhythm=rhythm)
        if missing := missing_columns(self.columns, source.columns):
            raise UsageError(
                f"the column {missing[0]!r} cannot be computed from sound",
                valid="The columns of the feature table can",
                next_step="Train the recipe on sound files: what is computed from them can be computed here too",
            )

        values = source.compute(waveform)
        return values[[source.columns.index(name) for name in self.columns]]

    def settings(self) -> dict[str, Any]:
        """Return the names."""
        return super().settings() | {"names": list(self.columns)}


def missing_columns(names: Iterable[str], available: Iterable[str]) -> list[str]:
    """Names that are not available."""
    known = set(available)
    return [name for name in names if name not in known]
