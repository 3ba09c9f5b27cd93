"""Look at a track and listen to it: waveform, log-mel and MFCC, before and after an augmentation."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgenre import audio
from musicgenre._files import replacing, write_bytes_atomic, writing_result
from musicgenre._outputs import refuse_overwriting, refuse_same_outputs
from musicgenre.augment.waveform import Chain, Drawn, apply
from musicgenre.errors import AudioError, UsageError, require
from musicgenre.features.mel.reference import hz_to_mel, melspectrogram
from musicgenre.features.mel.specification import MelSpec

Float32 = NDArray[np.float32]

_RATE_HZ = 22_050
_MEL = MelSpec(sample_rate_hz=_RATE_HZ, n_fft=2_048, hop_length=512, n_mels=128, top_db=80.0)
_MFCC = MelSpec(sample_rate_hz=_RATE_HZ, n_fft=2_048, hop_length=512, n_mels=128, top_db=80.0, n_mfcc=13)
_SOUND_FORMATS = {".wav": "WAV", ".flac": "FLAC"}
_N_COLUMNS = 1_500  # of the drawn waveform: more than the picture has pixels
_SHORTEST = 16
_TICKS_HZ = (250, 500, 1_000, 2_000, 4_000, 8_000)


@dataclass(frozen=True)
class _Look:
    """A waveform and what is drawn of it."""

    title: str
    waveform: Float32  # (n_samples,)
    mel_db: NDArray[np.float64]  # (n_mels, n_frames)
    mfcc: NDArray[np.float64]  # (n_mfcc, n_frames)

    @property
    def duration_s(self) -> float:
        return len(self.waveform) / _RATE_HZ


def show_track(
    path: Path,
    picture: Path,
    *,
    chain: Chain | None = None,
    seed: int = 0,
    sound: Path | None = None,
    duration_s: float = 30.0,
    overwrite: bool = False,
) -> Drawn | None:
    """Draw a track into a PNG file; with a chain, draw it changed beside it and write the changed sound.

    Parameters
    ----------
    path : Path
        The track.
    picture : Path
        The picture.
    chain : Chain, optional
        The augmentation; see `get_chain`.
    seed : int, optional
        What of the chain happens.
    sound : Path, optional
        Where the changed sound goes, mono at the track's own rate: `.wav` or `.flac`.
    duration_s : float, optional
        How much of the track is drawn and changed, from its beginning.
    overwrite : bool, optional
        Replace a picture and a sound that exist.

    Returns
    -------
    dict or None
        What was drawn from the chain, for `musicgenre.augment.waveform.apply`.

    Raises
    ------
    UsageError
        The picture or the sound exists, is the track, or cannot be written.
    AudioError
        The track cannot be heard, or is too short.
    MissingExtraError
        Without matplotlib.
    """
    if sound is not None and (chain is None or sound.suffix.lower() not in _SOUND_FORMATS):
        raise UsageError(
            f"the changed sound cannot be written to {sound}",
            valid=f"A name that ends in {' or '.join(_SOUND_FORMATS)}, together with an augmentation",
        )

    outputs = [("--output", picture)]
    if sound is not None:
        outputs.append(("--sound", sound))
    refuse_same_outputs(outputs)
    for option, output in outputs:
        refuse_overwriting(output, overwrite=overwrite, inputs=[path], option=option)

    require("drawing a track", "plot", "matplotlib")
    rate_hz, waveform = audio.naming(str(path), lambda: _beginning(path, duration_s))
    if len(waveform) < _SHORTEST:
        raise AudioError(f"{path} is too short to draw ({len(waveform)} samples)")

    looks = [_look("as it is", waveform, rate_hz)]
    drawn = None
    if chain is not None:
        drawn = chain.draw(seed)
        changed = apply(drawn, waveform, rate_hz)
        looks.append(_look(describe(drawn), changed, rate_hz))
        if sound is not None:
            _write_sound(sound, changed, rate_hz, overwrite=overwrite)

    _draw(looks, path.name, picture, overwrite=overwrite)
    return drawn


def _beginning(path: Path, duration_s: float) -> tuple[int, Float32]:
    """Hear the beginning of a track: its own rate in Hz, and samples (n_samples,)."""
    rate_hz = audio.probe(path).sample_rate_hz
    return rate_hz, audio.load(path, rate_hz, duration_s=duration_s).waveform


def describe(drawn: Drawn) -> str:
    """Say in a line what an augmentation did: `TimeStretch rate 0.93, Shift shift_amount -0.12`."""
    parts = []
    for step in drawn["steps"]:
        values = " ".join(f"{name} {value:.3g}" for name, value in step["parameters"].items())
        parts.append(f"{step['transform']} {values}".strip())
    return ", ".join(parts) or "nothing happened"


def _look(title: str, waveform: Float32, rate_hz: int) -> _Look:
    sound = audio.from_array(waveform, rate_hz, _RATE_HZ).waveform
    return _Look(title, sound, melspectrogram(sound, _MEL), melspectrogram(sound, _MFCC))


def _write_sound(path: Path, waveform: Float32, rate_hz: int, *, overwrite: bool) -> None:
    import soundfile

    encoded = io.BytesIO()
    soundfile.write(encoded, waveform, rate_hz, format=_SOUND_FORMATS[path.suffix.lower()], subtype="PCM_16")
    with writing_result(path, "Choose another --sound"):
        write_bytes_atomic(path, encoded.getvalue(), overwrite=overwrite)


def _draw(looks: Sequence[_Look], name: str, path: Path, *, overwrite: bool) -> None:
    """Draw one column a look, all rows on one scale, so that before and after can be compared by eye."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7 * len(looks), 8), layout="constrained")
    axes = figure.subplots(3, len(looks), squeeze=False, sharex=True, sharey="row")

    # The first coefficient is the loudness, many times the others: it is left out. So are the few largest values.
    top_db = max(float(look.mel_db.max()) for look in looks)
    largest = max(float(np.percentile(np.abs(look.mfcc[1:]), 95)) for look in looks) or 1.0

    for column, look in enumerate(looks):
        _draw_waveform(axes[0, column], look)
        mel = _draw_image(axes[1, column], look.mel_db, look.duration_s, 0, "magma", (top_db - 80.0, top_db))
        mfcc = _draw_image(axes[2, column], look.mfcc[1:], look.duration_s, 1, "RdBu_r", (-largest, largest))
        axes[2, column].set_xlabel("seconds")

    axes[0, 0].set(ylabel="waveform", xlim=(0, max(look.duration_s for look in looks)))
    axes[1, 0].set_ylabel("frequency in Hz (mel scale)")
    axes[1, 0].set_yticks(_rows_of(_TICKS_HZ), [f"{tick_hz:,}" for tick_hz in _TICKS_HZ])
    axes[2, 0].set_ylabel(f"MFCC 1 to {len(looks[0].mfcc) - 1}")
    figure.colorbar(mel, ax=axes[1, :], label="dB")
    figure.colorbar(mfcc, ax=axes[2, :], label="coefficient")
    name = name.encode("utf-8", "replace").decode()  # names of files may hold halves of characters
    figure.suptitle(f"{name}\nwaveform, log-mel spectrogram and MFCC at {_RATE_HZ:,} Hz, mono", wrap=True)

    with writing_result(path, "Choose another --output"), replacing(path, overwrite=overwrite) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def _rows_of(frequencies_hz: Sequence[int]) -> NDArray[np.float64]:
    """Rows of the log-mel spectrogram whose bands are centred at these frequencies, with fractions."""
    scale = _MEL.mel_scale
    low, high = hz_to_mel(np.array([_MEL.fmin_hz, _MEL.highest_hz]), scale)
    step = (high - low) / (_MEL.n_mels + 1)
    return np.asarray((hz_to_mel(np.array(frequencies_hz, dtype=float), scale) - low) / step - 1.0)


def _draw_waveform(axes: Any, look: _Look) -> None:
    """Draw the lowest and highest sample of every column: all peaks, few points."""
    width = max(1, len(look.waveform) // _N_COLUMNS)
    columns = look.waveform[: len(look.waveform) // width * width].reshape(-1, width)
    times_s = np.arange(len(columns)) * width / _RATE_HZ
    axes.fill_between(times_s, columns.min(axis=1), columns.max(axis=1), color="C0", linewidth=0.5)
    axes.set_title(look.title, fontsize=10, wrap=True)


def _draw_image(
    axes: Any, values: NDArray[np.float64], duration_s: float, first: int, colours: str, limits: tuple[float, float]
) -> Any:
    """Draw rows over time; row numbers begin at `first`."""
    return axes.imshow(
        values,
        origin="lower",
        aspect="auto",
        extent=(0, duration_s, first - 0.5, first + len(values) - 0.5),
        cmap=colours,
        interpolation="nearest",
        vmin=limits[0],
        vmax=limits[1],
    )
