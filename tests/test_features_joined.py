"""Several representations in one vector."""

from __future__ import annotations

import numpy as np
import pytest

from musicgenre.errors import UsageError
from musicgenre.features.joined import Joined
from musicgenre.features.mfcc import Mfcc
from musicgenre.features.table import Table


def test_parts_follow_each_other(rng: np.random.Generator) -> None:
    joined = Joined(parts=[{"name": "mfcc"}, {"name": "table"}])
    sound = (rng.standard_normal(70_000) * 0.1).astype(np.float32)
    values = joined.compute(sound)
    assert joined.segment_s == 3.0
    assert values.shape == joined.shape() == (130 * 13 + 57,)
    assert np.array_equal(values[:1690].reshape(130, 13), Mfcc().compute(sound))
    assert np.array_equal(values[1690:], Table(segment_s=3.0).compute(sound))


def test_parts_must_fit() -> None:
    with pytest.raises(UsageError, match="One rate"):
        Joined(parts=[{"name": "mfcc"}, {"name": "melspectrogram", "preset": "a5"}])
    with pytest.raises(UsageError, match="segments of"):
        Joined(parts=[{"name": "mfcc"}, {"name": "melspectrogram", "preset": "b1"}])
    with pytest.raises(UsageError, match="parts is empty"):
        Joined(parts=[])
    with pytest.raises(UsageError, match="without a name"):
        Joined(parts=[{"preset": "a5"}])
