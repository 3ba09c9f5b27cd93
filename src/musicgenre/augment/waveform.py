"""Waveform augmentation by audiomentations, drawn once as plain values and replayed exactly from them.

A `Chain` says what may happen. `Chain.draw` decides, from a seed alone, what does happen, as values fit
for JSON; `apply` does it. The same values and the same waveform give the same samples.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from musicgenre._registry import Registry
from musicgenre.errors import DataError, UsageError, needing

Float32 = NDArray[np.float32]
Drawn: TypeAlias = dict[str, Any]

_GLOBAL_STATE = threading.Lock()

# The strengths of A3; the report of B2 gives none, so that the two chains differ in kind only.
_NOISE = {"min_amplitude": 0.001, "max_amplitude": 0.015}
_STRETCH = {"min_rate": 0.8, "max_rate": 1.25, "leave_length_unchanged": False}
_PITCH = {"min_semitones": -4.0, "max_semitones": 4.0}
_SHIFT = {"min_shift": -0.5, "max_shift": 0.5, "shift_unit": "fraction"}


@dataclass(frozen=True)
class Step:
    """One transform of audiomentations.

    Parameters
    ----------
    transform : str
        Name of its class.
    options : Mapping
        Its arguments, without `p`.
    probability : float
        How often it is applied.
    """

    transform: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    probability: float = 0.5


@dataclass(frozen=True)
class Chain:
    """Transforms one after another.

    Parameters
    ----------
    name : str
        Its registered name.
    summary : str
        One line.
    steps : tuple of Step
        In the order they are applied.
    told_rate_hz : int or None
        The sample rate that the transforms are told, whatever it is; `None`: the true one.
    """

    name: str
    summary: str
    steps: tuple[Step, ...]
    told_rate_hz: int | None = None

    def only(self, transforms: Sequence[str]) -> Chain:
        """Keep some transforms and apply them always, to study each alone; none given keeps the chain as it is."""
        if not transforms:
            return self

        known = [step.transform for step in self.steps]
        for name in transforms:
            if name not in known:
                raise UsageError(f"the chain {self.name} has no step {name!r}", valid=f"Steps: {', '.join(known)}")

        kept = tuple(replace(step, probability=1.0) for step in self.steps if step.transform in transforms)
        names = ",".join(step.transform for step in kept)
        return replace(self, name=f"{self.name}[{names}]", steps=kept)

    def draw(self, seed: int) -> Drawn:
        """Decide what happens to one waveform.

        Parameters
        ----------
        seed : int
            0 to 2**32 - 1. Same seed, same values.

        Returns
        -------
        dict
            JSON values for `apply`: `chain`, `seed`, `told_rate_hz` and the `steps` that are applied,
            each with its parameters and the seed of its own noise.
        """
        steps = []
        with _seeded(seed):
            for step in self.steps:
                transform = _transform(step.transform, step.options, step.probability)
                transform.randomize_parameters(np.zeros(1, np.float32), self.told_rate_hz or 1)
                parameters = dict(transform.parameters)

                # Drawn for every step, applied or not: what happens to one step never changes those after it.
                noise_seed = random.getrandbits(32)
                if parameters.pop("should_apply"):
                    about = {"transform": step.transform, "options": dict(step.options)}
                    steps.append({**about, "parameters": parameters, "seed": noise_seed})

        return {"chain": self.name, "seed": seed, "told_rate_hz": self.told_rate_hz, "steps": steps}


def apply(drawn: Drawn, waveform: Float32, sample_rate_hz: int) -> Float32:
    """Do what was drawn.

    Parameters
    ----------
    drawn : dict
        What `Chain.draw` returned, or its copy from JSON.
    waveform : ndarray of float32, shape (n_samples,)
        Left as it is.
    sample_rate_hz : int
        Its rate.

    Returns
    -------
    ndarray of float32, shape (m_samples,)
        Stretching in time changes the length. Scaled down where a sample would exceed full scale.
    """
    sound = np.array(waveform, dtype=np.float32)
    try:
        rate_hz = drawn["told_rate_hz"] or sample_rate_hz
        for step in drawn["steps"]:
            transform = _transform(step["transform"], step["options"], 1.0)
            transform.parameters = {"should_apply": True, **step["parameters"]}
            transform.freeze_parameters()  # else it draws anew when it is called

            # The noise itself is drawn while it is applied.
            with _seeded(step["seed"]):
                sound = transform(sound, rate_hz).astype(np.float32, copy=False)
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{drawn!r} is no record of an augmentation ({error!r})", valid="What draw() returned"
        ) from error

    # Noise and filters push loud music past full scale, where a file would clip it.
    peak = float(np.abs(sound).max(initial=0.0))
    if peak > 1.0:
        sound = sound / np.float32(peak)
    return sound


def load_transforms() -> Any:
    """Import audiomentations, which takes a while."""
    with needing("waveform augmentation", "train"):
        import audiomentations
    return audiomentations


def register_chain(chain: Chain) -> Chain:
    """Add a waveform chain under its own name (in lower case); a name that is taken is an error."""
    if chain.name != chain.name.lower():
        raise UsageError(
            f"the chain name {chain.name!r} is not in lower case", valid=f"A name such as {chain.name.lower()!r}"
        )
    return _CHAINS.add(chain.name, chain)


def list_chains() -> list[str]:
    """Names that `get_chain` knows, sorted."""
    return _CHAINS.names()


def get_chain(name: str) -> Chain:
    """Find a waveform chain; upper and lower case are the same.

    Raises
    ------
    UsageError
        If there is none of that name; the nearest one is named.
    """
    return _CHAINS.get(name.lower())


def _transform(transform: str, options: Mapping[str, Any], probability: float) -> Any:
    """Make the transform of audiomentations that has this name."""
    kind = getattr(load_transforms(), transform, None)
    if kind is None:
        raise DataError(f"audiomentations has no transform {transform!r}")
    return kind(**options, p=probability)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators that audiomentations draws from, and leave them as they were."""
    if not 0 <= seed < 2**32:
        raise UsageError(f"the seed {seed} is out of range", valid="0 to 4294967295")

    with _GLOBAL_STATE:  # the generators belong to the whole process: one thread draws at a time
        before, numpy_before = random.getstate(), np.random.get_state()  # noqa: NPY002 - it is what they use
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(before)
            np.random.set_state(numpy_before)  # noqa: NPY002


_CHAINS: Registry[Chain] = Registry(
    "augmentation chain", "augmentation chains", "musicgenre.augment", without=("online",)
)

A3 = register_chain(
    Chain(
        "a3",
        "noise, time stretch, pitch shift and shift, each every other time; told 16 kHz (A3)",
        (
            Step("AddGaussianNoise", _NOISE),
            Step("TimeStretch", _STRETCH),
            Step("PitchShift", _PITCH),
            Step("Shift", _SHIFT),
        ),
        told_rate_hz=16_000,
    )
)

B2 = register_chain(
    Chain(
        "b2",
        "white noise, time shift and time stretch, always all three, at random strength (B2)",
        (
            Step("AddGaussianNoise", _NOISE, 1.0),
            Step("Shift", _SHIFT, 1.0),
            Step("TimeStretch", _STRETCH, 1.0),
        ),
    )
)

NOISE = register_chain(Chain("noise", "white noise alone", (Step("AddGaussianNoise", _NOISE, 1.0),)))
TIME_STRETCH = register_chain(Chain("time-stretch", "time stretch alone", (Step("TimeStretch", _STRETCH, 1.0),)))
PITCH_SHIFT = register_chain(Chain("pitch-shift", "pitch shift alone", (Step("PitchShift", _PITCH, 1.0),)))
SHIFT = register_chain(Chain("shift", "shift in time alone", (Step("Shift", _SHIFT, 1.0),)))
