"""The default model on sound that its genres do not cover: the half of the test beds that chose nothing.

Free game music is read from where Debian installs it, or from the folder in MUSICGENRE_TEST_MUSIC, where each package
is unpacked in a folder of its name.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from scripts import _reject_beds as beds

from musicgenre import Answer, Classifier

pytestmark = pytest.mark.slow

MOST_ANSWERED = 0.05  # of what is no music
MOST_ANSWERED_OUTSIDE = 0.25  # of music outside the ten genres


@pytest.fixture(scope="module")
def default(default_bundle_cache: Path) -> Classifier:
    return Classifier()


def heard(classifier: Classifier, sounds: list[beds.BedSound]) -> list[Answer]:
    return [
        classifier.classify(sound.source, sample_rate_hz=beds.RATE_HZ)
        if isinstance(sound.source, np.ndarray)
        else classifier.classify(sound.source)
        for sound in sounds
    ]


@pytest.mark.parametrize("half", ["chooses", "reported"])
def test_tones_noise_and_silence_get_no_answer(default: Classifier, half: str) -> None:
    sounds = [sound for sound in beds.synthetic() if sound.half == half]
    sure = [sound.name for sound, answer in zip(sounds, heard(default, sounds), strict=True) if answer.is_sure]
    assert len(sure) <= MOST_ANSWERED * len(sounds), sure


def test_speech_gets_no_answer(default: Classifier) -> None:
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    sounds = [sound for sound in beds.speech() if sound.half == "reported"]
    sure = [sound.name for sound, answer in zip(sounds, heard(default, sounds), strict=True) if answer.is_sure]
    assert len(sounds) == 25
    assert len(sure) <= MOST_ANSWERED * len(sounds), sure


def test_little_music_outside_the_ten_genres_gets_an_answer(default: Classifier) -> None:
    root = Path(os.environ.get("MUSICGENRE_TEST_MUSIC", "/"))
    sounds = [sound for sound in beds.game_music(root) if sound.half == "reported" and not sound.plausible]
    if not sounds:
        packages = ", ".join(package for package, (_, half, _) in beds.GAMES.items() if half == "reported")
        pytest.skip(f"no free game music in {root}: install {packages}, or set MUSICGENRE_TEST_MUSIC")
    sure = [sound.name for sound, answer in zip(sounds, heard(default, sounds), strict=True) if answer.is_sure]
    assert len(sure) <= MOST_ANSWERED_OUTSIDE * len(sounds), sure
