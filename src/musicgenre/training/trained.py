"""Read a finished run back: the network with its best weights and all that stands in front of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from musicgenre._json import parsed_json
from musicgenre.errors import RunError
from musicgenre.models.network import Network
from musicgenre.models.registry import create_to_restore
from musicgenre.runs.folder import RunFolder, read_description
from musicgenre.training.checkpoint import read_safetensors
from musicgenre.training.fit import restore
from musicgenre.training.inputs import Normalise, normalise_from_dict


@dataclass(frozen=True)
class Trained:
    """A trained model.

    Parameters
    ----------
    network : Network
        Normalised arrays in, logits out; in evaluation mode.
    normalise : Normalise
        What stands in front of it.
    labels : tuple of str
        Labels in the order of the logits.
    representation : Mapping
        Settings of the representation; `representation_from_settings` makes it again.
    segment_s, hop_s : float or None
        How tracks were cut.
    pooling : str
        How the segments of a track score together.
    description : Mapping
        Content of `run.json`.
    """

    network: Network
    normalise: Normalise
    labels: tuple[str, ...]
    representation: Mapping[str, Any]
    segment_s: float | None
    hop_s: float | None
    pooling: str
    description: Mapping[str, Any]

    def whole(self) -> nn.Sequential:
        """Representation arrays (batch, *shape) to logits (batch, n_classes), normalisation inside."""
        return nn.Sequential(self.normalise, self.network).eval()


def load_trained(folder: Path) -> Trained:
    """Load the model of a finished run.

    Raises
    ------
    RunError
        If the run is missing, unfinished, damaged or from a newer version.
    """
    described = read_description(folder)
    if described["status"] != "finished":
        raise RunError(
            f"the training in {folder} did not finish (status: {described['status']})",
            next_step="Resume it with 'musicgenre train --resume'",
        )

    run = RunFolder(folder)
    try:
        # published weights are not loaded first: the run's own replace all of them
        model = described["model"]
        shape = tuple(model["input_shape"])
        network = create_to_restore(model["name"], shape, model["n_classes"], model["options"])
        normalise = normalise_from_dict(parsed_json(run.normalisation.read_text(encoding="utf-8")), len(shape))
        arrays, _ = read_safetensors(run.weights)
        restore(network, arrays)

        return Trained(
            network=network.eval(),
            normalise=normalise.eval(),
            labels=tuple(described["labels"]),
            representation=described["representation"],
            segment_s=described["segment_s"],
            hop_s=described["hop_s"],
            pooling=described["scoring"],
            description=described,
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise RunError(f"the run {folder} is damaged ({error})", next_step="Train it again") from error
