"""Make a small labelled collection whose genres can be told apart: tones of different pitch in noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from musicgenre.data.manifest import Manifest, Track, read_manifest, write_manifest

LABELS = ("classical", "jazz", "metal")
RATE_HZ = 22_050
_PITCH_HZ = {"classical": 300.0, "jazz": 1_200.0, "metal": 4_000.0}


def make_collection(folder: Path, *, tracks_a_label: int = 6, duration_s: float = 3.0) -> Path:
    """Write WAV files and return the path of their manifest, without a split."""
    rng = np.random.default_rng(11)
    tracks = []
    for label in LABELS:
        for number in range(tracks_a_label):
            time_s = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
            tone = np.sin(2 * np.pi * _PITCH_HZ[label] * rng.uniform(0.9, 1.1) * time_s + rng.uniform(0, 6))
            sound = 0.4 * tone + 0.05 * rng.standard_normal(len(time_s))
            path = folder / label / f"{label}.{number:05d}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, sound.astype(np.float32), RATE_HZ, subtype="PCM_16")
            tracks.append(Track(path.stem, path, label))
    write_manifest(Manifest(None, tuple(tracks)), folder / "music.csv")
    return folder / "music.csv"


def make_table(path: Path, names: tuple[str, ...], *, tracks_a_label: int = 12) -> Manifest:
    """Write a manifest whose columns hold made-up features; the labels differ in their means."""
    rng = np.random.default_rng(12)
    centres = {label: rng.normal(size=len(names)) for label in LABELS}
    tracks = []
    for label in LABELS:
        for number in range(tracks_a_label):
            values = centres[label] + rng.normal(scale=0.8, size=len(names))
            columns = {name: f"{value:.6f}" for name, value in zip(names, values, strict=True)}
            tracks.append(Track(f"{label}.{number:05d}", path, label, columns=columns))
    write_manifest(Manifest(None, tuple(tracks)), path)
    return read_manifest(path)


TAGS = ("bright", "dark", "loud")


def make_tagged(folder: Path, *, n_tracks: int = 18, duration_s: float = 3.0) -> Path:
    """Write WAV files whose tags can be heard, two at a time or none, and return the path of their manifest."""
    rng = np.random.default_rng(13)
    tracks = []
    for number in range(n_tracks):
        tags = tuple(tag for place, tag in enumerate(TAGS) if number >> place & 1)
        time_s = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
        sound = 0.01 * rng.standard_normal(len(time_s))
        for tag, pitch_hz in (("bright", 4_000.0), ("dark", 200.0)):
            if tag in tags:
                sound += 0.1 * np.sin(2 * np.pi * pitch_hz * rng.uniform(0.9, 1.1) * time_s)
        path = folder / "tagged" / f"track{number:02d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        sound *= 4.0 if "loud" in tags else 1.0
        soundfile.write(path, sound.astype(np.float32), RATE_HZ, subtype="PCM_16")
        columns = {"unknown": "loud"} if number % 5 == 3 and "loud" not in tags else {}
        tracks.append(Track(path.stem, path, "", tags, columns=columns))
    write_manifest(Manifest(None, tuple(tracks)), folder / "tagged.csv")
    return folder / "tagged.csv"


def make_tag_table(path: Path, names: tuple[str, ...], *, n_tracks: int = 60) -> Manifest:
    """Write a manifest of tags with made-up features that tell the tags; some values are unknown."""
    rng = np.random.default_rng(14)
    directions = rng.normal(size=(len(TAGS), len(names)))
    tracks = []
    for number in range(n_tracks):
        present = rng.random(len(TAGS)) < (0.5, 0.35, 0.25)
        values = present @ directions + rng.normal(scale=0.5, size=len(names))
        columns = {name: f"{value:.6f}" for name, value in zip(names, values, strict=True)}
        tags = tuple(tag for tag, is_there in zip(TAGS, present, strict=True) if is_there)
        hidden = TAGS[number % 3]
        columns["unknown"] = hidden if number % 5 == 0 and hidden not in tags else ""
        for tag, is_there in zip(TAGS, present, strict=True):
            columns[f"target:{tag}"] = f"{0.1 + 0.6 * is_there + 0.1 * rng.random():.4f}"
        tracks.append(Track(f"track{number:03d}", path, "", tags, columns=columns))
    write_manifest(Manifest(None, tuple(tracks)), path)
    return read_manifest(path)
