"""The waveform chains of the reports, and each of their transforms alone for the study of augmentations.

``leave_length_unchanged=False``: a slowed or hastened track keeps all its sound, and only its sound. Models of whole
tracks cut or pad it to their length, which gives what audiomentations' default gives; segments of silence at the end
of a hastened track, which that default would add, are never made.
"""

from __future__ import annotations

from musicgenre.augment.registry import register_chain
from musicgenre.augment.waveform import Chain, Step

_NOISE = {"min_amplitude": 0.001, "max_amplitude": 0.015}
_STRETCH = {"min_rate": 0.8, "max_rate": 1.25, "leave_length_unchanged": False}
_PITCH = {"min_semitones": -4.0, "max_semitones": 4.0}
_SHIFT = {"min_shift": -0.5, "max_shift": 0.5, "shift_unit": "fraction"}

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

# The report gives no numbers: the strengths are A3's, so that the two chains differ in kind only.
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
