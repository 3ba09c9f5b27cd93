"""Facts about Essentia's published networks: addresses, checksums, terms, and the front end they were trained behind.

The names of Discogs-EffNet's 400 styles stand in its metadata file and nowhere here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from musicgenre.features.mel.specification import MelSpec

SPEC = MelSpec(
    sample_rate_hz=16_000,
    n_fft=512,
    hop_length=256,
    n_mels=96,
    window="symmetric",
    center=True,
    pad_mode="constant",
    scaling="log10_1p",
)
"""Essentia's `TensorflowInputMusiCNN`: MusiCNN's own front end but for the window."""

LEAD_SAMPLES = SPEC.n_fft // 2
TAIL_SAMPLES = LEAD_SAMPLES + SPEC.hop_length - 1
"""Zeros behind a track: Essentia's last frame is the first that is centred on its end or behind it."""

PATCH_FRAMES, PATCH_HOP_FRAMES = 128, 62
SEGMENT_SAMPLES = (PATCH_FRAMES - 1) * SPEC.hop_length + SPEC.n_fft
HOP_SAMPLES = PATCH_HOP_FRAMES * SPEC.hop_length
SHORTEST_SAMPLES = SEGMENT_SAMPLES - LEAD_SAMPLES - TAIL_SAMPLES
"""The shortest sound that fills a patch of Discogs-EffNet."""

MUSICNN_HOP_SAMPLES = 93 * SPEC.hop_length
"""From one patch of MusiCNN (187 frames) to the next, as Essentia's predictor has it."""

EFFNET = "discogs-effnet"
STYLES_WIDTH, EMBEDDING_WIDTH = 400, 1280
MUSICNN = "msd-musicnn"
MUSICNN_WIDTH = 200  # of the dense layer in front of its ReLU
STYLE_MARK = "---"
"""Stands between genre and style in the names of Discogs-EffNet's outputs."""


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A file that Essentia publishes.

    Attributes
    ----------
    name : str
        Its name.
    folder : str
        Where it lies below `ADDRESS`.
    sha256 : str
        Its checksum; empty where none is known here.
    """

    name: str
    folder: str
    sha256: str = ""

    @property
    def url(self) -> str:
        """Its address."""
        return f"{ADDRESS}/{self.folder}/{self.name}"


ADDRESS = "https://essentia.upf.edu/models"

MODEL_FILE = PublishedFile(
    "discogs-effnet-bsdynamic-1.onnx",
    "feature-extractors/discogs-effnet",
    "a280825b334797cf677939db8cd5762c0392aedd0ca6415dbc1cd083f045e43c",
)
METADATA_FILE = PublishedFile(
    "discogs-effnet-bsdynamic-1.json",
    "feature-extractors/discogs-effnet",
    "1e140159496f7f932e4267b478e246bd60fbd526a7a67d3e12684a2978916420",
)

_HEAD_NAME = re.compile(rf"([A-Za-z0-9_]+)-({EFFNET}|{MUSICNN})-[0-9]+")

LICENCE = (
    "CC BY-NC-SA 4.0 (https://creativecommons.org/licenses/by-nc-sa/4.0/) by the pages of the models; CC BY-NC-ND 4.0 "
    "(https://creativecommons.org/licenses/by-nc-nd/4.0/) by the LICENSE file beside them. Both forbid commercial use "
    "and ask to name the authors; the latter forbids to pass on altered copies. Commercial licence on request: Music "
    "Technology Group, Universitat Pompeu Fabra, https://www.upf.edu/web/mtg/contact"
)
EFFNET_CITATION = (
    "Pablo Alonso-Jiménez, Xavier Serra and Dmitry Bogdanov: Music representation learning based on editorial "
    "metadata from Discogs. ISMIR 2022"
)
HEADS_CITATION = (
    "Pablo Alonso-Jiménez, Dmitry Bogdanov, Jordi Pons and Xavier Serra: TensorFlow audio models in Essentia. ICASSP "
    "2020"
)


def head_files(name: str) -> tuple[PublishedFile, PublishedFile] | None:
    """Model and metadata of a published head by its name, as `genre_dortmund-msd-musicnn-1`; None for other names."""
    found = _HEAD_NAME.fullmatch(name)
    if found is None:
        return None
    folder = f"classification-heads/{found[1]}"
    return PublishedFile(f"{name}.onnx", folder), PublishedFile(f"{name}.json", folder)
