"""Fit where music lies in the embedding of MSD MusiCNN, for `musicgenre.models.at_large`.

Run: python scripts/fit_music_at_large.py [DATA]      DATA defaults to ../shared/data

The published tag probabilities of GTZAN's fault-filtered split are the music; tracks of artists who are in gtzan-mini
stay out, so that heads taught on gtzan-mini can be measured. Log-odds of the tags are linear in the embedding (the
network's last layer), which gtzan-mini, where we hear both, tells without error: so what is found among the tags is
written down for the embedding. Of the covariance within the genres a share is replaced by a multiple of the
identity, chosen on the half of the test beds that may choose.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from _gtzan_heard import DEFAULT_DATA, GENRES, hear_mini, read_filtered
from musicgenre._files import write_text_atomic
from musicgenre._numbers import log_odds
from train_genre_head import LEVEL, resampler_shift

SHRINKAGE = 0.3
SMALLEST = 1e-7  # probability: nothing is cut off, for what is cut off is not linear
PLACE = Path(__file__).resolve().parents[1] / "src" / "musicgenre" / "models" / "music_at_large.json"


def main() -> None:
    """Fit and write."""
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_DATA
    published = read_filtered(data) + read_filtered(data, part="test")
    mini, (levelled, embeddings) = hear_mini(data)[0], hear_mini(data, LEVEL)
    shift = resampler_shift(published, mini.part(np.isin(mini.track_ids, published.track_ids)))
    corpus = published.part(~np.isin(published.group, mini.group))
    print(f"{len(corpus.track_ids)} tracks of {len(np.unique(corpus.group))} artists")

    # The tags, standardised; then in units of what is usual within a genre.
    features = np.stack([log_odds(tags, smallest=SMALLEST).mean(axis=0) + shift for tags in corpus.tags])
    centre, scale = features.mean(axis=0), features.std(axis=0)
    standard = (features - centre) / scale
    centres = np.stack([standard[corpus.genre == genre].mean(axis=0) for genre in range(len(GENRES))])
    within = np.cov((standard - centres[corpus.genre]).T)
    width = len(within)
    within = (1 - SHRINKAGE) * within + SHRINKAGE * np.trace(within) / width * np.eye(width)
    values, vectors = np.linalg.eigh(within)
    white = vectors / np.sqrt(values)

    # The last layer of the network: from the embedding to the log-odds.
    heard = np.concatenate(embeddings).astype(np.float64)
    said = log_odds(np.concatenate(levelled.tags), smallest=SMALLEST)
    layer = np.linalg.lstsq(np.c_[heard, np.ones(len(heard))], said, rcond=None)[0]
    print(f"the last layer is found to {np.abs(np.c_[heard, np.ones(len(heard))] @ layer - said).max():.3f} log-odds")
    axes = layer[:-1] / scale @ white
    offset = (layer[-1] - centre) / scale @ white

    lines = ["  " + json.dumps([float(f"{value:.4g}") for value in row]) for row in axes]
    told = json.dumps([float(f"{value:.4g}") for value in offset])
    about = json.dumps(
        f"{len(corpus.track_ids)} tracks of GTZAN by {len(np.unique(corpus.group))} artists, none of them in"
        " gtzan-mini; tag probabilities published with sklearn-audio-transfer-learning (ISC, Jordi Pons)"
    )
    text = f'{{\n"data": {about},\n"network": "msd-musicnn",\n"offset": {told},\n"axes": [\n'
    write_text_atomic(PLACE, text + ",\n".join(lines) + "\n]\n}\n")
    print(f"wrote {PLACE.name}: {PLACE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
