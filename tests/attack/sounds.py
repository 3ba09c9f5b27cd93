"""Sounds: every container damaged, and headers that lie about how long they are."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np

from musicgenre import Classifier, audio
from tests.attack.base import BrokenPromiseError, Target
from tests.attack.lies import DURATION_TAGS, LIES, RATE_HZ, tag_duration, write_true
from tests.attack.mutations import BINARY, Mutation
from tests.sounds import FORMATS, music, rate_of, write
from tests.toy import save_toy

COVERAGES = (18.0, 1.0, "full")
_TRUE_S = 2.0
_WITHIN = 1e-6


class Listener:
    """Hears a file with the toy model, at a coverage that the file's bytes choose."""

    def __init__(self, folder: Path) -> None:
        model = str(save_toy(folder / "toy.onnx"))
        self._classifiers = [Classifier(model, coverage=coverage, threads=1) for coverage in COVERAGES]

    def __call__(self, path: Path) -> None:
        """Hear it.

        Raises
        ------
        BrokenPromiseError
            The answer holds what none may.
        """
        chosen = path.stat().st_size % len(self._classifiers)
        answer = self._classifiers[chosen].classify(path)
        audio.probe(path)
        heard = np.array([*answer.scores.values(), answer.confidence, answer.duration_s or 0.0])
        if not np.isfinite(heard).all() or abs(sum(answer.scores.values()) - 1) > _WITHIN:
            raise BrokenPromiseError(f"the scores are {answer.scores} of {answer.duration_s} s")


def containers(folder: Path) -> list[Target]:
    """A second of music in every container and codec that can be written here."""
    listener = Listener(folder)
    found = []
    for suffix in FORMATS:
        rate_hz = rate_of(suffix)
        content = write(folder / f"sound{suffix}", music(0.6, rate_hz), rate_hz).read_bytes()
        found.append(Target.of_file(suffix, content, suffix, BINARY, listener))
    for suffix in sorted({lie.suffix for lie in LIES.values()} - set(FORMATS)):
        content = write_true(folder / f"sound{suffix}", music(0.6, RATE_HZ, 1)).read_bytes()
        found.append(Target.of_file(suffix, content, suffix, BINARY, listener))
    return found


def liars(folder: Path) -> list[Target]:
    """Whole files whose headers tell another length: none, tiny, near, years, beyond all numbers."""
    listener = Listener(folder)
    found = []
    for kind, lie in LIES.items():
        true = write_true(folder / f"{kind}{lie.suffix}", music(_TRUE_S, RATE_HZ, 1)).read_bytes()
        found.append(Target.of_file(kind, true, lie.suffix, (_telling(lie.tell),), listener))

    tagged = tag_duration(folder / "tagged.mkv", DURATION_TAGS[0]).read_bytes()
    found.append(Target.of_file("duration tag", tagged, ".mkv", (_other_tag,), listener))
    return found


def _telling(tell: Callable[[bytes, float], bytes]) -> Mutation:
    """A mutation that makes a true file lie, and sometimes cuts it as well."""

    def told(content: bytes, chance: random.Random) -> bytes:
        lengths_s = (
            0.0,
            10 ** chance.uniform(-3, 0),
            _TRUE_S * chance.uniform(0.3, 3),
            10 ** chance.uniform(3, 7),
            1e15,
        )
        lying = tell(content, chance.choice(lengths_s))
        return lying[: chance.randrange(len(lying) // 2, len(lying))] if chance.random() < 0.3 else lying

    return told


def _other_tag(content: bytes, chance: random.Random) -> bytes:
    """Write another text into the `DURATION` tag, as long as the one before."""
    odd = chance.choice((*DURATION_TAGS, "9:9:9", "1e400", "\x1b[2J", "00:00:00.000000000", "-00:00:01"))
    length = len(DURATION_TAGS[0])
    return content.replace(DURATION_TAGS[0].encode(), odd[:length].ljust(length, "0").encode())
