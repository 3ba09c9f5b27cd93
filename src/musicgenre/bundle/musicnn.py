"""The published MusiCNN and VGG taggers (musicnn 0.1.0, Jordi Pons) as bundles.

Facts about the networks stand in docs/bundles.md; a float64 NumPy reference of them is tests/musicnn_reference.py.
"""

from __future__ import annotations

from musicgenre.bundle.card import BundleCard
from musicgenre.features.published.musicnn.graph import Read, patch_graph
from musicgenre.features.published.musicnn.published import (
    CITATION,
    HOP_SAMPLES,
    LEAD_SAMPLES,
    LICENCE,
    SEGMENT_SAMPLES,
    SPEC,
    Published,
)


def convert(model: Published, read: Read) -> tuple[bytes, BundleCard]:
    """Turn the published variables into an ONNX model and its card.

    Parameters
    ----------
    model : Published
        Which one it is.
    read : callable
        Gives its variables by name.

    Returns
    -------
    bytes, BundleCard
        What `musicgenre.bundle.save_bundle` takes.
    """
    card = BundleCard(
        name=model.name,
        kind="embedding",
        labels=model.tags,
        tags=model.tags,
        activation="sigmoid",
        sample_rate_hz=SPEC.sample_rate_hz,
        segment_samples=SEGMENT_SAMPLES,
        hop_samples=HOP_SAMPLES,
        lead_samples=LEAD_SAMPLES,
        licence=LICENCE,
        citation=CITATION,
        origin=f"musicnn 0.1.0 on the Python Package Index, {model.folder}; trained on: {model.trained_on}",
        front_end=SPEC.as_dict(),
        source_sha256={".index": model.index_sha256, ".data-00000-of-00001": model.data_sha256},
        notes="Converted from the published weights; tags agree with them within 1e-4.",
    )
    return patch_graph(model.family, read), card
