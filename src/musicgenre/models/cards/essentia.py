"""Published weights of Discogs-EffNet."""

from __future__ import annotations

from musicgenre.features.published.essentia.network import N_BANDS
from musicgenre.features.published.essentia.published import (
    EFFNET,
    EFFNET_CITATION,
    LICENCE,
    MODEL_FILE,
    PATCH_FRAMES,
    SPEC,
    STYLES_WIDTH,
)
from musicgenre.models.cards import WeightCard

CARDS = (
    WeightCard(
        name=EFFNET,
        model=EFFNET,
        file=f"essentia/{MODEL_FILE.name}",
        url=MODEL_FILE.url,
        sha256=MODEL_FILE.sha256,
        reads=f"log-mel patches, {PATCH_FRAMES} frames x {N_BANDS} bands, log10(1 + 10,000 x mel), Essentia's window",
        sample_rate_hz=SPEC.sample_rate_hz,
        window_s=PATCH_FRAMES * SPEC.hop_length / SPEC.sample_rate_hz,
        classes=STYLES_WIDTH,
        licence=LICENCE,
        origin="Music Technology Group, Universitat Pompeu Fabra; trained on tracks of Discogs with its style labels",
        citation=EFFNET_CITATION,
    ),
)
