"""What MusiCNN heard of GTZAN: published tags of 733 tracks, and our own hearing of the 100 of gtzan-mini."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from musicgenre import audio
from musicgenre.bundle.load import Bundle
from musicgenre.bundle.store import get_default
from musicgenre.listening.framing import Framing

GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
DEFAULT_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
# One band under two spellings; the rest is found by comparing the names in joint credits.
SAME_ARTIST = (("earth", "earthwind"),)


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """Tracks with what was heard of them.

    Attributes
    ----------
    track_ids : tuple of str
    genre, group : ndarray of int, shape (n_tracks,)
        Genre number and artist number.
    tags : tuple of ndarray, each of shape (n_segments, 50)
        Tag probabilities of segments that follow each other without a gap.
    """

    track_ids: tuple[str, ...]
    genre: NDArray[np.intp]
    group: NDArray[np.intp]
    tags: tuple[NDArray[np.float64], ...]

    def part(self, chosen: Iterable[bool]) -> Corpus:
        """The chosen tracks."""
        rows = np.flatnonzero(np.fromiter(chosen, dtype=bool))
        ids, tags = (tuple(values[i] for i in rows) for values in (self.track_ids, self.tags))
        return Corpus(ids, self.genre[rows], self.group[rows], tags)

    def __add__(self, other: Corpus) -> Corpus:
        """These tracks, then the others."""
        return Corpus(
            self.track_ids + other.track_ids,
            np.r_[self.genre, other.genre],
            np.r_[self.group, other.group],
            self.tags + other.tags,
        )


def read_filtered(data: Path, first: int = 0, part: Literal["train", "test"] = "train") -> Corpus:
    """The 443 tracks of the training part, or the 290 of the test part, of the fault-filtered split.

    Every third window from `first` on, so that segments follow each other as when we hear.
    """
    with np.load(data / "gtzan-musicnn-tags" / f"{part}_filtered.npz") as arrays:
        windows, genre, names = arrays["X"].astype(np.float64), arrays["Y"], arrays["IDS"]
    ids = np.array([Path(str(name)).stem for name in names])
    order = list(dict.fromkeys(ids.tolist()))
    groups = artist_groups(data)
    return Corpus(
        tuple(order),
        np.array([genre[ids == track][0] for track in order], dtype=np.intp),
        np.array([groups[track] for track in order], dtype=np.intp),
        tuple(windows[ids == track][first::3] for track in order),
    )


def hear_mini(
    data: Path, level: audio.Level | None = None, bundle: Bundle | None = None
) -> tuple[Corpus, tuple[NDArray[np.float32], ...]]:
    """The 100 tracks of gtzan-mini as a bundle hears them, every segment; as they are, or at a level.

    The default bundle, unless another is given. With them the embedding of every track, shape (n_segments, width).
    """
    bundle = bundle or get_default()
    card = bundle.card
    framing = Framing(card.sample_rate_hz, card.segment_samples, card.hop_samples, card.lead_samples)
    paths = sorted((data / "gtzan-mini" / "genres").glob("*/*.wav"))
    groups = artist_groups(data)
    tags, embeddings = [], []
    for path in paths:
        waveform = audio.load(path, card.sample_rate_hz).waveform
        if level is not None:
            waveform = level.gain([waveform]).apply(waveform)
        outputs = bundle.run(np.stack([row for _, row in framing.rows([waveform])]))
        tags.append(outputs["tags"].astype(np.float64))
        embeddings.append(outputs["embedding"])
    corpus = Corpus(
        tuple(path.stem for path in paths),
        np.array([GENRES.index(path.parent.name) for path in paths], dtype=np.intp),
        np.array([groups[path.stem] for path in paths], dtype=np.intp),
        tuple(tags),
    )
    return corpus, tuple(embeddings)


def artist_groups(data: Path) -> dict[str, int]:
    """Number of the artist of every GTZAN track.

    Artists who share a credit, and tracks that are the same bytes, are one group; a track of an unknown artist is a
    group of its own.
    """
    with (data / "gtzan-tables" / "artists.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    own = {row["track_id"]: row["artist_group"] or row["track_id"] for row in rows}
    links = [*SAME_ARTIST]
    known = {row["artist_group"] for row in rows if row["artist_group"]}
    for row in rows:
        credited = re.split(r"&|,|/|\band\b", row["artist"], flags=re.IGNORECASE)
        names = {re.sub(r"[^a-z0-9]", "", name.lower()) for name in credited}
        links += [(own[row["track_id"]], name) for name in sorted(names & known)]  # sets have no order of their own
    with (data / "gtzan-tables" / "gtzan_md5.csv").open(encoding="utf-8", newline="") as stream:
        first_with: dict[str, str] = {}
        for track, *_, md5 in csv.reader(stream):
            if track in own:
                links.append((own[track], own[first_with.setdefault(md5, track)]))
    joined = _join(set(own.values()), links)
    numbers = {name: number for number, name in enumerate(sorted(set(joined.values())))}
    return {track: numbers[joined[name]] for track, name in own.items()}


def _join(names: set[str], links: list[tuple[str, str]]) -> dict[str, str]:
    """Name of the set that each name falls into when linked names fall together."""
    parent = {name: name for name in names}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for a, b in links:
        parent[root(a)] = root(b)
    return {name: root(name) for name in names}
