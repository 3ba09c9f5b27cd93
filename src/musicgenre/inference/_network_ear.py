"""Ears of `embed` that are no bundles: VGGish and the transformers, as the representations of those names hear."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from musicgenre.errors import BundleError, UsageError
from musicgenre.features.registry import create_representation
from musicgenre.features.segments import segment_samples
from musicgenre.inference.batch import available_cores
from musicgenre.inference.framing import Coverage, Float32, Framing
from musicgenre.inference.hearing import Ear

NETWORKS = {"transformer": ("model",), "vggish": ("weights", "pca")}
"""Representations that embed, with the options that say where their weights lie: checksums say which they are."""

_TOGETHER_S = 60.0  # of sound given to a representation, which makes its own batches of it


def network_ear(
    name: str, options: Mapping[str, Any], coverage: Coverage, threads: int | None
) -> tuple[Ear, dict[str, Any]]:
    """Load a representation and let it hear tracks segment by segment.

    Parameters
    ----------
    name : str
        One of `NETWORKS`.
    options : mapping
        What the representation takes.
    coverage : Coverage
        How much of a track is heard.
    threads : int, optional
        Threads that one inference may use; all cores by default.

    Returns
    -------
    Ear
        Gives ``embedding``; of a track that is heard in full its mean is what ``TrackSound.whole`` gives.
    dict
        ``model``, ``model_sha256``, ``options`` and ``location`` of the embeddings' settings.

    Raises
    ------
    UsageError
        When an option is not valid, or the array of a segment is no vector.
    BundleError
        When the weights cannot be had or do not fit.
    MissingExtraError
        When the extra is not installed.
    """
    made: Any = create_representation(name, **options)
    if len(made.shape()) != 1:
        raise UsageError(
            f"{name} with these options gives an array of shape {made.shape()}",
            valid="One vector a segment",
            next_step=_VECTORS[name],
        )
    made.load()
    piece, hop_s = (made, made.segment_s) if made.segment_s is not None else made.pieces()
    rate_hz = piece.sample_rate_hz
    length, hop = (segment_samples(rate_hz, seconds) for seconds in (piece.segment_s, hop_s))
    n_threads = threads or available_cores()

    def run(rows: Float32) -> dict[str, Float32]:
        return {"embedding": np.stack(piece.compute_many(list(rows), threads=n_threads))}

    framing = Framing(rate_hz, length, hop, repeat_short=False)
    return Ear(framing, coverage, run, rows_at_once=max(1, int(_TOGETHER_S / hop_s))), _described(made)


_VECTORS = {
    "transformer": "Take --set pool=model or pool=mean, and --set layers=last or the number of one layer",
    "vggish": "Take --set output=embedding or output=quantised, and --set pool=mean",
}


def _described(made: Any) -> dict[str, Any]:
    """Tell a representation's settings apart: which weights, where they lie, and all else."""
    options = {key: value for key, value in made.settings().items() if key not in ("name", "weights_sha256")}
    location = {key: _whole(options.pop(key)) for key in NETWORKS[made.name] if key in options}
    return {"model": made.name, "model_sha256": made.weights_sha256, "options": options, "location": location}


def _whole(place: Any) -> Any:
    """Write a file or folder that is here with its whole path, so that `similar` finds it from any folder."""
    is_here = isinstance(place, str) and Path(place).exists()
    return os.path.abspath(place) if is_here else place  # noqa: PTH100 - resolve() would follow links


def no_ears(name: str) -> BundleError:
    """Make the error for a name that is no bundle: what it is, and how it is embedded where it can be."""
    from musicgenre.models.cards import list_cards

    model_of = {card.name: card.model for card in list_cards()}
    kind = model_of.get(name, name if name in model_of.values() else "")
    bundles = [card for card, model in model_of.items() if model == kind]
    if kind == "transformer" or Path(name).is_dir() or ("/" in name and not kind):
        next_step = f"Take a model of the hub or a folder with: --model transformer --set model={name}"
    elif kind == "vggish":
        next_step = "Take it with: --model vggish"
    elif kind.startswith("musicnn"):
        next_step = f"Take it with: --model {' or --model '.join(bundles)}"
    elif kind:
        next_step = f"{kind} sees pictures; it can be trained further (see docs/imagenet.md), not embed sound"
    else:
        near = difflib.get_close_matches(name, [*NETWORKS, *model_of], n=1)
        nearest = f"; the nearest name is {near[0]}" if near else ""
        next_step = f"musicgenre bundles list shows the bundles there are{nearest}"
    return BundleError(
        f"there is no bundle {name!r} to embed with",
        valid="'default', an embedding bundle such as msd-musicnn, vggish or transformer",
        next_step=next_step,
    )
