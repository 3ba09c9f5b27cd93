"""Published files of VGGish: the network as a PyTorch file, and the PCA of its embedding."""

from __future__ import annotations

from musicgenre._weight_files import WeightFile
from musicgenre.features.published.vggish.files import PCA, PCA_CARD, PCA_READS, READS, WEIGHTS, WEIGHTS_CARD
from musicgenre.models.cards import WeightCard

_CITATION = "Hershey et al., CNN architectures for large-scale audio classification, 2017"


def _card(name: str, published: WeightFile, reads: str, classes: int, origin: str) -> WeightCard:
    return WeightCard(
        name=name,
        model="vggish",
        file=published.file,
        url=published.url,
        sha256=published.sha256,
        reads=reads,
        sample_rate_hz=16_000,
        window_s=0.975,
        classes=classes,
        licence="Apache-2.0, that of the code it was published with",
        origin=origin,
        citation=_CITATION,
    )


CARDS = (
    _card(
        WEIGHTS_CARD,
        WEIGHTS,
        READS,
        0,
        "a preliminary YouTube-8M, by Google (vggish_model.ckpt); made a PyTorch file by H. Taylor (torchvggish)",
    ),
    _card(
        PCA_CARD,
        PCA,
        PCA_READS,
        0,
        "fitted by Google; AudioSet's embeddings were released after it",
    ),
)
