"""Log-mel spectrograms, the picture of sound that most networks read.

Presets: `a5` (16 kHz, 30 s -> 128 x 301), `b1` (22,050 Hz, 4 s -> 128 x 173), `musicnn` (what the published
MusiCNN reads: 16 kHz, 3 s -> 96 x 188, one patch of 187 frames and one frame over), `vggish` (what the published
VGGish reads, D2: 16 kHz, 0.975 s -> 64 x 96; cut every 0.96 s, the segments are its examples). The reports leave the
window of A5 and the number of bands of B1 open; ours: 2,048 samples (128 ms, so that the hop of 100 ms skips nothing),
128 bands.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from musicgenre._text import unknown_name
from musicgenre.errors import UsageError, needing
from musicgenre.features.base import Float32, Representation, check_size, fit_length, segment_samples
from musicgenre.features.mel.specification import MelSpec
from musicgenre.features.published.musicnn.published import SPEC as MUSICNN_SPEC
from musicgenre.features.registry import register

# What the published VGGish reads, after its authors' mel_features.py.
VGGISH = MelSpec(
    sample_rate_hz=16_000,
    n_fft=512,
    win_length=400,
    hop_length=160,
    n_mels=64,
    fmin_hz=125.0,
    fmax_hz=7_500.0,
    power=1.0,
    center=False,
    frame="window",
    mel_scale="htk",
    mel_norm=None,
    mel_slopes="mel",
    scaling="log_offset",
    log_offset=0.01,
)

PRESETS: dict[str, tuple[MelSpec, float]] = {
    "a5": (MelSpec(sample_rate_hz=16_000, n_fft=2_048, hop_length=1_600, n_mels=128, top_db=80.0), 30.0),
    "b1": (MelSpec(sample_rate_hz=22_050, n_fft=1_024, hop_length=512, n_mels=128, top_db=80.0), 4.0),
    "musicnn": (MUSICNN_SPEC, 3.0),
    "vggish": (VGGISH, 0.975),
}


class MelFeatures(Representation):
    """What mel spectrograms and MFCCs share: a specification that starts from a preset, and a segment length.

    Parameters
    ----------
    presets : dict
        Specification and segment length in seconds, by name.
    preset : str
        Which of them.
    segment_s : float or None
        Another segment length.
    changes : dict
        Other values of fields of `MelSpec`.
    """

    extra = "features"
    graph_front_end = True

    def __init__(
        self,
        presets: dict[str, tuple[MelSpec, float]],
        preset: str,
        segment_s: float | None,
        changes: dict[str, Any],
    ) -> None:
        if preset not in presets:
            raise unknown_name("preset", str(preset), presets)
        valid = [field.name for field in fields(MelSpec)]
        for key in changes:
            if key not in valid:
                raise unknown_name("option of a mel spectrogram", key, ["preset", "segment_s", *valid])
        if segment_s is not None and segment_s <= 0:
            raise UsageError(f"segment_s={segment_s} is not positive")

        spec, length_s = presets[preset]
        if segment_s is not None:
            length_s = float(segment_s)

        self.spec = replace(spec, **changes)
        self.sample_rate_hz = self.spec.sample_rate_hz
        self.segment_s = length_s
        self.n_samples = segment_samples(self.sample_rate_hz, length_s)
        check_size("its mel spectrogram", self.spec.n_mels * self.spec.n_frames(self.n_samples))

    def settings(self) -> dict[str, Any]:
        """Return every field of the specification and the segment length."""
        return super().settings() | {"segment_s": self.segment_s, **self.spec.as_dict()}


@register("melspectrogram")
class MelSpectrogram(MelFeatures):
    """Mel spectrogram of one segment, shape (n_mels, n_frames).

    Parameters
    ----------
    preset : {"a5", "b1", "musicnn", "vggish"}
        Where the settings start from.
    segment_s : float, optional
        Segment length; the preset's own by default.
    **changes
        Any field of `musicgenre.features.mel.specification.MelSpec`.
    """

    name = "melspectrogram"
    row_axis = 0

    def __init__(self, *, preset: str = "a5", segment_s: float | None = None, **changes: Any) -> None:
        super().__init__(PRESETS, preset, segment_s, changes)
        if self.spec.n_mfcc is not None:
            raise UsageError(f"n_mfcc={self.spec.n_mfcc} makes MFCCs", next_step="Use the representation 'mfcc'")

    def shape(self) -> tuple[int, ...]:
        """(n_mels, n_frames)."""
        return (self.spec.n_rows, self.spec.n_frames(self.n_samples))

    def compute(self, waveform: Float32) -> Float32:
        """Compute the mel spectrogram of `waveform`, shape (n_samples,), cut or zero-padded to the segment."""
        return fast_melspectrogram(fit_length(waveform, self.n_samples), self.spec)


def fast_melspectrogram(waveform: Float32, spec: MelSpec) -> Float32:
    """Compute `spec` in float32, shape (spec.n_rows, n_frames); agrees with the float64 reference."""
    with needing("computing mel spectrograms", "features"):
        from musicgenre.features.mel import compiled

    return compiled.melspectrogram(waveform, spec)
