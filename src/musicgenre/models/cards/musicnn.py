"""Published weights of MusiCNN and its VGG tagger: one wheel holds all four."""

from __future__ import annotations

from musicgenre.features.published.musicnn.published import CITATION, LICENCE, PATCH_FRAMES, PUBLISHED, SPEC, Published
from musicgenre.features.published.musicnn.weights import WHEEL_NAME
from musicgenre.models.cards import WeightCard


def _card(model: Published) -> WeightCard:
    return WeightCard(
        name=model.name,
        model="musicnn" if model.family == "musicnn" else "musicnn-vgg",
        file=f"musicnn/{model.folder}/.data-00000-of-00001 in {WHEEL_NAME}",
        url="https://github.com/jordipons/musicnn",
        sha256=model.data_sha256,
        reads=f"log-mel patches, {SPEC.n_mels} bands x {PATCH_FRAMES} frames, log10(1 + 10,000 x mel)",
        sample_rate_hz=SPEC.sample_rate_hz,
        window_s=3.0,
        classes=len(model.tags),
        licence=LICENCE,
        origin=f"Jordi Pons, musicnn 0.1.0, trained on: {model.trained_on}",
        citation=CITATION,
    )


CARDS = tuple(_card(model) for model in PUBLISHED.values())
