"""How loud a sound is, and the one gain that brings a track to the level that a model is used to.

A network that takes logarithms hears more in a loud track than in the same track turned down. A model that says at
which level it was fitted has every track brought there, by one gain, before the track is cut into segments.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import inf, isfinite, log10
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from musicgenre.audio.sound import Float32
from musicgenre.errors import BundleError, UsageError

Method = Literal["rms"]
"""How loudness is measured. `rms`: the root of the mean square of the mono mix, 1 being 0 dBFS; a sine of full scale
has -3 dBFS."""

QUIETEST_DB = -60.0
"""RMS below which a track is too quiet to answer, in dBFS: 16 bits leave little more than their own noise there."""

MOST_GAIN_DB = 45.0
"""Most that a track is turned up unless a model says otherwise: the usual levels need less of every track above
`QUIETEST_DB`, and noise stays noise."""

_LARGEST_GAIN_DB = 120.0  # that of a model; more would only turn up rounding

LevelChoice: TypeAlias = "Level | Literal['model', 'off']"
"""Which level tracks are brought to: a given one, that of the model, or none."""


@dataclass(frozen=True, slots=True)
class Level:
    """The level at which a model hears every track.

    Parameters
    ----------
    target_db : float
        RMS that a track is brought to, in dBFS.
    most_gain_db : float
        Most that a track is turned up; there is no limit to turning down, which adds no noise.
    method : {"rms"}
        How its loudness is measured.

    Raises
    ------
    BundleError
        When one of them says what no model can mean.
    """

    target_db: float
    most_gain_db: float = MOST_GAIN_DB
    method: Method = "rms"

    def __post_init__(self) -> None:
        """Check the values: they may come from a file."""
        numbers = (self.target_db, self.most_gain_db)
        are_numbers = all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers)
        methods = get_args(Method)
        if (
            not are_numbers
            or not QUIETEST_DB <= self.target_db <= 0
            or not 0 <= self.most_gain_db <= _LARGEST_GAIN_DB
            or self.method not in methods
        ):
            raise BundleError(
                f"the level {self.as_values()} is none that a track can be brought to",
                valid=f"target_db from {QUIETEST_DB:g} to 0, most_gain_db from 0 to {_LARGEST_GAIN_DB:g}, "
                f"method {', '.join(methods)}",
                next_step="Get, teach or export the model anew",
            )

    def gain(self, pieces: Iterable[Float32]) -> Gain:
        """Find the gain for a track from all pieces of it that are heard, each of shape (n_samples,)."""
        measured_db = level_db(pieces)
        gain_db = min(self.target_db - measured_db, self.most_gain_db)
        return Gain(10 ** (gain_db / 20), measured_db)

    def as_values(self) -> dict[str, Any]:
        """Give the level as plain values, as heads and cards hold it."""
        return asdict(self)

    @classmethod
    def from_values(cls, values: object, where: str) -> Level:
        """Read a level from a head or card.

        Parameters
        ----------
        values : object
            What stands under `level`: a mapping with the names of the parameters.
        where : str
            The file, for messages.

        Raises
        ------
        BundleError
            When it is no level.
        """
        try:
            return cls(**values)  # type: ignore[arg-type]  # whatever stands there, which is refused below
        except TypeError as error:
            raise BundleError(
                f"{where} has a damaged level ({error})",
                valid="target_db, most_gain_db and method",
                next_step="Get, teach or export the model anew",
            ) from error


@dataclass(frozen=True, slots=True)
class Gain:
    """What one track is multiplied by.

    Parameters
    ----------
    factor : float
        The gain; 1 leaves the track as it is.
    measured_db : float
        RMS of what is heard of it, in dBFS; -inf for digital silence.
    """

    factor: float
    measured_db: float

    @property
    def is_too_quiet(self) -> bool:
        """Whether the track is too quiet to answer."""
        return self.measured_db < QUIETEST_DB

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know."""
        if not self.is_too_quiet:
            return ()
        measured = f"{self.measured_db:.1f} dBFS" if isfinite(self.measured_db) else "silence"
        return (f"too quiet to answer: {measured} in what was heard, and {QUIETEST_DB:g} dBFS are needed",)

    def apply(self, waveform: Float32) -> Float32:
        """Multiply a waveform; where there is nothing to change it comes back itself."""
        if self.factor == 1:
            return waveform
        with np.errstate(all="ignore"):  # samples that are no numbers are refused where the answer is none
            return waveform * np.float32(self.factor)


AS_IT_IS = Gain(1.0, 0.0)
"""The gain where a model has no level."""


def level_db(pieces: Iterable[Float32]) -> float:
    """Measure the RMS of pieces of sound together.

    Parameters
    ----------
    pieces : iterable of ndarray, each of shape (n_samples,)
        Mono sound, full scale is 1; may be a stream, which is used up.

    Returns
    -------
    float
        RMS in dBFS; -inf for digital silence, and where there are no samples.
    """
    energy, n_samples = 0.0, 0
    for piece in pieces:
        energy += float(np.einsum("i,i->", piece, piece, dtype=np.float64))  # no copy in float64 stands in memory
        n_samples += len(piece)
    return 10 * log10(energy / n_samples) if energy > 0 else -inf


def parse_level(value: str | float | None) -> LevelChoice:
    """Read `off`, None (as the model says) or an RMS in dBFS.

    Raises
    ------
    UsageError
        When the value is none of them.
    """
    if value is None:
        return "model"
    if value == "off":
        return "off"

    try:
        target_db = float(value)
    except (TypeError, ValueError, OverflowError):
        target_db = inf  # which is above 0
    if not QUIETEST_DB <= target_db <= 0:
        raise UsageError(
            f"level {value!r} cannot be used",
            valid=f"Give 'off' or an RMS in dBFS from {QUIETEST_DB:g} to 0, such as -17",
        )
    return Level(target_db)


def choose_level(choice: LevelChoice, own: Level | None) -> Level | None:
    """Tell the level to bring tracks to, if any, from what was asked for and what the model itself says."""
    if isinstance(choice, Level):
        return choice
    return own if choice == "model" else None
