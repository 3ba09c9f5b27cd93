"""Sound that the ten genres do not cover: free game music, speech, tones, noise and silence, in two halves.

The first half may choose how an answer is rejected, the second is for the report alone. Which answers are plausible
for a piece is said here by its title and by what is known of its game's music, in our own words; nobody listened to
all of it. What is not listed has no plausible answer among the ten.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
from numpy.typing import NDArray

Half = Literal["chooses", "reported"]
Float32 = NDArray[np.float32]

RATE_HZ = 16_000
DURATION_S = 30.0
SHORTEST_BYTES = 300_000  # of a piece of music; shorter files are jingles

# Debian package: its music inside the package, the half it is in, and plausible answers of all its pieces.
GAMES: dict[str, tuple[str, Half, tuple[str, ...]]] = {
    "hedgewars-data": ("usr/share/games/hedgewars/Data/Music", "chooses", ()),
    "extremetuxracer-data": ("usr/share/games/etr/music", "chooses", ()),
    "frozen-bubble-data": ("usr/share/games/frozen-bubble/snd", "chooses", ()),
    "wesnoth-1.16-music": ("usr/share/games/wesnoth/1.16/data/core/music", "reported", ("classical",)),  # orchestra
    "supertux-data": ("usr/share/games/supertux2/music", "reported", ()),  # trackers, electronic
    "warzone2100-music": ("usr/share/games/warzone2100/music", "reported", ()),  # ambient, industrial
    "lincity-ng-data": ("usr/share/games/lincity-ng/music/default", "reported", ()),
}

PLAUSIBLE: dict[str, tuple[str, ...]] = {
    "hedgewars-data/Beach": ("reggae",),
    "hedgewars-data/Castle": ("classical",),
    "hedgewars-data/Freeway": ("rock",),
    "hedgewars-data/Halloween": ("classical",),
    "hedgewars-data/Nature": ("classical",),
    "hedgewars-data/Olympics": ("classical",),
    "hedgewars-data/Rock": ("rock", "metal"),
    "hedgewars-data/hell": ("metal", "rock"),
    "hedgewars-data/main_theme": ("classical",),
    "hedgewars-data/olympics_sd": ("classical",),
    "hedgewars-data/snow": ("classical",),
    "supertux-data/battle_theme": ("metal", "rock", "classical"),
    "supertux-data/bossattack": ("metal", "rock"),
    "supertux-data/chipdisko": ("disco",),
    "supertux-data/christmas_theme": ("classical", "jazz", "pop"),
    "supertux-data/clavelian_march": ("classical",),
    "supertux-data/halloween_1": ("classical",),
    "lincity-ng-data/02 - Robert van Herk - City Blues": ("blues", "jazz"),
}

# The same for the wide vocabulary (docs/genres.md), families or genres: of a whole game, then of single pieces.
WIDE_GAMES: dict[str, tuple[str, ...]] = {
    "extremetuxracer-data": ("electronic",),
    "frozen-bubble-data": ("electronic",),
    "wesnoth-1.16-music": ("classical",),  # its files say "Romantic Classical" themselves
    "supertux-data": ("electronic",),
    "warzone2100-music": ("ambient", "electronic", "experimental"),
}
WIDE_PLAUSIBLE: dict[str, tuple[str, ...]] = {
    "hedgewars-data/Olympics": ("classical",),
    "hedgewars-data/pirate": ("folk", "classical"),
    "hedgewars-data/sdmusic": ("electronic", "classical"),  # "Hitman" by Kevin MacLeod
    "hedgewars-data/snow": ("classical", "ambient"),
    "hedgewars-data/underwater": ("ambient", "electronic"),
    "wesnoth-1.16-music/traveling_minstrels": ("classical", "folk"),
}

_TEXT = (
    "The train to the coast leaves from platform four at a quarter past nine. It stops at every village on the way,"
    " and those who want to see the lighthouse should get off at the last but one. Bring a warm coat, since the wind"
    " there does not rest, and something to eat, since the inn has been closed for years. The path along the cliff"
    " takes two hours; it is marked with white stones. On clear days one can see the islands, and on very clear ones"
    " the mountains behind them. Nobody has ever counted the steps, although many have begun to."
)
# Voice, words a minute, pitch (0 to 99).
_VOICES: dict[Half, tuple[tuple[str, int, int], ...]] = {
    "chooses": (
        *(("en-gb", 160, 50), ("en-us+f3", 170, 60), ("de", 150, 45), ("fr-fr+f2", 180, 55), ("es", 190, 40)),
        *(("ru", 160, 50), ("hi+f1", 150, 60), ("it+m3", 200, 35), ("pl", 130, 50), ("en-gb+whisper", 150, 50)),
        *(("sv+klatt", 160, 50), ("tr+f4", 170, 70), ("cmn", 150, 50), ("en-us+m7", 240, 20), ("pt+croak", 120, 30)),
        *(("en-us", 175, 50), ("en-gb+f1", 175, 50), ("de+m2", 175, 40), ("it", 175, 50), ("sv+f5", 150, 60)),
        *(("ca+m4", 190, 45), ("bg", 150, 50), ("fa+f3", 170, 60), ("sk+klatt2", 160, 50), ("eu", 140, 55)),
    ),
    "reported": (
        *(("en-gb-scotland", 165, 45), ("en-gb-x-rp+f5", 155, 65), ("nl", 175, 50), ("fi+m1", 140, 40)),
        *(("ja", 160, 55), ("ar", 150, 50), ("el+f2", 185, 60), ("hu+m5", 170, 30), ("vi", 160, 50)),
        *(("en-us+whisperf", 165, 50), ("da+klatt3", 150, 45), ("id+linda", 190, 70), ("ro", 120, 50)),
        *(("en-029+m8", 230, 25), ("cs+grandma", 140, 60)),
        *(("en-us+f4", 175, 60), ("es-419", 175, 50), ("uk", 165, 50), ("ko", 160, 55), ("nb+m6", 180, 35)),
        *(("ta", 150, 50), ("sw+f2", 170, 60), ("lt", 150, 45), ("de", 175, 50), ("fr-fr", 175, 50)),
    ),
}


@dataclass(frozen=True, slots=True, eq=False)
class BedSound:
    """One sound of the test beds.

    Attributes
    ----------
    name : str
    kind : str
        `music`, `speech`, `tones`, `noise` or `silence`.
    half : {"chooses", "reported"}
    plausible : tuple of str
        Genres of the ten that would be a fair answer.
    source : Path or ndarray of shape (n_samples,)
        Where it is, or its samples at `RATE_HZ`.
    wide : tuple of str
        Families and genres of the wide vocabulary that would be a fair answer; none where nothing is known of a piece.
    """

    name: str
    kind: str
    half: Half
    plausible: tuple[str, ...]
    source: Path | Float32
    wide: tuple[str, ...] = ()


def game_music(root: Path) -> Iterator[BedSound]:
    """The pieces of every package that is unpacked in `root/PACKAGE`, or installed where `root` is `/`."""
    for package, (place, half, plausible) in GAMES.items():
        folder = (root if root == Path("/") else root / package) / place
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".ogg", ".opus") and path.stat().st_size >= SHORTEST_BYTES:
                name = f"{package}/{path.stem}"
                fair = PLAUSIBLE.get(name, plausible)
                wide = WIDE_PLAUSIBLE.get(name, fair + WIDE_GAMES.get(package, ()))
                yield BedSound(name, "music", half, fair, path, tuple(dict.fromkeys(wide)))


def speech() -> Iterator[BedSound]:
    """The same text by voices of espeak-ng; nothing where it is not installed."""
    if shutil.which("espeak-ng") is None:
        return
    for half, voices in _VOICES.items():
        for voice, words_a_minute, pitch in voices:
            yield BedSound(f"speech {voice}", "speech", half, (), spoken(voice, words_a_minute, pitch))


def spoken(voice: str, words_a_minute: int, pitch: int) -> Float32:
    """Let espeak-ng speak, (n_samples,) at `RATE_HZ`."""
    import soxr

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        words = ["espeak-ng", "-v", voice, "-s", str(words_a_minute), "-p", str(pitch), "-w", str(path), _TEXT]
        subprocess.run(words, check=True, capture_output=True)
        samples, rate_hz = soundfile.read(path, dtype="float32")
    return np.asarray(soxr.resample(samples, rate_hz, RATE_HZ), dtype=np.float32)


def synthetic() -> Iterator[BedSound]:
    """Tones, noise and silence."""
    rng = np.random.default_rng(5)
    n = round(DURATION_S * RATE_HZ)
    t = np.arange(n) / RATE_HZ
    white = rng.standard_normal(n)

    def sine(pitch_hz: float) -> NDArray[np.float64]:
        return np.sin(2 * np.pi * pitch_hz * t)

    def saw(pitch_hz: float) -> NDArray[np.float64]:
        return 2 * ((pitch_hz * t) % 1) - 1

    def trapezium(pitch_hz: float) -> NDArray[np.float64]:
        return np.clip(4 * np.abs(saw(pitch_hz)) - 2, -1, 1)

    def coloured(power: float, low_hz: float = 20.0, high_hz: float = 8_000.0) -> NDArray[np.float64]:
        """Noise whose spectrum falls with frequency to a power, between two frequencies."""
        frequency = np.fft.rfftfreq(n, 1 / RATE_HZ)
        inside = (frequency >= low_hz) & (frequency <= high_hz)
        shape = np.where(inside, np.maximum(frequency, low_hz) ** -power, 0.0)
        noise = np.fft.irfft(np.fft.rfft(white) * shape, n)
        return np.asarray(noise / np.abs(noise).max())

    sweep = np.sin(2 * np.pi * 50 * DURATION_S / np.log(100) * (100 ** (t / DURATION_S) - 1))
    beeps = sine(1_000) * ((2 * t) % 1 < 0.3)
    dial = sine(697) + sine(1_209)
    steps_hz = 220 * 2 ** (rng.integers(0, 24, 61) / 12)
    tune = np.sin(2 * np.pi * np.cumsum(steps_hz[(2 * t).astype(int)]) / RATE_HZ)
    crackle = white * (rng.random(n) < 0.002)
    chosen: dict[Half, dict[str, dict[str, NDArray[np.float64]]]] = {
        "chooses": {
            "tones": {
                **{f"sine {pitch_hz} Hz": sine(pitch_hz) for pitch_hz in (110, 440, 1_000, 3_000)},
                "square 220 Hz": np.sign(sine(220)),
                "saw 110 Hz": saw(110),
                "major chord": sine(262) + sine(330) + sine(392),
                "sweep": sweep,
                "beeps": beeps,
                "vibrato": np.sin(2 * np.pi * 440 * t + 8 * sine(5.5)),
                "saw 440 Hz": saw(440),
                "triangle 220 Hz": np.abs(saw(220)) - 0.5,
                "trapezium 110 Hz": trapezium(110),
            },
            "noise": {
                "white": white,
                "pink": coloured(0.5),
                "low rumble": coloured(0.0, 30, 200),
                "noise in bursts": white * ((3 * t) % 1 < 0.2),
                "noise below 500 Hz": coloured(0.0, 20, 500),
                "noise below 2 kHz": coloured(0.0, 20, 2_000),
            },
            "silence": {"digital silence": 0 * t, "noise at -80 dBFS": 1e-4 * white},
        },
        "reported": {
            "tones": {
                **{f"sine {pitch_hz} Hz": sine(pitch_hz) for pitch_hz in (60, 262, 2_000, 6_000)},
                "triangle 330 Hz": np.abs(saw(330)) - 0.5,
                "pulse 150 Hz": np.sign(saw(150) - 0.8),
                "saws an octave apart": saw(98) + saw(196),
                "dial tone": dial,
                "random tune of sines": tune,
                "siren": np.sin(2 * np.pi * 700 * t + 600 * sine(0.5)),
                "tremolo": sine(523) * (1 + sine(6)),
                "saw 220 Hz": saw(220),
                "saw 880 Hz": saw(880),
                "triangle 110 Hz": np.abs(saw(110)) - 0.5,
                "trapezium 262 Hz": trapezium(262),
                "trapezium 523 Hz": trapezium(523),
            },
            "noise": {
                "brown": coloured(1.0),
                "band of noise": coloured(0.0, 500, 2_000),
                "crackle": crackle,
                "hum in noise": saw(50) + 0.3 * white,
                "high hiss": coloured(0.0, 4_000),
                "noise below 300 Hz": coloured(0.0, 20, 300),
                "noise below 1 kHz": coloured(0.0, 20, 1_000),
                "noise below 4 kHz": coloured(0.0, 20, 4_000),
            },
            "silence": {"silence with an offset": 0 * t + 1e-5, "noise at -66 dBFS": 5e-4 * white},
        },
    }
    for half, kinds in chosen.items():
        for kind, sounds in kinds.items():
            for name, samples in sounds.items():
                peak = 1.0 if kind == "silence" else 5 * np.abs(samples).max()
                yield BedSound(name, kind, half, (), (samples / peak).astype(np.float32))
