"""The four published models: names, tags, checksums, terms, and the front end they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from musicgenre.errors import UsageError
from musicgenre.features.mel.specification import MelSpec

Family = Literal["musicnn", "vgg"]

SPEC = MelSpec(
    sample_rate_hz=16_000, n_fft=512, hop_length=256, n_mels=96, center=True, pad_mode="constant", scaling="log10_1p"
)
PATCH_FRAMES = 187
HOP_SAMPLES = PATCH_FRAMES * SPEC.hop_length
SEGMENT_SAMPLES = (PATCH_FRAMES - 1) * SPEC.hop_length + SPEC.n_fft  # a patch and the half windows at its ends
LEAD_SAMPLES = SPEC.n_fft // 2

_WIDTHS: dict[Family, dict[str, int]] = {
    "musicnn": {"embedding": 200, "tags": 50, "mean": 753, "max": 753, "dense": 200},
    "vgg": {"embedding": 256, "tags": 50},
}

_MSD = "Million Song Dataset with Last.fm tags"
_MTT = "MagnaTagATune"
_MSD_TAGS = (
    "rock, pop, alternative, indie, electronic, female vocalists, dance, 00s, alternative rock, jazz, beautiful, "
    "metal, chillout, male vocalists, classic rock, soul, indie rock, Mellow, electronica, 80s, folk, 90s, chill, "
    "instrumental, punk, oldies, blues, hard rock, ambient, acoustic, experimental, female vocalist, guitar, Hip-Hop, "
    "70s, party, country, easy listening, sexy, catchy, funk, electro, heavy metal, Progressive rock, 60s, rnb, "
    "indie pop, sad, House, happy"
)
_MTT_TAGS = (
    "guitar, classical, slow, techno, strings, drums, electronic, rock, fast, piano, ambient, beat, violin, vocal, "
    "synth, female, indian, opera, male, singing, vocals, no vocals, harpsichord, loud, quiet, flute, woman, "
    "male vocal, no vocal, pop, soft, sitar, solo, man, classic, choir, voice, new age, dance, male voice, "
    "female vocal, beats, harp, cello, no voice, weird, country, metal, female voice, choral"
)
CITATION = (
    "Jordi Pons and Xavier Serra: musicnn: pre-trained convolutional neural networks for music audio tagging. "
    "Late-breaking/demo session of ISMIR 2019"
)
LICENCE = (
    "ISC. Copyright (c) Music Technology Group, Universitat Pompeu Fabra 2019. Code developed by Jordi Pons "
    "(www.jordipons.me). Permission to use, copy, modify, and/or distribute this software for any purpose with or "
    "without fee is hereby granted, provided that the above copyright notice and this permission notice appear in all "
    'copies. THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE '
    "INCLUDING ALL IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY "
    "SPECIAL, DIRECT, INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA "
    "OR PROFITS, WHETHER IN AN ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN "
    "CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE."
)


@dataclass(frozen=True, slots=True)
class Published:
    """One published model.

    Attributes
    ----------
    name : str
        Name of the bundle made from it.
    folder : str
        Its folder in the published package.
    family : {"musicnn", "vgg"}
        Its network.
    trained_on : str
        Its training data.
    tag_names : str
        Its 50 tags, separated by commas, in the order of its outputs.
    index_sha256, data_sha256 : str
        Checksums of its checkpoint files.
    """

    name: str
    folder: str
    family: Family
    trained_on: str
    tag_names: str
    index_sha256: str
    data_sha256: str

    @property
    def tags(self) -> tuple[str, ...]:
        """Its 50 tags, in the order of its outputs."""
        return tuple(self.tag_names.split(", "))


PUBLISHED = {
    model.name: model
    for model in (
        Published(
            "msd-musicnn",
            "MSD_musicnn",
            "musicnn",
            _MSD,
            _MSD_TAGS,
            "87f3e0f3550c8d3bafc840374003e5c8af5eeb5ecf6add61af09a7822d3282c8",
            "8579734ee6388f799ed0def4bbd0d1fdcbeaf213ef2a9dc860917bd76a303de6",
        ),
        Published(
            "mtt-musicnn",
            "MTT_musicnn",
            "musicnn",
            _MTT,
            _MTT_TAGS,
            "da2d7bb670b2b31e9bc441bb1bd75eca31b5b061f963cc1f9630c1aff3238f57",
            "041f3935e981a65cea739842d30c188d3a7d2adf4410955c8668eb3de4a5acab",
        ),
        Published(
            "msd-vgg",
            "MSD_vgg",
            "vgg",
            _MSD,
            _MSD_TAGS,
            "50e499238457558bba9f34f8b84d4afb8279afd43520cdf0a4fdf805a49c9ca3",
            "9683d756b8311146534f333502ebf4a2a78a3e320c54ab0411dff6186d8375fc",
        ),
        Published(
            "mtt-vgg",
            "MTT_vgg",
            "vgg",
            _MTT,
            _MTT_TAGS,
            "4b0d3d2d02bbe0919c063c1fb74bfa9018ac3517e362d681b07444d4207a5f5f",
            "458f5c8bcecc086a3bba3dce83809df6da6e0a3560a59ddd84711bf3d5fd8303",
        ),
    )
}


def outputs_of(family: Family) -> tuple[str, ...]:
    """Names of what a network can be asked for."""
    return tuple(_WIDTHS[family])


def output_width(family: Family, output: str) -> int:
    """Width of one output, for one patch."""
    return _WIDTHS[family][output]


def published(name: str) -> Published:
    """Look a published model up by its bundle's name."""
    if name not in PUBLISHED:
        raise UsageError(f"no published model is called {name!r}", valid=f"One of {', '.join(PUBLISHED)}")
    return PUBLISHED[name]
