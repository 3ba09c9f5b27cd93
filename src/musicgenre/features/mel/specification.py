"""One object that describes a mel front end; every backend reads it.

The NumPy float64 reference (`musicgenre.features.mel.reference`), the compiled code that prepares features and the
ONNX graph inside a bundle all take the same `MelSpec` and must agree (`tests/test_frontend_contract.py`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from musicgenre.errors import UsageError

PadMode = Literal["constant", "reflect"]
MelScale = Literal["slaney", "htk"]
Scaling = Literal["power", "decibel", "log10_1p", "log_offset"]

_LARGEST = 1e30  # of a number: its square root, and ten times it, still fit into float32
_LARGEST_FFT = 2**20  # a minute at 16 kHz
_MOST_WEIGHTS = 2**26  # of the filters, before those that are zero are left out

# fields that came later: left out of `as_dict` at these values, so that settings stored before stay equal to ours
_LATER = {"frame": "n_fft", "mel_slopes": "hz", "window": "periodic"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MelSpec:
    """A mel spectrogram, and optionally its MFCCs, from mono sound. Names follow librosa.

    Parameters
    ----------
    sample_rate_hz : int
        Rate of the waveform the front end reads.
    n_fft, hop_length, win_length : int
        Lengths in samples. `win_length` defaults to `n_fft`; a shorter window is centred in the frame.
    window : {"periodic", "symmetric"}
        The Hann window: one period of the cosine, as in librosa, or one that ends as it begins, at zero, as in
        Essentia.
    n_mels : int
        Number of mel bands.
    fmin_hz, fmax_hz : float
        Edges of the lowest and highest band; `fmax_hz` defaults to half the rate.
    power : float
        Exponent of the magnitude: 1 amplitude, 2 power.
    center, pad_mode
        With `center`, `n_fft // 2` samples are padded on both sides: frame `t` is centred on sample
        `t * hop_length`.
    frame : {"n_fft", "window"}
        What a frame holds without `center`: `n_fft` samples, as in librosa, or only those under the window, so
        that frame `t` begins at sample `t * hop_length`, as in TensorFlow; zeros fill it up to `n_fft`.
    mel_scale, mel_norm
        Slaney's or HTK's mel formula; `slaney` normalises every filter to unit area, `None` leaves a peak of 1.
    mel_slopes : {"hz", "mel"}
        Whether the triangles' sides are straight over Hz, as in librosa, or over mels, as in HTK and TensorFlow.
    scaling : {"power", "decibel", "log10_1p", "log_offset"}
        `power`: as it is. `decibel`: `10 log10(max(amin, x))`, floored `top_db` below the maximum if given.
        `log10_1p`: `log10(1 + log_multiplier x)`. `log_offset`: `ln(x + log_offset)`.
    n_mfcc : int, optional
        When given, the first `n_mfcc` coefficients of the orthonormal DCT-II over the bands replace them.
    """

    sample_rate_hz: int
    n_fft: int
    hop_length: int
    n_mels: int
    win_length: int | None = None
    window: Literal["periodic", "symmetric"] = "periodic"
    fmin_hz: float = 0.0
    fmax_hz: float | None = None
    power: float = 2.0
    center: bool = True
    pad_mode: PadMode = "constant"
    frame: Literal["n_fft", "window"] = "n_fft"
    mel_scale: MelScale = "slaney"
    mel_norm: Literal["slaney"] | None = "slaney"
    mel_slopes: Literal["hz", "mel"] = "hz"
    scaling: Scaling = "decibel"
    amin: float = 1e-10
    top_db: float | None = None
    log_multiplier: float = 10_000.0
    log_offset: float = 0.01
    n_mfcc: int | None = None

    def __post_init__(self) -> None:
        """Check every value's kind, and that the numbers fit together."""
        for name, hint in _HINTS.items():
            if not _is_of(getattr(self, name), hint):
                raise UsageError(f"{name}={getattr(self, name)!r} cannot be used", valid=_valid_values(hint))

        for name in ("power", "amin", "log_multiplier", "log_offset", "top_db"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"{name}={value} is not positive", valid=f"{name} is above 0")
        for name in ("sample_rate_hz", "n_fft", "hop_length", "n_mels"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}={getattr(self, name)} is not positive", valid=f"{name} is 1 or more")

        if max(self.n_fft, self.hop_length) > _LARGEST_FFT or self.n_mels * self.n_fft > _MOST_WEIGHTS:
            raise UsageError(
                f"n_fft={self.n_fft}, hop_length={self.hop_length}, n_mels={self.n_mels} are too large",
                valid=f"n_fft and hop_length up to {_LARGEST_FFT:,}, and n_mels * n_fft up to {_MOST_WEIGHTS:,}",
            )
        if not 1 <= self.window_length <= self.n_fft:
            raise UsageError(f"win_length={self.win_length} is outside 1..n_fft={self.n_fft}")
        if not 0 <= self.fmin_hz < self.highest_hz <= self.sample_rate_hz / 2:
            raise UsageError(
                f"fmin_hz={self.fmin_hz}, fmax_hz={self.fmax_hz} do not fit a rate of {self.sample_rate_hz} Hz",
                valid="0 <= fmin_hz < fmax_hz <= half the rate",
            )
        if self.n_mfcc is not None and not 1 <= self.n_mfcc <= self.n_mels:
            raise UsageError(f"n_mfcc={self.n_mfcc} is outside 1..n_mels={self.n_mels}")

    @property
    def window_length(self) -> int:
        """Length of the window in samples."""
        if self.win_length is None:
            return self.n_fft
        return self.win_length

    @property
    def highest_hz(self) -> float:
        """Upper edge of the highest band in Hz."""
        if self.fmax_hz is None:
            return self.sample_rate_hz / 2
        return self.fmax_hz

    @property
    def n_rows(self) -> int:
        """Rows of the result: mel bands, or cepstral coefficients."""
        return self.n_mfcc or self.n_mels

    @property
    def padding(self) -> tuple[int, int]:
        """Samples put in front of the waveform and behind it."""
        if self.center:
            return self.n_fft // 2, self.n_fft // 2
        if self.frame == "n_fft":
            return 0, 0
        left = (self.n_fft - self.window_length) // 2  # a short window is centred: these samples it multiplies by 0
        return left, self.n_fft - self.window_length - left

    def n_frames(self, n_samples: int) -> int:
        """Number of frames that `n_samples` samples give."""
        return max(0, 1 + (n_samples + sum(self.padding) - self.n_fft) // self.hop_length)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON and for hashing."""
        return {name: value for name, value in asdict(self).items() if _LATER.get(name) != value}


_HINTS = get_type_hints(MelSpec)


def _is_of(value: object, hint: Any) -> bool:
    """Tell whether a value is of a field's type; a number is finite and no truth value."""
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if get_args(hint):
        return any(_is_of(value, kind) for kind in get_args(hint))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _valid_values(hint: Any) -> str:
    """Say what a field takes."""
    if get_origin(hint) is Literal:
        return ", ".join(get_args(hint))
    if get_args(hint):
        return " or ".join(_valid_values(kind) for kind in get_args(hint))
    names = {
        int: "a whole number",
        float: "a finite number",
        bool: "true or false",
        type(None): "none",
    }
    return names[hint]
